"""What a folder holds that a report can show: searches, profile stores, latency models, evaluations, a verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blsm import bundle
from blsm.errors import BlsmError, FileError
from blsm.latency_model import LatencyModel
from blsm.searches import FinishedSearch, read_search, search_folders

#: Of the folders and files of one kind, the first few are shown; a page with hundreds of them helps nobody.
_MOST = 8


@dataclass
class Contents:
    """What was found.

    Attributes:
        folder: where.
        searches: `hil` and `sm`, as far as there are.
        stores: profile stores.
        models: path within the folder -> latency model.
        network: the best network, a model file; None where there is none.
        evaluations: path within the folder -> what `blsm evaluate --json` wrote.
        verdict: what `blsm feasibility --json` or `blsm compare` wrote; empty where nothing.
        notes: what can't be shown, and why; a sentence each.
    """

    folder: Path
    searches: dict[str, FinishedSearch] = field(default_factory=dict)
    stores: list[Path] = field(default_factory=list)
    models: dict[str, LatencyModel] = field(default_factory=dict)
    network: Path | None = None
    evaluations: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.searches or self.stores or self.models or self.evaluations)


def read_contents(folder: Path) -> Contents:
    """Looks through a folder and everything below it, hidden folders aside; what is damaged becomes a note.

    Raises:
        FileError: there is no such folder, or nothing in it can be shown.
    """
    if not folder.is_dir():
        raise FileError(f"no folder {folder}: give the folder of a search, a comparison, or of profiles and models")
    contents = Contents(folder)
    _read_searches(contents)
    for path in _files(contents, "*.db"):
        contents.stores.append(path)
    for path in _files(contents, "*.blsm"):
        try:
            contents.models[str(path.relative_to(folder))] = bundle.load(path)
        except BlsmError as error:
            contents.notes.append(str(error))
    # The best one of a search, if there is one, before others.
    contents.network = min(_files(contents, "*.keras"), key=lambda path: "best" not in path.name, default=None)
    for path in _files(contents, "*.json"):
        _read_json(contents, path)
    if contents.empty:
        because = f" ({'; '.join(contents.notes)})" if contents.notes else ""
        raise FileError(
            f"{folder} holds nothing to report on{because}: no search, no profile store (.db), no latency model "
            "(.blsm), no evaluation (`blsm evaluate --json`)"
        )
    return contents


def _read_searches(contents: Contents) -> None:
    for path in search_folders(contents.folder):
        try:
            search = read_search(path)
        except BlsmError as error:
            contents.notes.append(str(error))
            continue
        role = "hil" if search.measured else "sm"
        if not search.trials:
            contents.notes.append(f"The search in {path} has no completed trial.")
        elif role in contents.searches:
            contents.notes.append(f"{path} is another search of the kind that {contents.searches[role].name} is.")
        else:
            contents.searches[role] = search


def _read_json(contents: Contents, path: Path) -> None:
    """Keeps evaluations and verdicts; other JSON is none of our business."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return
    if not isinstance(data, dict):
        return
    evaluation = data.get("evaluation", data)
    if isinstance(evaluation, dict) and {"device", "dispatch_ms", "figures"} <= set(evaluation):
        contents.evaluations[str(path.relative_to(contents.folder))] = evaluation
    elif {"hnq", "w_overall", "w_optimal"} <= set(data):
        contents.verdict = data


def _files(contents: Contents, pattern: str) -> list[Path]:
    found = [path for path in sorted(contents.folder.rglob(pattern)) if path.is_file()]
    found = [path for path in found if not any(part[0] == "." for part in path.relative_to(contents.folder).parts)]
    if len(found) > _MOST and pattern != "*.json":
        contents.notes.append(f"Of {len(found)} files {pattern} the first {_MOST} are shown.")
        return found[:_MOST]
    return found

"""Finished searches: their trials with accuracy, latency and HA-score, read from KerasTuner's project folders."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from blsm.errors import FileError
from blsm.estimates import estimate_from_json
from blsm.latency_model import LatencyEstimate

#: What KerasTuner calls the file of the oracle's state.
_ORACLE = "oracle.json"
#: What a `LatencyOracle` writes beside a trial whose latency it knows block by block.
BLOCKS = "blocks.json"
#: The newest state of a `LatencyOracle` that is understood here.
_SCHEMA = 1


@dataclass(frozen=True)
class SearchTrial:
    """A completed trial.

    Attributes:
        accuracy: 0 to 1.
        latency_ms: as the search saw it: measured or predicted, milliseconds.
        score: the HA-score, see `blsm.score.balanced_score`.
        setting: its hyperparameters as JSON text, equal for equal settings; empty where unknown.
        name: KerasTuner's name of the trial; empty where unknown.
        low_ms: lower end of the latency's interval; None where unknown.
        high_ms: upper end of it.
    """

    accuracy: float
    latency_ms: float
    score: float
    setting: str = ""
    name: str = ""
    low_ms: float | None = None
    high_ms: float | None = None

    @classmethod
    def from_state(cls, state: Mapping[str, Any], accuracy: str = "val_accuracy") -> Self | None:
        """The trial of what KerasTuner saves of it (`Trial.get_state()`).

        Args:
            state: of the trial.
            accuracy: name of the metric.

        Returns:
            None unless the trial was completed and has accuracy, latency and score.
        """
        reached, latency_ms, score = (_last(state, name) for name in (accuracy, "latency_ms", "bals"))
        if state["status"] != "COMPLETED" or not math.isfinite(reached + latency_ms + score):
            return None
        low_ms, high_ms = (_last(state, name) for name in ("latency_low_ms", "latency_high_ms"))
        known = math.isfinite(low_ms) and math.isfinite(high_ms)
        return cls(
            reached,
            latency_ms,
            score,
            json.dumps(state["hyperparameters"]["values"], sort_keys=True),
            str(state["trial_id"]),
            low_ms if known else None,
            high_ms if known else None,
        )


@dataclass(frozen=True)
class FinishedSearch:
    """What a search found.

    Attributes:
        name: for messages: its folder, or HIL or SM.
        trials: the completed ones, in the order in which they ended.
        failed: trials that ended without accuracy, latency or score.
        measured: whether its latencies were measured (HIL) or predicted (SM).
        device: what the latencies are of; empty where unknown.
        space: its hyperparameters, name -> KerasTuner's description; empty where unknown.
        reference_accuracy: of the HA-scores; None where unknown.
        reference_latency_ms: of the HA-scores, milliseconds; None where unknown.
        folder: KerasTuner's project folder; None where unknown.
    """

    name: str
    trials: tuple[SearchTrial, ...]
    failed: int = 0
    measured: bool = False
    device: str = ""
    space: Mapping[str, Any] = field(default_factory=dict, compare=False)
    reference_accuracy: float | None = None
    reference_latency_ms: float | None = None
    folder: Path | None = None

    @property
    def best(self) -> SearchTrial:
        """The trial with the highest HA-score."""
        return max(self.trials, key=lambda trial: trial.score)

    def estimate(self, trial: SearchTrial) -> LatencyEstimate | None:
        """What the surrogate said of a trial's network, block by block; None where nobody kept it.

        Raises:
            FileError: what was kept is damaged.
        """
        path = None if self.folder is None else self.folder / f"trial_{trial.name}" / BLOCKS
        if path is None or not path.exists():
            return None
        try:
            return estimate_from_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"{path} is damaged: {type(error).__name__}: {error}") from None


#: A search, its folder, or its trials: a list of `SearchTrial` or of KerasTuner's.
AnySearch = FinishedSearch | str | Path | list[Any] | tuple[Any, ...]


def as_search(search: AnySearch, name: str) -> FinishedSearch:
    """A search as it is, read from its project folder, or made of its trials.

    Raises:
        FileError: the folder is no search.
    """
    if isinstance(search, FinishedSearch):
        return search
    if isinstance(search, str | Path):
        return read_search(search)
    trials = [
        trial if isinstance(trial, SearchTrial) else SearchTrial.from_state(trial.get_state()) for trial in search
    ]
    return FinishedSearch(name, tuple(trial for trial in trials if trial is not None), trials.count(None))


def read_search(folder: str | Path) -> FinishedSearch:
    """Reads a search from its folder: KerasTuner's project folder, or one that holds a single such folder.

    Raises:
        FileError: it is none, holds several, is damaged, or was not searched with a `LatencyOracle`.
    """
    folder = Path(folder)
    projects = search_folders(folder)
    if len(projects) != 1:
        held = f"it holds {len(projects)}: {', '.join(map(str, projects[:4]))}" if projects else f"no {_ORACLE} in it"
        raise FileError(f"{folder} is not the folder of a search ({held}): give the folder that `blsm search` wrote")
    project = projects[0]
    try:
        state = json.loads((project / _ORACLE).read_text())
        trials = [json.loads(path.read_text()) for path in sorted(project.glob("trial_*/trial.json"))]
        return _search(folder, project, state, trials)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"the search in {project} is damaged: {type(error).__name__}: {error}") from None


def search_folders(folder: Path) -> list[Path]:
    """KerasTuner's project folders in a folder, itself included."""
    return sorted(path.parent for path in folder.rglob(_ORACLE))


def _search(
    folder: Path, project: Path, state: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]
) -> FinishedSearch:
    own = state.get("blsm")
    if own is None:
        raise FileError(f"{folder} was not searched with a LatencyOracle: its trials have no latency")
    if own["schema"] > _SCHEMA:
        raise FileError(f"{folder} was searched with a newer blsm (schema {own['schema']}): upgrade blsm")
    settings = own["settings"]
    order = {name: number for number, name in enumerate(state["end_order"])}
    ended = sorted(
        (trial for trial in trials if trial["trial_id"] in order), key=lambda trial: order[trial["trial_id"]]
    )
    completed = [SearchTrial.from_state(trial, settings["accuracy"]) for trial in ended]
    return FinishedSearch(
        str(folder),
        tuple(trial for trial in completed if trial is not None),
        completed.count(None),
        settings["source"] == "HardwareInTheLoop",
        settings["device"],
        {part["config"]["name"]: part["config"] for part in state["hyperparameters"]["space"]},
        settings["reference_accuracy"],
        own["reference_latency_ms"],
        project,
    )


def _last(state: Mapping[str, Any], name: str) -> float:
    """The last value of a metric, the mean where a setting was trained several times; NaN where there is none."""
    metric = state["metrics"]["metrics"].get(name)
    if not metric or not metric["observations"]:
        return math.nan
    values = max(metric["observations"], key=lambda observation: observation["step"])["value"]
    return float("nan" if None in values else sum(values) / len(values))

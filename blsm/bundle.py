"""Latency model bundles, `*.blsm`: a zip of a JSON manifest and the regressors' files. Data only, never code."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blsm._version import __version__
from blsm.additivity import Additivity
from blsm.blocks import block_family
from blsm.calibration import Calibration
from blsm.domains import Space, domain_from_json
from blsm.errors import BlsmError, BundleError, FitError
from blsm.files import write_atomically
from blsm.intervals import normal_scores
from blsm.latency_model import BlockSurrogate, LatencyModel
from blsm.profiles import Fingerprint
from blsm.surrogates import regressor_class
from blsm.surrogates.cold import ColdSurrogate
from blsm.surrogates.joined import JoinedSurrogate

FORMAT = "blsm latency model"
SCHEMA = 9
_MANIFEST = "manifest.json"
_FITTED = "fitted.json"
_SCORES = "scores.json"
#: Folders of the files of surrogates that are no block's alone.
_JOINED, _COLD = "joined", "cold"
#: What schema 5 made of the cycles of arrays, which are counted otherwise now.
_FORMER_CYCLES = re.compile(rb"array\.(cycles|compute|tensors|weights)_u\d\d_")
#: Nothing in a bundle is larger: a zip can claim to hold any amount.
_LARGEST_MEMBER = 256 << 20


def save(model: LatencyModel, path: str | Path) -> None:
    """Writes a latency model as a bundle, atomically.

    Raises:
        BundleError: the file can't be written; an older bundle of this name is left as it was.
    """
    members: dict[str, bytes] = {}
    surrogates: dict[str, Any] = {}
    for family, surrogate in model.surrogates.items():
        files = {
            **surrogate.regressor.to_files(),
            _FITTED: json.dumps(sorted(surrogate.fitted)).encode(),
            _SCORES: json.dumps(surrogate.scores).encode(),
        }
        members |= {f"{family}/{name}": content for name, content in files.items()}
        surrogates[family] = {
            "regressor": surrogate.regressor.name,
            "files": list(files),
            "parameters": list(block_family(family).parameters),
            "domain": {name: domain.to_json() for name, domain in surrogate.domain.items()},
            "metrics": dict(surrogate.metrics),
        }
    joined = {family: surrogate.to_files() for family, surrogate in model.joined.items()}
    cold = {family: surrogate.to_files() for family, surrogate in model.cold.items()}
    for folder, of_families in ((_JOINED, joined), (_COLD, cold)):
        for family, files in of_families.items():
            members |= {f"{folder}/{family}/{name}": content for name, content in files.items()}
    manifest = {
        "format": FORMAT,
        "schema": SCHEMA,
        "blsm_version": __version__,
        "device": model.device,
        "fingerprint": model.fingerprint.to_json(),
        "dispatch_ms": model.dispatch_ms,
        "network_scores": list(model.network_scores),
        "joined": {family: list(files) for family, files in joined.items()},
        "cold": {family: list(files) for family, files in cold.items()},
        "additivity": model.additivity.to_json() if model.additivity is not None else None,
        "calibration": model.calibration.to_json() if model.calibration is not None else None,
        "surrogates": surrogates,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {_MANIFEST: json.dumps(manifest, indent=1).encode(), **members}.items():
            # A fixed time: the same model gives the same bytes.
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    write_atomically(Path(path), buffer.getvalue(), BundleError)


def load(path: str | Path) -> LatencyModel:
    """Reads a bundle. Executes nothing from it.

    Raises:
        BundleError: the file is missing, empty, truncated, damaged, no bundle, or of a newer schema; or it needs a
            block family or regressor that is not installed.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(_member(archive, path, _MANIFEST))
            _check_schema(manifest, path)
            checksums = manifest["sha256"]
            members = {name: _member(archive, path, name, checksums[name]) for name in checksums}
        for upgrade in _UPGRADES[manifest["schema"] - 1 :]:
            upgrade(manifest, members)
        return _model(manifest, members, path)
    except FileNotFoundError:
        raise BundleError(f"no latency model at {path}: make one with `blsm fit -o {path}`") from None
    except BundleError:
        raise
    except zipfile.BadZipFile:
        size = path.stat().st_size
        what = "it is empty" if size == 0 else "it is truncated or no blsm bundle"
        raise BundleError(f"cannot read {path}: {what}") from None
    except BlsmError as error:
        raise BundleError(f"cannot read {path}: {error}") from None
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"cannot read {path}: it is damaged ({type(error).__name__}: {error})") from None


def _member(archive: zipfile.ZipFile, path: Path, name: str, sha256: str | None = None) -> bytes:
    try:
        if archive.getinfo(name).file_size > _LARGEST_MEMBER:
            raise BundleError(f"cannot read {path}: {name} is larger than any member of a bundle")
        content = archive.read(name)
    except KeyError:
        what = "it is no blsm bundle" if name == _MANIFEST else f"it is damaged ({name} is missing)"
        raise BundleError(f"cannot read {path}: {what}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise BundleError(f"cannot read {path}: it is damaged ({error})") from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"cannot read {path}: it is damaged (checksum of {name})")
    return content


def _check_schema(manifest: Any, path: Path) -> None:
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"cannot read {path}: it is no blsm bundle")
    schema = manifest.get("schema")
    if not isinstance(schema, int) or schema < 1:
        raise BundleError(f"cannot read {path}: it is damaged (no schema number)")
    if schema > SCHEMA:
        raise BundleError(
            f"{path} has schema {schema} (written by blsm {manifest.get('blsm_version')}), this blsm reads up to "
            f"{SCHEMA}: upgrade blsm (pip install -U blsm)"
        )


def _from_schema_1(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """Schema 1 kept the deviation of the test split, not its scores; its plain trees always saw the config vector."""
    manifest |= {"network_scores": [], "additivity": None, "calibration": None}
    for family, data in manifest["surrogates"].items():
        scores = normal_scores(float(data["deviation"]), int(data["metrics"]["count"]))
        files: dict[str, Any] = {_SCORES: scores}
        if data["regressor"] == "plain_boosted_trees":
            files["inputs.json"] = {"features": "vector", "terms": [], "hints": []}
        members.update({f"{family}/{name}": json.dumps(content).encode() for name, content in files.items()})
        data["files"] += files


def _from_schema_2(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """Schema 2 knew no joined blocks: its sums of blocks that were timed in chains stay what they were."""
    manifest["joined"] = {}


def _from_schema_3(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """Schema 3 knew constants only in the leaves of trees, which trees without `lines.json` still have."""


def _from_schema_4(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """Schema 4 knew one kind of trees in a joined surrogate, not the mean of several."""
    for family, names in manifest["joined"].items():
        start = f"{_JOINED}/{family}/"
        data = json.loads(members[f"{start}joined.json"])
        members[f"{start}joined.json"] = json.dumps(data | {"corrects_isolated": [data["corrects_isolated"]]}).encode()
        trees = [name for name in names if name != "joined.json"]
        members |= {f"{start}trees_0.{name}": members[start + name] for name in trees}
        manifest["joined"][family] = ["joined.json", *(f"trees_0.{name}" for name in trees)]


def _from_schema_5(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """Schema 5 knew other cycles of arrays; surrogates that do without them are the same."""
    if any(_FORMER_CYCLES.search(content) for content in members.values()):
        raise FitError("it was fitted on cycles of NPUs that this blsm counts otherwise: fit it again")


def _from_schema_6(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """Schema 6 knew no cold caches: networks of any length were corrected alike."""
    if manifest["calibration"] is not None:
        manifest["calibration"]["cold"] = 0.0


def _from_schema_7(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """Schema 7 knew no blocks timed with cold caches, and counted otherwise what calibration told of such caches."""
    if (manifest["calibration"] or {}).get("cold"):
        raise FitError("its calibration counts cold caches otherwise than this blsm: fit and calibrate it again")
    manifest["cold"] = {}
    for sums in (manifest["additivity"] or {}).values():
        sums["cold"] = None


def _from_schema_8(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    """Schema 8 did not correct sums by what those of measured blocks lack."""
    for sums in (manifest["additivity"] or {}).values():
        sums["factor"] = 1.0


#: The first makes schema 2 of schema 1, and so on: each changes a manifest and its members in place.
_UPGRADES: tuple[Callable[[dict[str, Any], dict[str, bytes]], None], ...] = (
    _from_schema_1,
    _from_schema_2,
    _from_schema_3,
    _from_schema_4,
    _from_schema_5,
    _from_schema_6,
    _from_schema_7,
    _from_schema_8,
)


def _model(manifest: dict[str, Any], members: dict[str, bytes], path: Path) -> LatencyModel:
    surrogates = {}
    for family, data in manifest["surrogates"].items():
        parameters = list(block_family(family).parameters)
        if data["parameters"] != parameters:
            raise BundleError(
                f"{path} was fitted on another {family} than the installed one: its parameters are "
                f"{', '.join(data['parameters'])}, here {', '.join(parameters)}"
            )
        domain: Space = {name: domain_from_json(value) for name, value in data["domain"].items()}
        files = {name: members[f"{family}/{name}"] for name in data["files"]}
        surrogates[family] = BlockSurrogate(
            regressor_class(data["regressor"]).from_files(files),
            {name: domain[name] for name in parameters},
            tuple(map(float, json.loads(files[_SCORES]))),
            dict(data["metrics"]),
            frozenset(map(str, json.loads(files[_FITTED]))),
        )
    additivity, calibration = manifest["additivity"], manifest["calibration"]
    return LatencyModel(
        str(manifest["device"]),
        Fingerprint.from_json(manifest["fingerprint"]),
        surrogates,
        float(manifest["dispatch_ms"]),
        tuple(map(float, manifest["network_scores"])),
        {
            family: JoinedSurrogate.from_files({name: members[f"{_JOINED}/{family}/{name}"] for name in names})
            for family, names in manifest["joined"].items()
        },
        {
            family: ColdSurrogate.from_files({name: members[f"{_COLD}/{family}/{name}"] for name in names})
            for family, names in manifest["cold"].items()
        },
        None if additivity is None else Additivity.from_json(additivity),
        None if calibration is None else Calibration.from_json(calibration),
    )

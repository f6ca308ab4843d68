"""blsm: block-level surrogate latency models for hardware-aware neural architecture search."""

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

# In a checkout, blsm.profiling and blsm.hypermodels lie beside this folder; an installed copy supplies them.
__path__ = extend_path(__path__, __name__)

from blsm._version import __version__
from blsm.blocks import BlockConfig, BlockFamily, block_families, block_family, parameter, register_block
from blsm.bundle import load, save
from blsm.domains import Choice, Integers, SameAs
from blsm.errors import (
    BlsmError,
    BundleError,
    CoverageError,
    DeviceError,
    DomainError,
    FeasibilityError,
    FileError,
    FingerprintError,
    FitError,
    ModelFileError,
    SearchError,
    StoreError,
    UnknownBlockError,
    UnknownDeviceError,
    UnknownMethodError,
    UnknownNameError,
    UnknownRegressorError,
)
from blsm.latency_model import LatencyEstimate, LatencyModel
from blsm.latency_sources import HardwareInTheLoop, Hybrid, LatencySource
from blsm.network import Network, build_network, parse
from blsm.pareto import hypervolume, pareto_front
from blsm.score import balanced_score

if TYPE_CHECKING:
    from blsm.accuracy_prior import AccuracyPredictor
    from blsm.oracle import LatencyOracle
    from blsm.tuner import LatencyTuner

__all__ = [
    "AccuracyPredictor",
    "BlockConfig",
    "BlockFamily",
    "BlsmError",
    "BundleError",
    "Choice",
    "CoverageError",
    "DeviceError",
    "DomainError",
    "FeasibilityError",
    "FileError",
    "FingerprintError",
    "FitError",
    "HardwareInTheLoop",
    "Hybrid",
    "Integers",
    "LatencyEstimate",
    "LatencyModel",
    "LatencyOracle",
    "LatencySource",
    "LatencyTuner",
    "ModelFileError",
    "Network",
    "SameAs",
    "SearchError",
    "StoreError",
    "UnknownBlockError",
    "UnknownDeviceError",
    "UnknownMethodError",
    "UnknownNameError",
    "UnknownRegressorError",
    "__version__",
    "balanced_score",
    "block_families",
    "block_family",
    "build_network",
    "hypervolume",
    "load",
    "parameter",
    "pareto_front",
    "parse",
    "register_block",
    "save",
]

#: What subclasses KerasTuner's classes, or belongs to searches only, and is imported when it is first used.
_LAZY = {"AccuracyPredictor": "blsm.accuracy_prior", "LatencyOracle": "blsm.oracle", "LatencyTuner": "blsm.tuner"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)

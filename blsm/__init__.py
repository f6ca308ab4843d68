"""blsm: block-level surrogate latency models for hardware-aware neural architecture search."""

from pkgutil import extend_path

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
    StoreError,
    UnknownBlockError,
    UnknownDeviceError,
    UnknownMethodError,
    UnknownNameError,
    UnknownRegressorError,
)
from blsm.latency_model import LatencyEstimate, LatencyModel
from blsm.network import Network, build_network, parse

__all__ = [
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
    "Integers",
    "LatencyEstimate",
    "LatencyModel",
    "ModelFileError",
    "Network",
    "SameAs",
    "StoreError",
    "UnknownBlockError",
    "UnknownDeviceError",
    "UnknownMethodError",
    "UnknownNameError",
    "UnknownRegressorError",
    "__version__",
    "block_families",
    "block_family",
    "build_network",
    "load",
    "parameter",
    "parse",
    "register_block",
    "save",
]

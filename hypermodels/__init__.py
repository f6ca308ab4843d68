"""Networks over the block families: search spaces for KerasTuner and AutoKeras, and random networks.

The classes that derive from KerasTuner's and AutoKeras' are loaded when they are first used, so that this package
imports neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blsm.hypermodels.random_networks import sample_networks
from blsm.hypermodels.settings import list_blocks
from blsm.hypermodels.stack import Stack, Stage

if TYPE_CHECKING:
    from blsm.hypermodels.autokeras_blocks import BlockStack, MBConvStack, ResV1Stack, ResV2Stack
    from blsm.hypermodels.sequential import Cifar10, SequentialBlocks

__all__ = [
    "BlockStack",
    "Cifar10",
    "MBConvStack",
    "ResV1Stack",
    "ResV2Stack",
    "SequentialBlocks",
    "Stack",
    "Stage",
    "list_blocks",
    "sample_networks",
]

_LAZY = {
    "BlockStack": "autokeras_blocks",
    "Cifar10": "sequential",
    "MBConvStack": "autokeras_blocks",
    "ResV1Stack": "autokeras_blocks",
    "ResV2Stack": "autokeras_blocks",
    "SequentialBlocks": "sequential",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)

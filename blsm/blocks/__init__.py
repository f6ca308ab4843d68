"""Block families: parameterised sub-networks whose latency is measured and predicted as one unit."""

from blsm.blocks import families  # noqa: F401  # importing registers the built-in families, before any other
from blsm.blocks.base import BlockConfig, BlockFamily, parameter
from blsm.blocks.registry import block_families, block_family, register_block

__all__ = ["BlockConfig", "BlockFamily", "block_families", "block_family", "parameter", "register_block"]

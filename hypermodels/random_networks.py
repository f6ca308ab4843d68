"""Random sequential networks: a stem, blocks of one family or of several, a head."""

from __future__ import annotations

import random
from collections.abc import Sequence

from blsm.blocks import BlockConfig, BlockFamily, block_family
from blsm.domains import SameAs, Value, contains
from blsm.errors import DomainError
from blsm.profiles import Chain

FAMILIES = ("mbconv", "res_v1", "res_v2")
#: Resolution is halved seldom, as in real networks: a fair coin would leave 2x2 pixels after four blocks.
_DOWNSAMPLE = 0.25
_TRIES = 1000


def sample_networks(
    count: int,
    seed: int = 0,
    *,
    families: Sequence[str] = FAMILIES,
    depth: tuple[int, int] = (3, 12),
    input_shape: tuple[int, int, int] = (32, 32, 3),
    units: int = 10,
) -> list[Chain]:
    """Distinct random networks whose blocks all lie in the default spaces of their families.

    Each network is a `conv` stem, 3 to 12 blocks and a `head`. Its blocks are of one family, or (as likely as any one)
    of families mixed.

    Args:
        count: how many networks.
        seed: the same seed gives the same networks, and a larger count extends a smaller one.
        families: families of the blocks in the middle.
        depth: least and most blocks in the middle.
        input_shape: (height, width, channels) of the images.
        units: classes.

    Raises:
        DomainError: no network fits the families' spaces.
    """
    rng = random.Random(seed)
    palettes = [(name,) for name in families] + ([tuple(families)] if len(families) > 1 else [])
    found: dict[Chain, None] = {}
    for _ in range(_TRIES * max(1, count)):
        if len(found) == count:
            return list(found)
        palette = [block_family(name) for name in rng.choice(palettes)]
        network = _network(rng, palette, rng.randint(*depth), input_shape, units)
        if network is not None:
            found[network] = None
    raise DomainError(f"no {count} distinct networks of {', '.join(families)} fit an input of {input_shape}")


def _network(
    rng: random.Random, palette: Sequence[BlockFamily], depth: int, input_shape: tuple[int, ...], units: int
) -> Chain | None:
    """One network; None where it ran into a shape that no block accepts."""
    middle = [rng.choice(palette) for _ in range(depth)]
    blocks: list[BlockConfig] = []
    shape = input_shape
    for family in (block_family("conv"), *middle, block_family("head")):
        config = _draw(rng, family, shape, units)
        if config is None:
            return None
        blocks.append(config)
        shape = config.output_shape
    return tuple(blocks)


def _draw(rng: random.Random, family: BlockFamily, shape: tuple[int, ...], units: int) -> BlockConfig | None:
    """A random config of the family's default space for an input of this shape; None where the space has none."""
    space = family.space()
    values: dict[str, Value] = {"units": units, "strides": 2 if rng.random() < _DOWNSAMPLE else 1}
    values |= zip(("height", "width", "in_channels"), shape, strict=True)
    setting = {
        name: values[name] if name in values or isinstance(domain, SameAs) else domain.at(rng.random())
        for name, domain in space.items()
    }
    return family.config(**setting) if contains(space, setting) else None

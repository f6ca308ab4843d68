"""Random sequential networks: a stem, blocks of one family or of several, a head."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from blsm.blocks import BlockConfig, BlockFamily, block_family
from blsm.blocks.base import DEFAULT_SPACE
from blsm.domains import SameAs, Space, Value, contains
from blsm.errors import DomainError
from blsm.profiles import Chain
from blsm.spaces import load_space

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
    input_shape: tuple[int, int, int] | None = (32, 32, 3),
    units: int = 10,
    space: str = DEFAULT_SPACE,
) -> list[Chain]:
    """Distinct random networks whose blocks all lie in the spaces of their families.

    Each network is a `conv` stem, 3 to 12 blocks and a `head`. Its blocks are of one family, or (as likely as any one)
    of families mixed.

    Args:
        count: how many networks.
        seed: the same seed gives the same networks, and a larger count extends a smaller one.
        families: families of the blocks in the middle.
        depth: least and most blocks in the middle.
        input_shape: (height, width, channels) of the images; if None, each network takes square RGB images of a size
            that is drawn from the stem's space.
        units: classes.
        space: name of the space, or a TOML file of one, see `blsm.spaces.load_space`.

    Raises:
        DomainError: no such space, or no network fits the families' spaces.
    """
    rng = random.Random(seed)
    spaces = {name: _space(name, space) for name in ("conv", *families, "head")}
    palettes = [(name,) for name in families] + ([tuple(families)] if len(families) > 1 else [])
    found: dict[Chain, None] = {}
    for _ in range(_TRIES * max(1, count)):
        if len(found) == count:
            return list(found)
        palette = rng.choice(palettes)
        network = _network(rng, palette, spaces, rng.randint(*depth), input_shape, units)
        if network is not None:
            found[network] = None
    shape = "the stem's space" if input_shape is None else str(input_shape)
    raise DomainError(f"no {count} distinct networks of {', '.join(families)} fit an input of {shape}")


def _space(name: str, space: str) -> Space:
    family = block_family(name)
    chosen = load_space(space, family)
    return family.space(chosen) if isinstance(chosen, str) else chosen


def _network(
    rng: random.Random,
    palette: Sequence[str],
    spaces: Mapping[str, Space],
    depth: int,
    input_shape: tuple[int, ...] | None,
    units: int,
) -> Chain | None:
    """One network; None where it ran into a shape that no block accepts."""
    middle = [rng.choice(palette) for _ in range(depth)]
    blocks: list[BlockConfig] = []
    shape = _image_shape(rng, spaces["conv"]) if input_shape is None else input_shape
    for name in ("conv", *middle, "head"):
        config = _draw(rng, block_family(name), spaces[name], shape, units)
        if config is None:
            return None
        blocks.append(config)
        shape = config.output_shape
    return tuple(blocks)


def _image_shape(rng: random.Random, stem: Space) -> tuple[int, ...]:
    height = stem["height"]
    assert not isinstance(height, SameAs)
    size = height.at(rng.random())
    assert isinstance(size, int)
    return size, size, 3


def _draw(
    rng: random.Random, family: BlockFamily, space: Space, shape: tuple[int, ...], units: int
) -> BlockConfig | None:
    """A random config of a family's space for an input of this shape; None where the space has none."""
    values: dict[str, Value] = {"units": units, "strides": 2 if rng.random() < _DOWNSAMPLE else 1}
    values |= zip(("height", "width", "in_channels"), shape, strict=True)
    setting = {
        name: values[name] if name in values or isinstance(domain, SameAs) else domain.at(rng.random())
        for name, domain in space.items()
    }
    return family.config(**setting) if contains(space, setting) else None

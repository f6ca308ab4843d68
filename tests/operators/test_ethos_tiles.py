from __future__ import annotations

import numpy as np
import pytest

from blsm.operators.ethos import ARRAYS
from blsm.operators.ethos_tiles import Window

SHAPES = ((5, 4, 24), (1, 1, 8), (32, 32, 3), (32, 32, 200), (7, 14, 48))


def _conv(shape: tuple[int, int, int], filters: int, kernel: int, strides: int = 1) -> Window:
    height, width = (-(-side // strides) for side in shape[:2])
    return Window(height, width, filters, *shape, (kernel, kernel), strides, False, 1, 1)


def _depthwise(shape: tuple[int, int, int], kernel: int, strides: int = 1) -> Window:
    return _conv(shape, shape[-1], kernel, strides)._replace(is_depthwise=True)


def _pool(shape: tuple[int, int, int]) -> Window:
    return Window(1, 1, shape[-1], *shape, shape[:2], 1, True, 0, 0, is_pool=True)


@pytest.mark.parametrize(
    ("name", "window", "tile"),
    [
        ("u65_512", _conv((32, 32, 24), 72, 1), (4, 12, 72)),
        ("u65_512", _conv((16, 16, 16), 24, 5, 2), (8, 8, 24)),
        ("u65_512", _depthwise((16, 16, 40), 3), (12, 16, 16)),
        ("u65_512", _pool((16, 16, 72)), (2, 2, 72)),
        ("u85_256", _conv((8, 8, 168), 64, 1), (8, 8, 32)),
        ("u85_256", _conv((32, 32, 64), 128, 5), (6, 8, 32)),
        ("u85_256", _conv((1, 1, 480), 120, 1), (1, 4, 120)),
        ("u85_256", _depthwise((32, 32, 72), 3, 2), (25, 8, 16)),
        ("u85_256", _depthwise((16, 16, 96), 3, 2), (8, 8, 32)),
        ("u85_256", _pool((2, 2, 432)), (1, 2, 256)),
        ("u85_512", _conv((32, 32, 96), 8, 3, 2), (6, 16, 16)),
    ],
)
def test_tiles_are_those_that_vela_chooses(name: str, window: Window, tile: tuple[int, int, int]) -> None:
    # Read off Vela 5.2.0's optimiser database.
    assert tuple(map(int, ARRAYS[name].geometry.tile(window)[:3])) == tile


@pytest.mark.parametrize("name", list(ARRAYS))
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("strides", [1, 2])
def test_tiles_are_of_whole_cells_and_fit_in_the_buffer(
    name: str, shape: tuple[int, int, int], kernel: int, strides: int
) -> None:
    geometry = ARRAYS[name].geometry
    for window in (_conv(shape, 144, kernel, strides), _depthwise(shape, kernel, strides)):
        tile = geometry.tile(window)
        assert tile.height % tile.cell[0] == 0
        assert tile.width % tile.cell[1] == 0
        assert 1 <= tile.channels <= max(16, -(-window.channels // 16) * 16)
        assert all(1 <= side <= limit for side, limit in zip(tile.within(window), window[:3], strict=True))
        assert tile.height * tile.width * tile.channels <= 2 * max(outputs for outputs, _ in geometry.buffers)


@pytest.mark.parametrize("name", list(ARRAYS))
@pytest.mark.parametrize("make", [lambda shape: _conv(shape, 40, 3), lambda shape: _depthwise(shape, 5, 2)])
def test_many_operators_at_once_get_the_tile_of_each(name: str, make: object) -> None:
    geometry = ARRAYS[name].geometry
    sides = np.array([1, 2, 4, 7, 16, 32])
    together = geometry.tile(make((sides, sides, 24)))  # type: ignore[operator]
    for row, side in enumerate(sides.tolist()):
        alone = geometry.tile(make((side, side, 24)))  # type: ignore[operator]
        for found, expected in zip(together[:-1], alone[:-1], strict=True):
            assert np.broadcast_to(found, sides.shape)[row] == expected

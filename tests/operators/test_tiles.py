from __future__ import annotations

import numpy as np
import pytest

from blsm.operators import Tensor, trace
from blsm.operators.tiles import TileCosts

SHAPES = ((5, 4, 24), (1, 1, 8), (32, 32, 3), (32, 32, 200), (7, 14, 48))


def _conv(shape: tuple[int, int, int], filters: int, kernel_size: int = 1, strides: int = 1) -> dict[str, float]:
    costs = TileCosts(trace(lambda x: x.conv(filters, kernel_size, strides), shape))
    return {name.rpartition(".")[-1]: float(value) for name, value in costs.terms.items()}


def test_work_is_done_in_cells_of_pixels_channels_and_taps() -> None:
    outputs = 32 * 24  # 5 x 4 pixels make 6 x 4, and loading weights takes as long as 32
    assert _conv((5, 4, 32), 24, 3)["work"] == outputs * 32 * 9  # pixel by pixel of the kernel
    assert _conv((5, 4, 8), 24, 3)["work"] == outputs * 8 * 12  # in groups of four
    assert _conv((5, 4, 8), 24)["work"] == outputs * 32  # either way
    assert _conv((16, 16, 32), 20)["work"] == 16 * 16 * 24 * 32


def test_a_small_operator_is_one_tile_and_reads_everything_once() -> None:
    costs = _conv((8, 8, 16), 16)
    assert (costs["tiles"], costs["set_up"], costs["set_ups"]) == (1, 16, 16)
    assert costs["read"] == 8 * 8 * 16
    assert costs["weights"] == 16 * 16
    # Both tensors lie outside: nothing is moved on the chip, and all of it at the ends of the only tile.
    assert (costs["edges"], costs["inside"]) == (2, 0)
    assert costs["ends"] == 2 * 8 * 8 * 16
    assert costs["outside"] == costs["ends"] + costs["weights"]


def test_large_operators_read_inputs_for_each_slice_and_weights_for_each_tile() -> None:
    costs = _conv((32, 32, 64), 512, 3)
    assert costs["tiles"] > 8
    assert costs["read"] >= 4 * 32 * 32 * 64
    assert costs["weights"] >= 4 * 64 * 512 * 9


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("strides", [1, 2])
def test_tiles_cover_the_operator_and_fit_in_the_buffer(
    shape: tuple[int, int, int], kernel_size: int, strides: int
) -> None:
    costs = TileCosts(trace(lambda x: x.conv(144, kernel_size, strides), shape))
    hints = {name.rpartition(".")[-1]: float(value) for name, value in costs.hints.items()}
    height, width = (-(-side // strides) for side in shape[:2])
    assert hints["pixels"] * hints["channels"] <= 4096
    assert hints["pixels"] * hints["channels"] * hints["tiles"] >= height * width * 144
    assert costs.terms["conv.array.read"] >= height * width * shape[-1]


def test_short_bursts_waste_what_is_read_and_written_outside() -> None:
    few, many = _conv((8, 8, 32), 16), _conv((8, 8, 40), 16)
    assert few["outside"] == 8 * 8 * 32 + 8 * 8 * 16 + 32 * 16
    assert many["outside"] == 4 * 8 * 8 * 40 + 8 * 8 * 16 + 40 * 16  # slices of 32 channels out of 40
    assert _conv((8, 8, 8), 32)["outside"] == 8 * 8 * 8 + 4 * 8 * 8 * 32 + 8 * 32


def test_the_slower_of_work_and_moving_decides() -> None:
    busy, waiting = _conv((8, 8, 64), 16, 7), _conv((8, 8, 8), 256)
    # Nothing overlaps with the first inputs and the last outputs.
    assert busy["wait_16"] == busy["work"] + 16 * busy["ends"] > 16 * busy["outside"]
    assert waiting["wait_64"] == 64 * waiting["outside"] > waiting["work"] + 64 * waiting["ends"]


def test_what_stays_between_operators_is_on_the_chip() -> None:
    def two(x: Tensor) -> Tensor:
        return x.conv(16, role="first").batch_norm().activation("relu").conv(8, role="last").batch_norm()

    terms = TileCosts(trace(two, (8, 8, 8))).terms
    assert (terms["first.array.edges"], terms["last.array.edges"]) == (1, 1)
    assert terms["first.array.inside"] == terms["last.array.inside"] == 8 * 8 * 16
    assert terms["relu.array.outputs"] == 8 * 8 * 16
    assert not any(name.startswith("batch_norm") for name in terms)
    large = TileCosts(trace(two, (192, 192, 8))).terms
    assert (large["first.array.edges"], large["first.array.inside"]) == (2, 0)


def test_an_activation_that_needs_a_pass_of_its_own_is_an_operator() -> None:
    fused, apart = (
        TileCosts(trace(lambda x, name=name: x.conv(16).activation(name), (8, 8, 8))).terms  # type: ignore[misc]
        for name in ("hard_swish", "swish")
    )
    assert fused["hard_swish.array.outputs"] == 8 * 8 * 16
    assert apart["swish.array.operators"] == 1
    assert (fused["conv.array.edges"], apart["conv.array.edges"]) == (2, 1)


def test_many_configs_at_once_cost_what_each_costs_alone() -> None:
    heights = np.array([2, 5, 16, 32])
    together = TileCosts(trace(lambda x: x.conv(40, 3, 2).depthwise_conv(5), (heights, heights, 24)))
    for row, height in enumerate(heights.tolist()):
        alone = TileCosts(trace(lambda x: x.conv(40, 3, 2).depthwise_conv(5), (height, height, 24)))
        for name, value in (alone.terms | alone.hints).items():
            values = np.broadcast_to((together.terms | together.hints)[name], heights.shape)
            assert values[row] == value, name

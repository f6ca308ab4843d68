from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest

import blsm
from blsm.errors import FitError
from blsm.operators import trace
from blsm.operators.costs import ARRAY_COSTS, DIRECT_COSTS, THREAD_COSTS, CostTable, check_names

FAMILIES = ("mbconv", "res_v1", "res_v2", "conv", "head", "rescale", "output")


def _keras_macs(model: object) -> int:
    """Multiply-accumulates from the kernels and output shapes that Keras made."""
    total = 0
    for layer in model.layers:  # type: ignore[attr-defined]
        kind = type(layer).__name__
        if kind == "Conv2D" or kind == "DepthwiseConv2D":
            total += math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
        elif kind == "Dense":
            total += math.prod(layer.kernel.shape)
    return total


@pytest.mark.parametrize("name", FAMILIES)
def test_macs_and_params_are_what_keras_counts(name: str) -> None:
    family = blsm.block_family(name)
    for config in family.sample(20, seed=4):
        model = family.build(config)
        assert config.params == model.count_params(), config
        assert config.macs == _keras_macs(model), config


def test_every_operator_that_runs_is_in_the_terms() -> None:
    config = blsm.block_family("mbconv").config(
        height=8, width=8, in_channels=16, filters=16, kernel_size=5, strides=1, expand_ratio=4, se_ratio=0.25
    )
    terms = CostTable(config.graph()).terms
    assert terms["operators"] == 12  # 5 convolutions, 2 + 2 activations, pool, multiply, add; norms are folded
    assert terms["expand.1x1.macs"] == 8 * 8 * 16 * 64
    assert terms["depthwise_conv_5s1.macs"] == 8 * 8 * 64 * 25
    assert terms["add.bytes"] == 3 * 4 * 8 * 8 * 16


def test_a_norm_is_free_only_where_it_can_be_folded() -> None:
    folded = CostTable(trace(lambda x: x.conv(8).batch_norm(), (4, 4, 8))).terms
    alone = CostTable(trace(lambda x: x.batch_norm().conv(8), (4, 4, 8))).terms
    assert "batch_norm.bytes" not in folded
    assert alone["batch_norm.bytes"] > 0


def test_padding_to_tiles_shows_in_the_hints() -> None:
    hints = CostTable(trace(lambda x: x.conv(33), (1, 8, 8))).hints
    assert hints["conv.columns_32"] == pytest.approx(64 / 33)
    assert hints["conv.rows_7"] == pytest.approx(14 / 8)


def _crowded(
    channels: int,
    kernel: int = 7,
    side: int = 32,
    parts: tuple[str, ...] = ("rows", "windows", "taps"),
    strides: int = 1,
) -> float:
    """What a depthwise convolution fetches again, for each of its outputs."""
    graph = trace(lambda x: x.depthwise_conv(kernel, strides), (side, side, channels))
    terms = CostTable(graph).terms
    fetched = sum(float(terms[f"depthwise_conv_{kernel}.crowded_{part}"]) for part in parts)
    return fetched / math.prod(graph.output_shape)


def test_pixels_that_lie_a_power_of_two_apart_crowd_the_cache() -> None:
    assert _crowded(1000) == _crowded(72) == 0  # 64 sets keep seven rows
    assert _crowded(1024) > 2 * _crowded(512) > 2 * _crowded(256) > 0
    assert _crowded(3072) == pytest.approx(_crowded(1024), rel=1e-12)  # but for rounding
    assert _crowded(1024, side=8) < _crowded(1024)  # a part of each window lies outside
    assert _crowded(1024, side=2) == 0
    assert _crowded(128, kernel=3) == 0


def test_a_window_needs_fewer_pixels_than_its_rows() -> None:
    assert _crowded(256, parts=("rows",)) > _crowded(256, parts=("windows",)) == 0
    assert _crowded(1024, parts=("windows",)) > 3 * _crowded(512, parts=("windows",)) > 0


def test_strides_crowd_what_a_tap_reads_into_half_the_sets() -> None:
    def of_taps(channels: int, strides: int) -> float:
        return _crowded(channels, parts=("taps",), strides=strides)

    assert of_taps(256, 1) == 0
    assert of_taps(256, 2) == pytest.approx(of_taps(512, 1), rel=1e-12)  # but for rounding
    assert of_taps(512, 2) == pytest.approx(of_taps(1024, 1), rel=1e-12)
    assert of_taps(1024, 2) == pytest.approx(of_taps(1024, 1), rel=1e-12)  # one set holds all of them already


def test_windows_that_straddle_lines_or_outgrow_the_cache_cost_more() -> None:
    def of(channels: int, kernel: int = 5) -> dict[str, float]:
        """For each multiply-accumulate."""
        terms = CostTable(trace(lambda x: x.depthwise_conv(kernel), (8, 8, channels))).terms
        role = f"depthwise_conv_{kernel}."
        count = 8 * 8 * channels * kernel**2
        return {name.removeprefix(role): float(terms[name]) / count for name in terms if name.startswith(role)}

    assert (of(64)["straddling"], of(72)["straddling"]) == (0, 1)  # 72 channels are four lines and a half
    assert of(64)["window_beyond_24k"] == 0  # 25 pixels of 256 bytes
    assert of(480)["window_beyond_24k"] == pytest.approx(48_000 / 24_576 - 1)
    assert of(960)["window_beyond_24k"] == 1
    assert of(480, kernel=3)["window_beyond_24k"] == 0


def test_direct_convolutions_fill_blocks_of_channels_and_skip_taps_outside() -> None:
    def of(kernel: int, side: int, depth: int, columns: int) -> dict[str, float]:
        terms = CostTable(trace(lambda x: x.conv(columns, kernel), (side, side, depth))).terms
        role = f"conv_{kernel}.direct."
        return {name.removeprefix(role): float(terms[name]) for name in terms if name.startswith(role)}

    pointwise = of(1, 6, 32, 64)
    assert pointwise == {"macs": 36 * 32 * 64, "inside": 6 * 32, "border": 0}
    assert of(1, 6, 17, 50) == pointwise  # 17 and 50 channels fill two and four blocks of 16
    assert of(1, 6, 8, 64)["macs"] == 36 * 8 * 64  # an image of fewer channels than a block
    # 2 pixels of 4 have all 3 taps of a row, the two at the border 2 each: 10 taps of a row, and as many of a column.
    three = of(3, 4, 16, 16)
    assert three["macs"] == pytest.approx(10 * 10 * 16 * 16)
    assert (three["inside"], three["border"]) == pytest.approx((10 * 16 * 3, 10 * 16 * 4))  # one step for 6 pixels


def test_two_threads_wait_for_the_slower_one_and_a_single_piece_wakes_none() -> None:
    def of(describe: Callable[[Any], Any], shape: tuple[int, ...]) -> dict[str, float]:
        terms = CostTable(trace(describe, shape)).terms
        return {name: float(amount) for name, amount in terms.items() if THREAD_COSTS.search(name)}

    def convolution(columns: int, rows: int) -> dict[str, float]:
        return of(lambda x: x.conv(columns, 1), (rows, 1, 5))

    # Tiles of 7 x 32, 5 channels deep.
    assert convolution(32, 7) == {"conv.1x1.threads.slower": 5, "threads.woken": 0}
    assert convolution(33, 7) == convolution(32, 14) == {"conv.1x1.threads.slower": 5, "threads.woken": 1}
    assert convolution(32, 15) == convolution(64, 14) == {"conv.1x1.threads.slower": 10, "threads.woken": 1}
    row = 4 * 16 * 3**2
    depthwise = {rows: of(lambda x: x.depthwise_conv(3), (rows, 4, 16)) for rows in (1, 3)}
    assert depthwise[1] == {"depthwise_conv_3s1.threads.slower": row, "threads.woken": 0}
    assert depthwise[3] == {"depthwise_conv_3s1.threads.slower": 2 * row, "threads.woken": 1}
    assert of(lambda x: x.activation("relu"), (8, 8, 16)) == {"threads.woken": 0}  # 4 KiB
    assert of(lambda x: x.activation("relu"), (8, 8, 17)) == {"threads.woken": 1}


@pytest.mark.parametrize(
    ("costs", "pattern", "nothing"),
    [("arrays", ARRAY_COSTS, None), ("direct", DIRECT_COSTS, False), ("threads", THREAD_COSTS, False)],
)
def test_costs_that_few_devices_need_can_be_left_out(costs: str, pattern: re.Pattern[str], nothing: Any) -> None:
    graph = blsm.block_family("mbconv").sample(1, seed=0)[0].graph()
    whole, without = CostTable(graph), CostTable(graph, **{costs: nothing})
    assert without.terms.keys() == {name for name in whole.terms if not pattern.search(name)} < whole.terms.keys()
    assert without.hints.keys() == {name for name in whole.hints if not pattern.search(name)}
    assert (without.hints.keys() < whole.hints.keys()) == (costs == "arrays")  # the others have no hints


def test_names_that_are_counted_no_more_are_refused() -> None:
    check_names(["constant", "project.1x1.macs", "project.array.work"])
    with pytest.raises(FitError, match=r"no longer counts \(project.1x1.balance_16\): fit it again"):
        check_names(["constant", "project.1x1.balance_16"])

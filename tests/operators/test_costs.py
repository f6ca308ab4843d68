from __future__ import annotations

import math

import pytest

import blsm
from blsm.operators import trace
from blsm.operators.costs import CostTable

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


def test_an_npu_works_in_cells_of_pixels_and_channels() -> None:
    def cells(depth: int, kernel_size: int) -> float:
        table = CostTable(trace(lambda x: x.conv(24, kernel_size), (5, 4, depth)))
        return float(table.terms[f"conv.{'1x1' if kernel_size == 1 else 'kxk'}.cells"])

    outputs = 6 * 4 * 32  # 5 x 4 pixels x 24 channels, rounded up to 2 x 2 x 16
    assert cells(32, 3) == outputs * 32 * 9  # whole kernels
    assert cells(8, 3) == outputs * 8 * 12  # quarters of kernels
    assert cells(8, 1) == outputs * 32  # either way


def test_an_operator_that_waits_for_memory_takes_as_long_as_the_memory() -> None:
    balance = CostTable(trace(lambda x: x.conv(256, 1), (8, 8, 8))).terms
    moved = 8 * 8 * 8 * 4 + 8 * 8 * 256 * 4  # read for each 64 channels of output; written in short bursts
    assert balance["conv.1x1.moved"] == moved
    assert balance["conv.1x1.balance_16"] == max(moved * 16, balance["conv.1x1.cells"])
    assert balance["conv.1x1.balance_64"] == moved * 64 > balance["conv.1x1.cells"]


def test_only_the_first_operator_of_a_block_reads_what_comes_from_outside() -> None:
    values = {"height": 8, "width": 8, "in_channels": 24, "filters": 16, "kernel_size": 3, "strides": 1}
    family = blsm.block_family("mbconv")
    first, inner = (CostTable(family.config(**values, expand_ratio=ratio).graph()).terms for ratio in (1, 2))
    assert first["depthwise_conv.entry"] == first["depthwise_conv.entry_beyond_16"] == 8 * 8 * 24
    assert first["depthwise_conv.entry_beyond_32"] == 0
    assert not any("entry" in name for name in inner)

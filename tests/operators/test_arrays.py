from __future__ import annotations

import numpy as np
import pytest

import blsm
from blsm.operators import Tensor, trace
from blsm.operators.arrays import ArrayCosts, saved
from blsm.operators.ethos import ARRAYS
from blsm.operators.tiles import TileCosts

NAMES = tuple(ARRAYS)


def test_what_stays_between_operators_is_on_the_chip() -> None:
    def two(x: Tensor) -> Tensor:
        return x.conv(16, role="first").batch_norm().activation("relu").conv(8, role="last").batch_norm()

    terms = ArrayCosts(trace(two, (8, 8, 8)), ["u65_256"]).terms
    assert terms["relu.array.outputs"] == 8 * 8 * 16
    assert not any(name.startswith("batch_norm") for name in terms)
    # Alone, it reads its input from the outside and writes its output there, which takes longer.
    for role, (shape, filters) in {"first": ((8, 8, 8), 16), "last": ((8, 8, 16), 8)}.items():
        alone = ArrayCosts(trace(lambda x, filters=filters: x.conv(filters), shape), ["u65_256"]).terms  # type: ignore[misc]
        assert terms[f"{role}.array.npu_cycles_u65_256"] < alone["conv.array.npu_cycles_u65_256"]


def test_an_activation_that_needs_a_pass_of_its_own_is_an_operator() -> None:
    fused, apart = (
        ArrayCosts(trace(lambda x, name=name: x.conv(16).activation(name), (8, 8, 8)), NAMES).terms  # type: ignore[misc]
        for name in ("hard_swish", "swish")
    )
    assert fused["hard_swish.array.outputs"] == 8 * 8 * 16
    assert apart["swish.array.operators"] == 1
    assert all(apart[f"swish.array.npu_cycles_{name}"] > 0 for name in NAMES)
    # The convolution's output stays on the chip then.
    assert apart["conv.array.npu_cycles_u65_512"] < fused["conv.array.npu_cycles_u65_512"]


def test_pooling_is_a_depthwise_convolution_by_a_kernel_of_the_size_of_the_image() -> None:
    pooled = ArrayCosts(trace(lambda x: x.global_pool(keepdims=True), (7, 7, 48)), NAMES).terms
    assert set(pooled) == {f"global_pool.array.npu_cycles_{name}" for name in NAMES}
    larger = ArrayCosts(trace(lambda x: x.global_pool(keepdims=True), (28, 28, 48)), NAMES).terms
    assert all(larger[name] > 2 * pooled[name] for name in pooled)


def test_only_the_arrays_asked_for_are_counted() -> None:
    graph = blsm.block_family("mbconv").sample(1, seed=0)[0].graph()
    every, one, none = (ArrayCosts(graph, names) for names in (NAMES, ["u55_128"], []))
    assert none.terms.keys() < one.terms.keys() < every.terms.keys()
    assert {name for name in one.terms if "cycles" in name} == {
        name for name in every.terms if "npu_cycles_u55_128" in name
    }
    assert not none.hints
    assert all(one.terms[name] == every.terms[name] for name in one.terms)


def test_many_configs_at_once_cost_what_each_costs_alone() -> None:
    heights = np.array([2, 5, 16, 32])

    def block(x: Tensor) -> Tensor:
        y = x.conv(40, 3, 2).depthwise_conv(5).batch_norm().activation("swish")
        return y.multiply(y.global_pool(keepdims=True).conv(40, role="gate"))

    together = ArrayCosts(trace(block, (heights, heights, 24)), NAMES)
    for row, height in enumerate(heights.tolist()):
        alone = ArrayCosts(trace(block, (height, height, 24)), NAMES)
        for name, value in (alone.terms | alone.hints).items():
            values = np.broadcast_to((together.terms | together.hints)[name], heights.shape)
            assert values[row] == value, name


@pytest.mark.parametrize("name", NAMES)
def test_a_block_between_others_takes_fewer_cycles(name: str) -> None:
    graph = trace(lambda x: x.conv(48, 3, role="first").conv(24, role="last"), (16, 16, 24))
    alone, after = (ArrayCosts(graph, [name], follows).terms for follows in (False, True))
    first = f"first.array.npu_cycles_{name}"
    # An Ethos-U55 has no memory outside of the chip but for weights.
    assert after[first] <= alone[first] if name.startswith("u55") else after[first] < alone[first]
    assert after[f"last.array.npu_cycles_{name}"] == alone[f"last.array.npu_cycles_{name}"]
    # What it would have written out stays on the chip: as if the last operator were in the middle.
    middle = ArrayCosts(
        trace(lambda x: x.conv(48, 3).conv(24, role="last").conv(8, role="next"), (16, 16, 24)), [name]
    ).terms
    expected = alone[f"last.array.npu_cycles_{name}"] - middle[f"last.array.npu_cycles_{name}"]
    assert saved(graph, name)["saved"] == pytest.approx(expected, abs=1)
    assert expected >= 0


def test_an_addition_is_chained_to_the_operator_that_ends_last() -> None:
    def joined(x: Tensor) -> Tensor:
        shortcut = x.conv(32, role="shortcut")
        return x.conv(32, 3, role="first").conv(32, 3, role="last").add(shortcut).conv(8)

    def apart(x: Tensor) -> Tensor:
        return x.conv(32, 3, role="first").conv(32, 3, role="last").conv(8)

    both, one = (ArrayCosts(trace(block, (16, 16, 32)), ["u65_256", "u85_256"]).terms for block in (joined, apart))
    # An Ethos-U85 adds on the way out, an Ethos-U65 in a pass of its own.
    assert both["last.array.npu_cycles_u85_256"] > one["last.array.npu_cycles_u85_256"]
    assert both["last.array.npu_cycles_u65_256"] == one["last.array.npu_cycles_u65_256"]
    assert both["add.array.npu_cycles_u65_256"] > 0
    assert "add.array.npu_cycles_u85_256" not in both


@pytest.mark.parametrize("make", [ArrayCosts, TileCosts])
@pytest.mark.parametrize("family", ["mbconv", "res_v1", "res_v2", "conv", "head", "rescale", "output"])
def test_costs_are_finite_and_never_negative(family: str, make: type[TileCosts]) -> None:
    for config in blsm.block_family(family).sample(5, seed=7):
        costs = make(config.graph())
        values = np.array([float(value) for value in (costs.terms | costs.hints).values()])
        assert np.isfinite(values).all()
        assert (values >= 0).all()

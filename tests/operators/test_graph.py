from __future__ import annotations

import pytest

from blsm.operators import Cursor, NoMatch, Tensor, trace


def _residual(x: Tensor) -> Tensor:
    return x.conv(8, 3).batch_norm().activation("relu").conv(8, 3).add(x)


def test_trace_infers_shapes() -> None:
    graph = trace(lambda x: x.conv(16, 3, strides=2).depthwise_conv(5, 2).global_pool().dense(10), (9, 7, 3))
    assert [op.shape for op in graph.operators] == [(9, 7, 3), (5, 4, 16), (3, 2, 16), (16,), (10,)]


def test_find_requires_every_edge() -> None:
    pattern = trace(_residual, (4, 4, 8))
    with_shortcut = trace(lambda x: _residual(x).activation("relu"), (4, 4, 8))
    without = trace(lambda x: x.conv(8, 3).batch_norm().activation("relu").conv(8, 3).activation("relu"), (4, 4, 8))
    assert with_shortcut.find(pattern, 0) == (0, 1, 2, 3, 4, 5)
    assert without.find(pattern, 0) is None


def test_find_refuses_what_is_read_from_outside() -> None:
    pattern = trace(lambda x: x.conv(8).batch_norm().activation("relu"), (4, 4, 8))

    def leaky(x: Tensor) -> Tensor:
        y = x.conv(8)
        return y.batch_norm().activation("relu").add(y)

    assert trace(leaky, (4, 4, 8)).find(pattern, 0) is None


def test_order_of_parallel_branches_does_not_matter() -> None:
    def one(x: Tensor) -> Tensor:
        left = x.conv(8, 3)
        return left.add(x.conv(8, 1))

    def other(x: Tensor) -> Tensor:
        right = x.conv(8, 1)
        return right.add(x.conv(8, 3))

    assert trace(one, (4, 4, 8)).equivalent(trace(other, (4, 4, 8)))
    assert not trace(one, (4, 4, 8)).equivalent(trace(one, (4, 4, 4)))


def test_twin_operators_are_told_apart_by_what_follows() -> None:
    def block(x: Tensor, first: str, second: str) -> Tensor:
        left, right = x.conv(8, 3), x.conv(8, 3)
        return left.activation(first).add(right.activation(second))

    pattern = trace(lambda x: block(x, "relu", "swish"), (4, 4, 8))
    assert trace(lambda x: block(x, "swish", "relu"), (4, 4, 8)).equivalent(pattern)
    assert not trace(lambda x: block(x, "relu", "relu"), (4, 4, 8)).equivalent(pattern)


def test_free_spellings_are_equal() -> None:
    assert trace(lambda x: x.conv(8, use_bias=True), (4, 4, 8)).equivalent(trace(lambda x: x.conv(8), (4, 4, 8)))
    pooled = trace(lambda x: x.global_pool(keepdims=True).conv(5), (4, 4, 8))
    assert pooled.equivalent(trace(lambda x: x.global_pool().dense(5), (4, 4, 8)))


def test_cursor_follows_the_path_that_exists() -> None:
    cursor = Cursor(trace(_residual, (4, 4, 8)), 0)
    assert cursor.image_shape == (4, 4, 8)
    assert cursor.walk("conv", "batch_norm", "activation")["function"] == "relu"
    assert cursor.can_walk("add")
    with pytest.raises(NoMatch):
        cursor.walk("conv", "add")
    with pytest.raises(NoMatch):
        cursor.walk("conv")["units"]

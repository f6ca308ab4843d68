from __future__ import annotations

import blsm
from blsm.operators import trace
from blsm.operators.ends import ENDS, ends


def test_a_residual_block_shows_its_neighbours_an_expansion_a_skip_and_a_sum() -> None:
    config = blsm.block_family("mbconv").config(
        height=8, width=8, in_channels=16, filters=16, kernel_size=3, strides=1, expand_ratio=4
    )
    found = ends(config.graph())
    assert set(found) == set(ENDS)
    assert (found["first.channels_in"], found["first.channels_out"]) == (16, 64)
    assert found["first.macs"] == 8 * 8 * 16 * 64
    assert (found["readers"], found["skips"]) == (2, True)
    assert found["last.kind"] != found["first.kind"] == found["before_last.kind"]
    assert found["elements_in"] == found["elements_out"] == 8 * 8 * 16
    assert found["macs"] == config.macs


def test_the_peak_is_the_operator_that_holds_most() -> None:
    graph = trace(lambda x: x.conv(filters=32, kernel_size=1).conv(filters=4, kernel_size=1), (8, 8, 4))
    assert ends(graph)["peak"] == 8 * 8 * (4 + 32)


def test_a_block_of_one_operator_has_nothing_before_its_last() -> None:
    graph = trace(lambda x: x.conv(filters=32, kernel_size=1), (8, 8, 4))
    found = ends(graph)
    assert found["first.macs"] == found["last.macs"]
    assert found["before_last.elements_out"] == 0

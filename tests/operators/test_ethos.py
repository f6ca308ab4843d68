from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import blsm
from blsm.operators.arrays import ArrayCosts
from blsm.operators.ethos import ARRAYS, Cycles, cycles
from blsm.operators.ethos_tiles import Window
from blsm.profiling import device

#: Cycles of operators that take long enough for weights of the next one.
LONG = 1e6


def _conv(
    shape: tuple[int, int, int], filters: int, kernel: int = 1, strides: int = 1, enters: int = 1, leaves: int = 1
) -> Window:
    height, width = (-(-side // strides) for side in shape[:2])
    return Window(height, width, filters, *shape, (kernel, kernel), strides, False, enters, leaves)


def _depthwise(shape: tuple[int, int, int], kernel: int, strides: int = 1) -> Window:
    return _conv(shape, shape[-1], kernel, strides, 0, 0)._replace(is_depthwise=True)


def _on(name: str, window: Window, slack: float = 0.0) -> Cycles:
    array = ARRAYS[name]
    return cycles(array, window, array.geometry.tile(window), slack)


def test_cycles_are_those_that_vela_counts() -> None:
    # Read off Vela 5.2.0's table of operators.
    assert float(_on("u85_256", _conv((16, 16, 8), 32, 5, 2)).compute) == pytest.approx(5897, rel=0.001)
    assert float(_on("u55_256", _conv((4, 4, 480), 104, 1, 1, 0)).compute) == pytest.approx(8448, rel=0.001)
    assert float(_on("u55_256", _conv((4, 4, 480), 104, 1, 1, 0)).total) == pytest.approx(48176, rel=0.1)
    assert float(_on("u85_256", _depthwise((4, 4, 48), 5), LONG).compute) == pytest.approx(1840, rel=0.1)
    assert float(_on("u65_512", _conv((16, 16, 8), 32, 5, 2)).total) == pytest.approx(3123, rel=0.01)


@pytest.mark.parametrize("name", ["u55_128", "u65_256", "u85_256"])
def test_the_cycles_of_most_blocks_are_those_of_the_device(name: str, tmp_path: Path) -> None:
    target = device(f"asic@accelerator=ethos-{name.replace('_', '-')}")
    if target.missing():
        pytest.skip(f"needs {target.missing()}")
    ratios = []
    for config in [config for family in ("conv", "res_v1") for config in blsm.block_family(family).sample(12, seed=1)]:
        target.compile_blocks((config,), tmp_path / "artifact")
        counted = json.loads((tmp_path / "artifact").read_text())["cycles"]
        terms = ArrayCosts(config.graph(), [name]).terms
        ratios.append(sum(float(terms[term]) for term in terms if term.endswith(f".npu_cycles_{name}")) / counted)
    assert np.mean(np.abs(np.array(ratios) - 1) < 0.05) > 0.7


def test_work_grows_with_the_operator() -> None:
    for name in ARRAYS:
        small, deep, wide = (
            _on(name, _conv((16, 16, depth), filters, 3)) for depth, filters in ((32, 32), (64, 32), (32, 64))
        )
        assert small.compute < deep.compute
        assert small.compute < wide.compute
        assert small.total == max(small.compute, small.tensors, small.weights)


def test_more_multipliers_are_faster() -> None:
    window = _conv((16, 16, 64), 64, 3, 1, 0, 0)
    for slower, faster in (
        ("u55_64", "u55_128"),
        ("u55_128", "u55_256"),
        ("u65_256", "u65_512"),
        ("u85_256", "u85_512"),
    ):
        assert _on(slower, window).compute > 1.5 * _on(faster, window).compute


def test_short_bursts_waste_what_is_read_and_written_outside() -> None:
    # 40 channels are read in slices of 32 of them.
    few, many = (_on("u65_256", _conv((32, 32, depth), 16)).weights for depth in (32, 40))
    assert many > 1.5 * few


def test_an_operator_between_others_neither_reads_nor_writes_outside() -> None:
    for name in ("u65_256", "u85_512"):
        between, alone = (_on(name, _conv((32, 32, 64), 64, 1, 1, outside, outside)) for outside in (0, 1))
        assert between.total < alone.total / 1.5

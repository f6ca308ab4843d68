"""Blocks that are compiled without Keras give the artifacts that their Keras models give."""

from __future__ import annotations

from typing import Any

import pytest

import blsm
from blsm.profiling.devices.base import build_with_weights
from blsm.profiling.devices.litert import convert

FAMILIES = ("mbconv", "res_v1", "res_v2", "conv", "head", "rescale", "output")


def _what_runs(flatbuffer: bytes) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Operators in order, each with the shapes of its outputs."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter: Any = Interpreter(
        model_content=flatbuffer, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    shapes = {tensor["index"]: tuple(tensor["shape"]) for tensor in interpreter.get_tensor_details()}
    return [(op["op_name"], [shapes[index] for index in op["outputs"]]) for op in interpreter._get_ops_details()]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_operators_run(name: str) -> None:
    for config in blsm.block_family(name).sample(6, seed=11):
        assert _what_runs(convert((config,))) == _what_runs(convert(build_with_weights((config,)))), config


def test_the_same_operators_run_in_a_network(network: list[blsm.BlockConfig]) -> None:
    assert _what_runs(convert(tuple(network))) == _what_runs(convert(build_with_weights(tuple(network))))

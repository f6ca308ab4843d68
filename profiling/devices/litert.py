"""LiteRT (TensorFlow Lite) on this machine's CPU, through XNNPACK unless asked otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from blsm.domains import Choice, Domain, Integers, Value
from blsm.errors import DeviceError
from blsm.profiling.devices.freezing import Frozen, freeze, refusals
from blsm.profiling.devices.host import HostDevice
from blsm.profiling.devices.screen import off_the_screen

#: XNNPACK, LiteRT's default, or the kernels that it falls back on.
_KERNELS = Choice("xnnpack", "builtin")
#: Random inputs that a quantised model's value ranges are taken from; latency does not depend on the ranges.
_CALIBRATION_INPUTS = 4


class EdgeCpu(HostDevice):
    """LiteRT, XNNPACK, float32, one thread: the embedded default."""

    key: ClassVar[str] = "edge_cpu"
    summary: ClassVar[str] = "LiteRT with XNNPACK on one thread of this CPU, float32"
    suffix: ClassVar[str] = ".tflite"
    runner: ClassVar[str] = "litert"
    runtime: ClassVar[str] = "ai-edge-litert"
    options: ClassVar[Mapping[str, Domain]] = {"threads": Integers(1, 256), "kernels": _KERNELS}
    defaults: ClassVar[Mapping[str, Value]] = {"threads": 1, "kernels": "xnnpack"}

    def compile(self, model: Any, artifact: Path) -> None:
        artifact.write_bytes(convert(model))


class CloudCpu(EdgeCpu):
    """LiteRT, XNNPACK, float32, all cores."""

    key: ClassVar[str] = "cloud_cpu"
    summary: ClassVar[str] = "LiteRT with XNNPACK on all cores of this CPU, float32"
    options: ClassVar[Mapping[str, Domain]] = {**EdgeCpu.options, **HostDevice.options}
    defaults: ClassVar[Mapping[str, Value]] = {**EdgeCpu.defaults, **HostDevice.defaults}


class EdgeCpuInt8(EdgeCpu):
    """LiteRT, XNNPACK, full-integer quantised (int8 in and out), one thread."""

    key: ClassVar[str] = "edge_cpu_int8"
    summary: ClassVar[str] = "LiteRT with XNNPACK on one thread of this CPU, quantised to int8"
    precision: ClassVar[str] = "int8"

    def compile(self, model: Any, artifact: Path) -> None:
        artifact.write_bytes(convert_int8(model))


def convert(model: Any) -> bytes:
    """A Keras model as a LiteRT flatbuffer, float32.

    Raises:
        DeviceError: the model has operators that LiteRT does not run, or variables that can't be frozen.
    """
    return _convert(_converter(freeze(model)))


def convert_int8(model: Any) -> bytes:
    """A Keras model as a LiteRT flatbuffer, full-integer quantised with int8 inputs and outputs.

    Value ranges come from seeded random inputs in [0, 1): the artifact is for timing, not for its accuracy.

    Raises:
        DeviceError: the model can't be quantised in full (the message names the operators that would stay in float),
            or the converter refused it.
    """
    frozen = freeze(model)
    import numpy as np
    import tensorflow as tf

    def inputs() -> Iterator[list[Any]]:
        random = np.random.default_rng(0)
        for _ in range(_CALIBRATION_INPUTS):
            yield [random.random(tensor.shape).astype(tensor.dtype.as_numpy_dtype) for tensor in frozen.inputs]

    converter = _converter(frozen)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = inputs
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with off_the_screen():  # it prints whether it quantises, from C++
        converted = _convert(converter)
    # The converter leaves what it can't quantise in float, between conversions, and says nothing.
    if left := _float_operators(converted):
        raise DeviceError(f"it can't be quantised to int8 in full: {', '.join(left)} would stay in float")
    return converted


def _converter(frozen: Frozen) -> Any:
    """The converter of TensorFlow 1: of a graph that is frozen already it makes the same artifact in half the time."""
    import tensorflow as tf

    return tf.compat.v1.lite.TFLiteConverter(frozen.graph.as_graph_def(), frozen.inputs, frozen.outputs)


def _convert(converter: Any) -> bytes:
    with refusals("the LiteRT converter"):
        converted: bytes = converter.convert()
    return converted


def _float_operators(flatbuffer: bytes) -> list[str]:
    """Kinds of operators, conversions aside, that read or write tensors of another type than integers or booleans."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=flatbuffer, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    kinds = {tensor["index"]: np.dtype(tensor["dtype"]).kind for tensor in interpreter.get_tensor_details()}
    names = {
        op["op_name"]
        for op in interpreter._get_ops_details()
        # An optional tensor that is left out has index -1.
        if any(kinds.get(index, "i") not in "iub" for index in (*op["inputs"], *op["outputs"]))
    }
    return sorted(names - {"QUANTIZE", "DEQUANTIZE"}) or sorted(names)

"""The runtimes on this machine's CPU: their artifacts compute what Keras computes."""

from __future__ import annotations

import ast
import importlib.util
import operator
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blsm
from blsm.errors import DeviceError, DomainError
from blsm.profiling import device, worker
from blsm.profiling.devices.host import HostDevice
from blsm.profiling.devices.litert import convert_int8

NAMES = ("edge_cpu", "edge_cpu_int8", "cloud_cpu", "tensorflow_cpu", "openvino_cpu", "onnx_cpu")


def _run_litert(artifact: Path, image: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(artifact))
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    if source["dtype"] == np.int8:
        scale, zero = source["quantization"]
        image = np.clip(np.rint(image / scale + zero), -128, 127).astype(np.int8)
    interpreter.set_tensor(source["index"], image)
    interpreter.invoke()
    output = interpreter.get_tensor(result["index"])
    if result["dtype"] == np.int8:
        scale, zero = result["quantization"]
        output = scale * (output.astype(np.float32) - zero)
    return output


def _run_tensorflow(artifact: Path, image: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef.FromString(artifact.read_bytes())
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.import_graph_def(definition, name="")
        (source,) = [op for op in graph.get_operations() if op.type == "Placeholder"]
        return session.run(f"{worker.OUTPUT}0:0", {source.outputs[0]: image})


def _run_openvino(artifact: Path, image: np.ndarray) -> np.ndarray:
    import openvino

    compiled = openvino.Core().compile_model(artifact, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(image)[0]


def _run_onnx(artifact: Path, image: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    return session.run(None, {source.name: image})[0]


_RUN = {"litert": _run_litert, "tensorflow": _run_tensorflow, "openvino": _run_openvino, "onnx": _run_onnx}


def _usable(name: str) -> HostDevice:
    target = device(name)
    assert isinstance(target, HostDevice)
    if (lacking := target.missing()) is not None:
        pytest.skip(lacking)
    return target


@pytest.mark.parametrize("name", NAMES)
def test_an_artifact_computes_what_keras_does(name: str, network: list[blsm.BlockConfig], tmp_path: Path) -> None:
    target = _usable(name)
    # Without the last block, whose softmax would hide differences.
    model = blsm.build_network(network[:-1])
    image = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
    artifact = tmp_path / f"network{target.suffix}"
    target.compile(model, artifact)
    output = _RUN[target.runner](artifact, image)
    expected = np.asarray(model(image, training=False))
    assert output.shape == expected.shape
    if target.precision == "int8":
        assert np.abs(output - expected).mean() < 0.03 * np.abs(expected).max()
    else:
        np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_every_family_and_several_inputs_run(name: str, tmp_path: Path) -> None:
    import keras

    from blsm.profiling import Protocol

    target = _usable(name)
    protocol = Protocol(invocations=2, max_visit_s=None, min_invocations=2)
    with target.open() as session:
        for family in blsm.block_families().values():
            artifact = tmp_path / f"{family.name}{target.suffix}"
            target.compile_blocks((family.sample(1, seed=3)[0],), artifact)
            assert session.visit(artifact, protocol).minimum_ns > 0
        inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
        artifact = tmp_path / f"several{target.suffix}"
        target.compile(keras.Model(inputs, [keras.layers.Add()(inputs), inputs[0]]), artifact)
        assert session.visit(artifact, protocol).minimum_ns > 0


def _layer(function: str) -> Any:
    """A model of a dense layer and then a TensorFlow function of that name."""
    import keras

    class Function(keras.layers.Layer):
        def call(self, x: object) -> object:
            import tensorflow as tf

            return operator.attrgetter(function)(tf)(x)

    inputs = keras.Input((8,))
    return keras.Model(inputs, Function()(keras.layers.Dense(8)(inputs)))


def test_what_cannot_be_quantised_is_refused_by_name() -> None:
    for function in ("sin", "round"):
        with pytest.raises(DeviceError, match=rf"to int8 in full: {function.upper()} would stay in float"):
            convert_int8(_layer(function))
    assert len(convert_int8(_layer("tanh"))) > 0


@pytest.mark.parametrize(
    ("name", "function"), [("edge_cpu_int8", "Erf"), ("openvino_cpu", "Erf"), ("onnx_cpu", "Lgamma")]
)
def test_an_operator_that_the_runtime_lacks_is_refused(name: str, function: str, tmp_path: Path) -> None:
    target = _usable(name)
    with pytest.raises(DeviceError, match=f"refused the model: .*{function}"):
        target.compile(_layer(f"math.{function.lower()}"), tmp_path / "model")


def test_the_same_chain_is_quantised_alike(network: list[blsm.BlockConfig], tmp_path: Path) -> None:
    target = device("edge_cpu_int8")
    artifacts = [tmp_path / "one.tflite", tmp_path / "two.tflite"]
    outputs = []
    for artifact in artifacts:
        target.compile_blocks(tuple(network), artifact)
        outputs.append(_run_litert(artifact, np.random.default_rng(0).random((1, 16, 16, 3), np.float32)))
    np.testing.assert_array_equal(*outputs)


def test_a_tensorflow_graph_knows_its_outputs(tmp_path: Path) -> None:
    import tensorflow as tf

    swish = blsm.block_family("conv").config(
        height=8, width=8, in_channels=3, filters=4, kernel_size=3, strides=1, activation="swish"
    )
    device("tensorflow_cpu").compile_blocks((swish,), tmp_path / "graph.pb")
    nodes = tf.compat.v1.GraphDef.FromString((tmp_path / "graph.pb").read_bytes()).node
    assert [node.name for node in nodes if node.name.startswith(worker.OUTPUT)] == [f"{worker.OUTPUT}0"]


def test_all_cores_means_all_and_keeps_the_machine_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores in (1, 4):
        monkeypatch.setattr("blsm.profiling.machine.available_cores", lambda cores=cores: list(range(cores)))
        for name in ("cloud_cpu", "tensorflow_cpu", "openvino_cpu", "onnx_cpu"):
            target = device(name)
            assert isinstance(target, HostDevice)
            assert (target.name, target.threads, target.exclusive) == (name, cores, cores > 1)
    fewer, edge = device("cloud_cpu@threads=1"), device("edge_cpu")
    assert (fewer.name, fewer.exclusive) == ("cloud_cpu@threads=1", False)
    assert (edge.name, edge.exclusive, device("edge_cpu@threads=2").exclusive) == ("edge_cpu", False, True)
    with pytest.raises(DomainError, match="threads"):
        device("edge_cpu@threads=0")


def test_a_missing_package_is_named_with_its_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert device("edge_cpu").missing() == "pip install ai-edge-litert tensorflow"
    assert device("openvino_cpu").missing() == "pip install openvino tensorflow"
    assert device("onnx_cpu").missing() == "pip install onnxruntime tf2onnx onnx tensorflow"


def test_quantised_inputs_fill_their_range_and_others_lie_in_the_unit_interval() -> None:
    small = worker._input((1, 64, 64), np.int8, 0)
    assert (small.dtype, small.min(), small.max()) == (np.int8, -128, 127)
    image = worker._input((1, 64, 64), "float32", 0)
    assert (image.dtype, image.min() >= 0, 0.9 < image.max() < 1) == (np.float32, True, True)
    assert not worker._input((4,), np.int32, 0).any()
    assert {worker._input((1, size), "float32", 0).ctypes.data % 64 for size in (1, 7, 100, 10**6)} == {0}


def test_the_worker_needs_nothing_but_the_standard_library_to_start() -> None:
    tree = ast.parse(Path(worker.__file__).read_text())
    modules = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [node.module for node in blocks if (node.module or "").startswith("blsm")]

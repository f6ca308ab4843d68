"""LiteRT (TensorFlow Lite) on this machine's CPU, through XNNPACK."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from blsm.profiling import machine
from blsm.profiling.devices.base import Device, Session
from blsm.profiling.timer import WorkerSession, worker_command

from blsm.domains import Domain, Integers, Value
from blsm.errors import DeviceError
from blsm.profiles import Fingerprint


class EdgeCpu(Device):
    """LiteRT, XNNPACK, float32, one thread: the embedded default."""

    key: ClassVar[str] = "edge_cpu"
    summary: ClassVar[str] = "LiteRT with XNNPACK on one thread of this CPU, float32"
    suffix: ClassVar[str] = ".tflite"
    options: ClassVar[Mapping[str, Domain]] = {"threads": Integers(1, 256)}
    defaults: ClassVar[Mapping[str, Value]] = {"threads": 1}

    @property
    def exclusive(self) -> bool:
        return self.settings["threads"] != 1

    def missing(self) -> str | None:
        lacking = [name for name in ("ai_edge_litert", "tensorflow") if importlib.util.find_spec(name) is None]
        return f"pip install {' '.join(lacking).replace('_', '-')}" if lacking else None

    def fingerprint(self) -> Fingerprint:
        identity: dict[str, str | int] = {
            "cpu": machine.cpu_name(),
            "architecture": platform.machine(),
            "governor": machine.governor(),
            "runtime": f"ai-edge-litert {version('ai-edge-litert')}",
            "compiler": f"tensorflow {version('tensorflow')}",
            "precision": "float32",
            "threads": int(self.settings["threads"]),
        }
        notes: dict[str, str | int] = {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cores": len(machine.available_cores()),
        }
        return Fingerprint(identity, notes)

    def compile(self, model: Any, artifact: Path) -> None:
        artifact.write_bytes(convert(model))

    def open(self, core: int | None = None) -> Session:
        return WorkerSession(worker_command("litert", self.settings, None if self.exclusive else core))


def convert(model: Any) -> bytes:
    """A Keras model as a LiteRT flatbuffer, float32.

    Freezing first takes a third of the time of `TFLiteConverter.from_keras_model` and gives the same artifact; without
    freezing, variables stay operators and the artifact runs many times slower.

    Raises:
        DeviceError: the model has operators that LiteRT does not run, or variables that can't be frozen.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    try:
        function = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False))
        frozen = convert_variables_to_constants_v2(function.get_concrete_function(*signature))
        left = [op.name for op in frozen.graph.get_operations() if op.type in ("ReadVariableOp", "VarHandleOp")]
        if left:
            raise DeviceError(f"variables could not be frozen: {', '.join(left[:3])}")
        converted: bytes = tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()
    except DeviceError:
        raise
    except Exception as error:  # the converter raises many kinds
        raise DeviceError(f"the converter refused the model: {_first_line(error)}") from error
    return converted


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

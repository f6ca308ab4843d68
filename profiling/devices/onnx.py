"""ONNX Runtime on this machine's CPU."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

from blsm.profiling.devices.freezing import freeze, refusals
from blsm.profiling.devices.host import HostDevice

_OPSET = 18


class OnnxCpu(HostDevice):
    """ONNX Runtime, float32, all cores."""

    key: ClassVar[str] = "onnx_cpu"
    summary: ClassVar[str] = "ONNX Runtime on all cores of this CPU, float32"
    suffix: ClassVar[str] = ".onnx"
    runner: ClassVar[str] = "onnx"
    runtime: ClassVar[str] = "onnxruntime"
    compilers: ClassVar[tuple[str, ...]] = ("tf2onnx", "onnx", "tensorflow")

    def compile(self, model: Any, artifact: Path) -> None:
        frozen = freeze(model)
        import onnx
        import tf2onnx

        # Its optimiser of transposes trips over scalar constants and says so at length. ONNX Runtime removes all
        # transposes when it loads the graph, so that nothing is lost.
        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        with refusals("tf2onnx"):
            converted, _ = tf2onnx.convert.from_graph_def(
                frozen.graph.as_graph_def(),
                input_names=[tensor.name for tensor in frozen.inputs],
                output_names=[tensor.name for tensor in frozen.outputs],
                opset=_OPSET,
            )
            onnx.checker.check_model(converted)  # tf2onnx lets operators through that ONNX does not have
        artifact.write_bytes(converted.SerializeToString())

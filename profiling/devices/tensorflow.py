"""TensorFlow on this machine's CPU, through oneDNN."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from blsm.profiling.devices.freezing import freeze
from blsm.profiling.devices.host import HostDevice


class TensorFlowCpu(HostDevice):
    """A frozen TensorFlow graph, float32, all cores."""

    key: ClassVar[str] = "tensorflow_cpu"
    summary: ClassVar[str] = "a frozen TensorFlow graph with oneDNN on all cores of this CPU, float32"
    suffix: ClassVar[str] = ".pb"
    runner: ClassVar[str] = "tensorflow"
    runtime: ClassVar[str] = "tensorflow"

    def compile(self, model: Any, artifact: Path) -> None:
        artifact.write_bytes(freeze(model).graph.as_graph_def().SerializeToString())

"""OpenVINO on this machine's CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from blsm.profiling.devices.host import HostDevice
from blsm.profiling.devices.litert import convert


class OpenVinoCpu(HostDevice):
    """OpenVINO's CPU plugin, float32, all cores, one stream tuned for latency.

    OpenVINO reads LiteRT flatbuffers. They run there as fast as frozen TensorFlow graphs, load in half the time, and
    take less than half as long as the ONNX files that tf2onnx makes.
    """

    key: ClassVar[str] = "openvino_cpu"
    summary: ClassVar[str] = "OpenVINO on all cores of this CPU, float32"
    suffix: ClassVar[str] = ".tflite"
    runner: ClassVar[str] = "openvino"
    runtime: ClassVar[str] = "openvino"

    def compile(self, model: Any, artifact: Path) -> None:
        artifact.write_bytes(convert(model))

"""TensorFlow on this machine's CPU, through oneDNN."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from blsm.profiles import Fingerprint
from blsm.profiling.devices.freezing import freeze
from blsm.profiling.devices.host import HostDevice
from blsm.profiling.worker import OUTPUT


class TensorFlowCpu(HostDevice):
    """A frozen TensorFlow graph, float32, all cores; the thread that calls it runs its operators.

    oneDNN splits most of them over all threads: on two cores of a virtual machine, whose threads take long to wake each
    other, small blocks take longer so than on one (`tensorflow_cpu@threads=1`), and vary by several percent.
    """

    key: ClassVar[str] = "tensorflow_cpu"
    summary: ClassVar[str] = "a frozen TensorFlow graph with oneDNN on all cores of this CPU, float32"
    suffix: ClassVar[str] = ".pb"
    runner: ClassVar[str] = "tensorflow"
    runtime: ClassVar[str] = "tensorflow"

    def fingerprint(self) -> Fingerprint:
        found = super().fingerprint()
        # Stores of before have 150 to 200 microseconds more in every latency: what a call took in Python, and a thread.
        # Then all visits shared a process, in which graphs took up to 20 % longer the more had been run before.
        return Fingerprint({**found.identity, "dispatch": "caller's thread", "process": "per visit"}, found.notes)

    def compile(self, model: Any, artifact: Path) -> None:
        frozen = freeze(model)
        definition = frozen.graph.as_graph_def()
        # A graph does not know its outputs, and has other operators that nothing reads: they get names to know them by.
        for number, tensor in enumerate(frozen.outputs):
            node = definition.node.add(name=f"{OUTPUT}{number}", op="Identity", input=[tensor.name])
            node.attr["T"].type = tensor.dtype.as_datatype_enum
        artifact.write_bytes(definition.SerializeToString())

"""Keras on JAX, jitted, on a GPU: many dependent invocations in one dispatch, or small blocks would drown in it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from blsm.domains import Choice, Domain, Value
from blsm.errors import DeviceError
from blsm.profiles import Fingerprint
from blsm.profiling import machine
from blsm.profiling.devices.base import Device, Session
from blsm.profiling.timer import WorkerSession, worker_command

#: Says what JAX would run on. JAX takes hold of a GPU when it looks at it: that must not happen in this process.
_DESCRIBE = """
import json, sys
import jax
device = jax.devices(sys.argv[1])[0]
print(json.dumps({"device": device.device_kind, "driver": device.client.platform_version}))
"""


class Gpu(Device):
    """A GPU through Keras on JAX, jitted by XLA, float32 at JAX's default precision of products.

    The latency is that of one of many invocations of one dispatch, see `blsm.profiling.worker.chain`: what a network
    costs inside a running program, without the launch from Python. `platform=cpu` runs the same on the CPU, for tests;
    its name and its fingerprint say so.
    """

    key: ClassVar[str] = "gpu"
    summary: ClassVar[str] = "Keras on JAX, jitted, float32, many invocations in one dispatch"
    suffix: ClassVar[str] = ".keras"
    options: ClassVar[Mapping[str, Domain]] = {"platform": Choice("gpu", "cpu")}
    defaults: ClassVar[Mapping[str, Value]] = {"platform": "gpu"}

    @property
    def platform(self) -> str:
        """What JAX calls the kind of processor: `gpu` or `cpu`."""
        return str(self.settings["platform"])

    @property
    def exclusive(self) -> bool:
        return self.platform == "cpu"  # XLA takes all cores

    def missing(self) -> str | None:
        package = "'jax[cuda12]'" if self.platform == "gpu" else "jax"
        if importlib.util.find_spec("jax") is None:
            return f"pip install {package}"
        if "device" not in _describe(self.platform):
            return f"no {self.platform.upper()} that JAX can use; where there is one, pip install {package}"
        return None

    def fingerprint(self) -> Fingerprint:
        found = _describe(self.platform)
        if "device" not in found:
            raise DeviceError(f"{self.name} is not usable here: {found['error']}")
        host: dict[str, str | int] = {"cpu": machine.cpu_name(), "threads": len(machine.available_cores())}
        identity: dict[str, str | int] = {
            "platform": self.platform,
            "runtime": f"jax {version('jax')}, jaxlib {version('jaxlib')}",
            "compiler": f"keras {version('keras')}",
            "precision": "float32",
        }
        if self.platform == "cpu":
            return Fingerprint({**identity, **host})
        return Fingerprint({**identity, "gpu": found["device"], "driver": found["driver"]}, host)

    def compile(self, model: Any, artifact: Path) -> None:
        """Saves the model; XLA compiles it where it runs."""
        try:
            model.save(artifact)
        except OSError:
            raise
        except Exception as error:  # Keras raises many kinds
            raise DeviceError(f"Keras can't save the model: {type(error).__name__}: {error}") from error

    def open(self, core: int | None = None) -> Session:
        return WorkerSession(worker_command("jax", {"platform": self.platform}, None))


@lru_cache(maxsize=2)
def _describe(platform: str) -> Mapping[str, str]:
    """`device` and `driver` of the first such processor, or the `error` of looking for it."""
    try:
        found = subprocess.run(
            [sys.executable, "-c", _DESCRIBE, platform], capture_output=True, text=True, timeout=120, check=True
        )
        return dict(json.loads(found.stdout.splitlines()[-1]))
    except subprocess.CalledProcessError as error:
        return {"error": (error.stderr.strip().splitlines() or ["JAX died"])[-1]}
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {"error": f"{type(error).__name__}: {error}"}

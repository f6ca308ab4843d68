"""The devices that exist: built in, registered by the user, or installed with the entry point group `blsm.devices`."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points
from typing import TypeVar

from blsm.errors import DomainError, UnknownDeviceError
from blsm.profiling.devices.asic import Asic
from blsm.profiling.devices.base import Device, Protocol, Session
from blsm.profiling.devices.gpu import Gpu
from blsm.profiling.devices.litert import CloudCpu, EdgeCpu, EdgeCpuInt8
from blsm.profiling.devices.onnx import OnnxCpu
from blsm.profiling.devices.openvino import OpenVinoCpu
from blsm.profiling.devices.tensorflow import TensorFlowCpu

__all__ = ["Device", "Protocol", "Session", "device", "devices", "register_device"]

_devices: dict[str, type[Device]] = {}
DeviceClass = TypeVar("DeviceClass", bound=type[Device])


def register_device(device_class: DeviceClass) -> DeviceClass:
    """Class decorator that makes a device known under its `key`."""
    _devices[device_class.key] = device_class
    return device_class


register_device(EdgeCpu)
register_device(EdgeCpuInt8)
register_device(CloudCpu)
register_device(TensorFlowCpu)
register_device(OpenVinoCpu)
register_device(OnnxCpu)
register_device(Asic)
register_device(Gpu)


@lru_cache(maxsize=1)
def _load_installed() -> None:
    for point in entry_points(group="blsm.devices"):
        register_device(point.load())


def devices() -> dict[str, type[Device]]:
    """All devices by key."""
    _load_installed()
    return dict(_devices)


def device(name: str) -> Device:
    """The device of this name: its key, then options if any, e.g. `edge_cpu@threads=2`.

    Raises:
        UnknownDeviceError: there is none; it names the known ones and the closest.
        DomainError: it has no such option, or the option no such value.
    """
    key, _, chosen = name.partition("@")
    known = devices()
    if key not in known:
        raise UnknownDeviceError(key, known)
    make = known[key]
    values: dict[str, object] = {}
    for part in chosen.split(",") if chosen else ():
        option, equals, text = part.partition("=")
        if not equals:
            raise DomainError(f"device options are written {key}@option=value, got {name!r}")
        values[option] = _number(text)
    return make(**values)


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text

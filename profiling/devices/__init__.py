"""The devices that exist: built in, registered by the user, or installed with the entry point group `blsm.devices`."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points
from typing import TypeVar

from blsm.profiling.devices.base import Device, Protocol, Session
from blsm.profiling.devices.litert import EdgeCpu

from blsm.errors import UnknownDeviceError

__all__ = ["Device", "Protocol", "Session", "device", "devices", "register_device"]

_devices: dict[str, type[Device]] = {}
DeviceClass = TypeVar("DeviceClass", bound=type[Device])


def register_device(device_class: DeviceClass) -> DeviceClass:
    """Class decorator that makes a device known under its `name`."""
    _devices[device_class.name] = device_class
    return device_class


register_device(EdgeCpu)


@lru_cache(maxsize=1)
def _load_installed() -> None:
    for point in entry_points(group="blsm.devices"):
        register_device(point.load())


def devices() -> dict[str, type[Device]]:
    """All devices by name."""
    _load_installed()
    return dict(_devices)


def device(name: str) -> Device:
    """The device of this name.

    Raises:
        UnknownDeviceError: there is none; it names the known ones and the closest.
    """
    known = devices()
    if name not in known:
        raise UnknownDeviceError(name, known)
    return known[name]()

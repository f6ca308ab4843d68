"""A latency model of a new device from a few measurements, with the help of a pool of known devices.

pool = DevicePool(encodings, {"edge_cpu": latencies_ms, ...})
method = transfer_method("block_prior")(seed=0).fit(pool)
rows = method.references(pool, 10)                    # measure these on the new device
predictor = method.adapt(pool.encodings[rows], measured_ms)
predictor.predict(encodings)                          # milliseconds
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from blsm.errors import UnknownMethodError
from blsm.transfer.base import Method, Predictor
from blsm.transfer.pool import DevicePool, Graph

#: Built-in methods, by class: where each is. They are imported when they are asked for.
_MODULES = {
    "BlockPrior": "block_prior",
    "FromScratch": "baselines",
    "Help": "help",
    "KnownDevices": "baselines",
    "Maple": "maple",
    "Median": "baselines",
    "MultiPredict": "multi_predict",
    "NearestDevice": "baselines",
}
_BUILTIN = {
    "block_prior": "BlockPrior",
    "from_scratch": "FromScratch",
    "help": "Help",
    "known_devices": "KnownDevices",
    "maple": "Maple",
    "median": "Median",
    "multi_predict": "MultiPredict",
    "nearest_device": "NearestDevice",
}

__all__ = [
    "BlockPrior",
    "DevicePool",
    "FromScratch",
    "Graph",
    "Help",
    "KnownDevices",
    "Maple",
    "Median",
    "Method",
    "MultiPredict",
    "NearestDevice",
    "Predictor",
    "register_transfer_method",
    "transfer_method",
    "transfer_methods",
]

_registered: dict[str, type[Method]] = {}
MethodClass = TypeVar("MethodClass", bound=type[Method])


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def register_transfer_method(cls: MethodClass) -> MethodClass:
    """Class decorator that makes a method known under its `name`; packages use the entry point `blsm.transfer`."""
    _registered[cls.name] = cls
    return cls


def transfer_methods() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    installed = {point.name for point in entry_points(group="blsm.transfer")}
    return tuple(sorted({*_BUILTIN, *_registered, *installed}))


def transfer_method(name: str) -> type[Method]:
    """The class of the method of this name.

    Raises:
        UnknownMethodError: there is none; it names the known ones and the closest.
    """
    if name in _registered:
        return _registered[name]
    if name in _BUILTIN:
        found: type[Method] = __getattr__(_BUILTIN[name])
        return found
    for point in entry_points(group="blsm.transfer", name=name):
        installed: type[Method] = point.load()
        return register_transfer_method(installed)
    raise UnknownMethodError(name, transfer_methods())

"""Timing one network."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from blsm.errors import DeviceError
from blsm.profiles import Chain, Visit
from blsm.profiling import machine
from blsm.profiling.devices.base import Device, Protocol

if TYPE_CHECKING:
    import keras


def measure_model(model: keras.Model | Chain, device: Device, protocol: Protocol | None = None) -> list[Visit]:
    """Times a Keras model, or a chain of blocks; its latency is the minimum over all visits.

    Args:
        model: with a fixed input shape, batch axis aside; or block configs in order.
        device: measures it.
        protocol: how to time; `Protocol.of_networks()` if None.

    Raises:
        DeviceError: the device is not usable here, or the model can't be compiled or run on it.
    """
    protocol = protocol or Protocol.of_networks()
    if (lacking := device.missing()) is not None:
        raise DeviceError(f"{device.name} is not usable here: {lacking}")
    for tensor in () if isinstance(model, tuple) else model.inputs:
        if None in tensor.shape[1:]:
            raise DeviceError(f"the model's input shape {tensor.shape} is open: only its batch axis may be None")
    core, _ = machine.split_cores()
    with tempfile.TemporaryDirectory() as folder, device.open(core) as session:
        artifact = Path(folder) / f"model{device.suffix}"
        if isinstance(model, tuple):
            device.compile_blocks(model, artifact)
        else:
            device.compile(model, artifact)
        visits: list[Visit] = []
        disturbed: list[Visit] = []
        while protocol.visits_left([visit.minimum_ns for visit in visits]):
            visit = session.visit(artifact, protocol)
            # A machine that is slow for good is measured as it is.
            is_last = len(disturbed) >= 2 * protocol.visits
            (disturbed if visit.disturbed and not is_last else visits).append(visit)
        return visits

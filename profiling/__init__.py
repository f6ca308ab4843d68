"""Measuring blocks and networks on devices."""

from blsm.profiling.campaign import Campaign, CampaignReport
from blsm.profiling.devices import Device, Protocol, Session, device, devices, register_device
from blsm.profiling.hosts import RemoteDevice
from blsm.profiling.single import measure_model

__all__ = [
    "Campaign",
    "CampaignReport",
    "Device",
    "Protocol",
    "RemoteDevice",
    "Session",
    "device",
    "devices",
    "measure_model",
    "register_device",
]

"""Devices: where models run, and how long that takes."""

from __future__ import annotations

from edgec.devices.base import Device, Latency, Pair
from edgec.devices.local import LocalDevice
from edgec.devices.measure import PRESETS, compare, measure_pair
from edgec.devices.null import NullDevice
from edgec.devices.stats import Comparison, Verdict

__all__ = [
    "PRESETS",
    "Comparison",
    "Device",
    "Latency",
    "LocalDevice",
    "NullDevice",
    "Pair",
    "Verdict",
    "compare",
    "measure_pair",
]

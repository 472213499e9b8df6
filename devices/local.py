"""This machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.devices.base import Run

_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")


@dataclass(frozen=True)
class LocalDevice:
    """This machine, with its clocks as they are."""

    name = "local"

    @property
    def margin(self) -> float:
        """0.01 under the performance governor, else 0.03."""
        return 0.01 if _text(_CPUFREQ / "scaling_governor") == "performance" else 0.03

    def facts(self) -> Mapping[str, Any]:
        """Processor, free cores, clocks and load; None where the system does not tell."""
        return {
            "system": platform.system(),
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": _cores(),
            "governor": _text(_CPUFREQ / "scaling_governor"),
            "khz": _number(_CPUFREQ / "scaling_cur_freq"),
            "max_khz": _number(_CPUFREQ / "cpuinfo_max_freq"),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        }

    def now(self) -> int:
        """The monotonic clock, ns."""
        return time.perf_counter_ns()

    def timed(self, run: Run) -> int:
        """Run once: ns."""
        start = time.perf_counter_ns()
        run()
        return time.perf_counter_ns() - start


def _cores() -> int | None:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _processor() -> str | None:
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.isdecimal() else None

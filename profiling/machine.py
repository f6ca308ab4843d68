"""What this machine is, and how its cores are shared between measuring and compiling."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_name() -> str:
    """Model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in pairs}
    # Virtual machines often name the vendor only: family and model tell generations apart.
    parts = [fields.get("model name", platform.machine())]
    parts += [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return " ".join(parts)


def governor() -> str:
    """Frequency governor of the first core, `unknown` where the kernel does not tell."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return "unknown"


def available_cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def split_cores() -> tuple[int | None, list[int]]:
    """(measuring core, other cores): the last core measures alone; with one core only, nothing is pinned."""
    cores = available_cores()
    return (cores[-1], cores[:-1]) if len(cores) > 1 else (None, cores)

"""What this machine is, and how its cores are shared between measuring and compiling."""

from __future__ import annotations

from blsm.profiling.worker import available_cores, cpu_name, exhausted, governor, memory_limit

__all__ = ["available_cores", "cpu_name", "exhausted", "governor", "memory_limit", "split_cores"]


def split_cores() -> tuple[int | None, list[int]]:
    """(measuring core, other cores): the last core measures alone; with one core only, nothing is pinned."""
    cores = available_cores()
    return (cores[-1], cores[:-1]) if len(cores) > 1 else (None, cores)

"""The Linux kernel's performance counters of processes that this one starts, through perf_event_open(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Self

_HARDWARE, _SOFTWARE, _CACHE = 0, 1, 3  # PERF_TYPE_*
_L1D, _LLC = 0, 2  # PERF_COUNT_HW_CACHE_*


def _cache(cache: int, store: bool, miss: bool) -> tuple[int, int]:
    return _CACHE, cache | store << 8 | miss << 16


#: The ten counters of MAPLE (Abbasi et al. 2022, Table 1), as type and config of the kernel.
HARDWARE_COUNTERS: Mapping[str, tuple[int, int]] = {
    "cycles": (_HARDWARE, 0),
    "instructions": (_HARDWARE, 1),
    "cache_references": (_HARDWARE, 2),
    "cache_misses": (_HARDWARE, 3),
    "l1d_loads": _cache(_L1D, store=False, miss=False),
    "l1d_load_misses": _cache(_L1D, store=False, miss=True),
    "llc_loads": _cache(_LLC, store=False, miss=False),
    "llc_load_misses": _cache(_LLC, store=False, miss=True),
    "llc_stores": _cache(_LLC, store=True, miss=False),
    "llc_store_misses": _cache(_LLC, store=True, miss=True),
}
#: What the kernel itself counts, with or without such hardware.
SOFTWARE_COUNTERS: Mapping[str, tuple[int, int]] = {
    "task_clock_ns": (_SOFTWARE, 1),
    "page_faults": (_SOFTWARE, 2),
    "context_switches": (_SOFTWARE, 3),
    "cpu_migrations": (_SOFTWARE, 4),
}
#: These happen inside the kernel: where only user mode may be counted, they would always read 0.
_KERNEL_ONLY = frozenset({"context_switches", "cpu_migrations"})
_SYSCALLS = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "armv7l": 364, "ppc64le": 319, "s390x": 331}
_ATTRIBUTE_BYTES = 112
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6
_WITH_TIMES = 1 | 2  # PERF_FORMAT_TOTAL_TIME_ENABLED, PERF_FORMAT_TOTAL_TIME_RUNNING


class PerfCounters:
    """Counts what child processes do that start while it is open; this thread's own work counts, too.

    Attributes:
        missing: counter -> why it is not available.
    """

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self._files: dict[str, int] = {}
        for name, (kind, config) in {**HARDWARE_COUNTERS, **SOFTWARE_COUNTERS}.items():
            try:
                self._files[name] = _open(kind, config, user_only=False)
            except PermissionError as error:
                try:
                    if name in _KERNEL_ONLY:
                        raise
                    self._files[name] = _open(kind, config, user_only=True)
                except OSError:
                    self.missing[name] = f"not permitted ({error.strerror}); see /proc/sys/kernel/perf_event_paranoid"
            except OSError as error:
                self.missing[name] = (
                    f"neither kernel nor CPU offer it here ({errno.errorcode.get(error.errno or 0, error)})"
                )

    def read(self) -> dict[str, tuple[int, int, int]]:
        """Counter -> count so far, and for how many ns it was asked for and really counted."""
        return {name: struct.unpack("QQQ", os.read(file, 24)) for name, file in self._files.items()}

    def close(self) -> None:
        """Stops counting."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def counts_between(
    before: Mapping[str, tuple[int, int, int]], after: Mapping[str, tuple[int, int, int]]
) -> dict[str, float | None]:
    """Counter -> count between two readings.

    A counter that had to share its hardware with others is scaled up to the whole time; None where it never ran.
    """
    counts: dict[str, float | None] = {}
    for name, (count, asked, ran) in after.items():
        count, asked, ran = count - before[name][0], asked - before[name][1], ran - before[name][2]
        counts[name] = count * asked / ran if ran > 0 else None
    return counts


def _open(kind: int, config: int, *, user_only: bool) -> int:
    """The file of a counter; raises OSError where there is none."""
    number = _SYSCALLS.get(platform.machine())
    if number is None or platform.system() != "Linux":
        raise OSError(0, f"unknown on {platform.system()} {platform.machine()}")
    flags = _INHERIT | _EXCLUDE_HYPERVISOR | (_EXCLUDE_KERNEL if user_only else 0)
    attributes = struct.pack("IIQQQQQ", kind, _ATTRIBUTE_BYTES, config, 0, 0, _WITH_TIMES, flags)
    libc = ctypes.CDLL(None, use_errno=True)
    file = int(libc.syscall(number, attributes.ljust(_ATTRIBUTE_BYTES, b"\0"), 0, -1, -1, 0))
    if file < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return file

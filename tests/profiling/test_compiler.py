from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import blsm
from blsm.errors import DeviceError, StoreError
from blsm.profiling.compiler import CompileProcess
from blsm.testing import FakeDevice

CHAIN = (blsm.block_family("conv").sample(1)[0],)


def _compiler(tmp_path: Path, device: FakeDevice | None = None) -> CompileProcess:
    return CompileProcess(device or FakeDevice(), sorted(os.sched_getaffinity(0)), tmp_path / "log")


def test_a_killed_compiler_is_replaced(tmp_path: Path) -> None:
    compiler = _compiler(tmp_path)
    try:
        compiler.compile(CHAIN, tmp_path / "a.json")
        assert compiler._child is not None
        os.kill(compiler._child[0].pid or 0, signal.SIGKILL)
        with pytest.raises(DeviceError, match="died with status -9"):
            compiler.compile(CHAIN, tmp_path / "b.json")
        compiler.compile(CHAIN, tmp_path / "c.json")
        assert (tmp_path / "c.json").read_text() == (tmp_path / "a.json").read_text()
    finally:
        compiler.close()


def test_a_full_disk_is_not_the_chains_fault(tmp_path: Path) -> None:
    compiler = _compiler(tmp_path)
    try:
        with pytest.raises(StoreError, match="cannot write"):
            compiler.compile(CHAIN, tmp_path / "no such folder" / "a.json")
    finally:
        compiler.close()


def test_a_refused_chain_says_why(tmp_path: Path) -> None:
    compiler = _compiler(tmp_path, FakeDevice(fails=[CHAIN]))
    try:
        with pytest.raises(DeviceError, match="the fake compiler refused it"):
            compiler.compile(CHAIN, tmp_path / "a.json")
    finally:
        compiler.close()

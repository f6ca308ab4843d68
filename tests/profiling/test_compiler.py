from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import blsm
from blsm.errors import DeviceError, StoreError
from blsm.profiles import Chain
from blsm.profiling.compiler import CompileProcess
from blsm.testing import FakeDevice

CHAIN = (blsm.block_family("conv").sample(1)[0],)


class Deadly(FakeDevice):
    """Kills the process that compiles, as long as the fuse, a file, has characters left."""

    def __init__(self, fuse: Path) -> None:
        super().__init__()
        self.fuse = fuse

    def compile_blocks(self, blocks: Chain, artifact: Path) -> None:
        if left := self.fuse.read_text():
            self.fuse.write_text(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        super().compile_blocks(blocks, artifact)


class Greedy(FakeDevice):
    """Takes memory until it is stopped."""

    def compile_blocks(self, blocks: Chain, artifact: Path) -> None:
        taken = []
        while True:
            taken.append(b"x" * 2**24)


def _compiler(tmp_path: Path, device: FakeDevice | None = None, memory_bytes: int | None = None) -> CompileProcess:
    cores = sorted(os.sched_getaffinity(0))
    return CompileProcess(device or FakeDevice(), cores, tmp_path / "log", memory_bytes=memory_bytes)


def test_a_compiler_that_is_killed_between_chains_is_replaced(tmp_path: Path) -> None:
    compiler = _compiler(tmp_path)
    try:
        compiler.compile(CHAIN, tmp_path / "a.json")
        assert compiler._child is not None
        os.kill(compiler._child[0].pid or 0, signal.SIGKILL)
        compiler.compile(CHAIN, tmp_path / "b.json")
        assert (tmp_path / "b.json").read_text() == (tmp_path / "a.json").read_text()
    finally:
        compiler.close()


def test_a_chain_whose_compiler_is_killed_is_tried_again_once(tmp_path: Path) -> None:
    fuse = tmp_path / "fuse"
    compiler = _compiler(tmp_path, Deadly(fuse))
    try:
        fuse.write_text("x")
        compiler.compile(CHAIN, tmp_path / "a.json")
        assert (tmp_path / "a.json").is_file()
        fuse.write_text("xx")
        with pytest.raises(DeviceError, match="the compiler died with status -9, twice"):
            compiler.compile(CHAIN, tmp_path / "b.json")
        compiler.compile(CHAIN, tmp_path / "c.json")
        assert (tmp_path / "c.json").read_text() == (tmp_path / "a.json").read_text()
    finally:
        compiler.close()


def test_a_chain_that_exhausts_memory_fails_and_the_next_one_does_not(tmp_path: Path) -> None:
    compiler = _compiler(tmp_path, Greedy(), memory_bytes=512 * 2**20)
    try:
        with pytest.raises(DeviceError, match=r"out of memory: it took \d+ MiB, 512 MiB are free for it"):
            compiler.compile(CHAIN, tmp_path / "a.json")
        compiler._device = FakeDevice()
        compiler.compile(CHAIN, tmp_path / "b.json")
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

"""Other machines through ssh: the loopback, with a real sshd of the test's own."""

from __future__ import annotations

import getpass
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import blsm
from blsm.cli.main import main
from blsm.errors import DeviceError, DomainError, FingerprintError, HostError
from blsm.profiles import Chain, ProfileStore
from blsm.profiling import Campaign, Protocol, RemoteDevice, campaign, device, hosts
from blsm.profiling.devices.litert import EdgeCpu
from blsm.profiling.hosts import Host, HostSession, parse_hosts
from blsm.testing import FakeDevice

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None, reason="needs sshd: apt install openssh-server openssh-client"
)
#: Visits and invocations are counted here, however busy the machine is.
PROTOCOL = Protocol(visits=2, invocations=5, max_visit_s=None, patience_s=0.0)
CHAINS: list[Chain] = [(config,) for config in blsm.block_family("conv").sample(6, seed=0)]


@pytest.mark.parametrize(
    "text",
    [
        "board",
        "ssh://",
        "ssh://-oProxyCommand=id",
        "ssh://-l@board",
        "ssh://user@-board",
        "ssh://board;id",
        "ssh://board\n",
        "ssh://$(id)@board",
        "ssh://board:0",
        "ssh://board:65536",
        "ssh://board:22x",
        "ssh://board?python=-c",
        "ssh://board?python=python3;id",
        "ssh://board?python=python3 -S",
        "ssh://board/path",
        "ssh://board,",
    ],
)
def test_what_is_no_plain_host_is_refused(text: str) -> None:
    with pytest.raises(DomainError, match="must be written ssh://"):
        parse_hosts(text)


def test_hosts_are_read_and_written() -> None:
    board, other = parse_hosts("ssh://me@board:2222?python=/opt/py/bin/python3, ssh://[::1]")
    assert board == Host("board", "me", 2222, "/opt/py/bin/python3")
    assert (str(board), str(other)) == ("me@board:2222", "[::1]")
    assert board.command(Path("config"))[-9:-1] == ["-F", "config", "-p", "2222", "-l", "me", "--", "board"]
    assert other.command(None)[-2] == "::1"


@pytest.mark.parametrize(
    ("hosts", "complaint"),
    [
        ("ssh://a,ssh://a", "host a is named twice"),
        ("ssh://board,ssh://board:22", "hosts board and board:22 are one machine"),
        ("ssh://me@board:22,ssh://other@Board", "hosts me@board:22 and other@Board are one machine"),
    ],
)
def test_a_machine_is_named_once(hosts: str, complaint: str) -> None:
    with pytest.raises(DomainError, match=complaint):
        parse_hosts(hosts)


def test_only_what_a_worker_can_time_goes_elsewhere() -> None:
    with pytest.raises(DeviceError, match="leave --host away"):
        RemoteDevice(FakeDevice(), "ssh://board")


class Precompiled(EdgeCpu):
    """Has one artifact for all blocks, so that a campaign need not import TensorFlow."""

    def __init__(self, artifact: Path) -> None:
        super().__init__()
        self.artifact = artifact

    def compile_blocks(self, blocks: Chain, artifact: Path) -> None:
        shutil.copy(self.artifact, artifact)


@pytest.fixture(scope="module")
def precompiled(tmp_path_factory: pytest.TempPathFactory) -> Precompiled:
    artifact = tmp_path_factory.mktemp("precompiled") / "artifact"
    device("edge_cpu").compile_blocks(CHAINS[0], artifact)
    return Precompiled(artifact)


@dataclass
class _Server:
    """sshd processes, each on a port of its own, and the client's configuration for them."""

    folder: Path
    config: Path
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, address: str = "127.0.0.1", python: str = sys.executable) -> str:
        """Starts one more; returns it as a host."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 0), family=family) as free:
            port = free.getsockname()[1]
        settings = self.folder / f"sshd_{port}"
        settings.write_text(
            f"Port {port}\nListenAddress {address}\nHostKey {self.folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/user.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            f"SetEnv TMPDIR={self.folder}\n"
        )
        assert SSHD is not None
        self.processes[port] = subprocess.Popen([SSHD, "-D", "-e", "-f", settings], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((address, port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        return self.host(port, python, address)

    def host(self, port: int, python: str = sys.executable, address: str = "127.0.0.1") -> str:
        name = f"[{address}]" if ":" in address else address
        return f"ssh://{getpass.getuser()}@{name}:{port}?python={python}"

    def python(self, name: str, shell: str = "", at_start: str = "") -> str:
        """A Python for a host, after shell commands, that runs code before anything else."""
        (self.folder / f"{name}_path").mkdir()
        (self.folder / f"{name}_path" / "sitecustomize.py").write_text(at_start)
        script = self.folder / name
        script.write_text(
            f'#!/bin/sh\n{shell}\nexport PYTHONPATH={self.folder}/{name}_path\nexec {sys.executable} "$@"\n'
        )
        script.chmod(0o755)
        return str(script)

    def kill(self, number: int) -> None:
        """Kills one of them, with the connections that it serves."""
        process = list(self.processes.values())[number]
        process.send_signal(signal.SIGSTOP)
        for pid in [*_descendants(process.pid), process.pid]:
            if "sshd" in Path(f"/proc/{pid}/comm").read_text():
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [found for child in children for found in (child, *_descendants(child))]


def _pythons(pid: int) -> list[int]:
    """What runs Python on behalf of a process."""
    found = [child for child in _descendants(pid) if "python" in Path(f"/proc/{child}/comm").read_text()]
    assert found
    return found


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Server]:
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    Path("/run/sshd").mkdir(exist_ok=True) if os.getuid() == 0 else None
    known = "127.0.0.1 " + (tmp_path / "host.pub").read_text()
    (tmp_path / "known_hosts").write_text(known)
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host *\n  IdentityFile {tmp_path}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {tmp_path}/known_hosts\n"
        "  GlobalKnownHostsFile /dev/null\n  HostKeyAlias 127.0.0.1\n"
    )
    server = _Server(tmp_path, config)
    yield server
    for process in server.processes.values():
        process.kill()
        process.wait()


@needs_sshd
def test_two_hosts_share_a_campaign(server: _Server, tmp_path: Path) -> None:
    hosts = f"{server.start()},{server.start()}"
    remote = RemoteDevice(device("edge_cpu"), hosts, server.config)
    assert remote.name == "edge_cpu"
    assert remote.fingerprint() == device("edge_cpu").fingerprint()
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(remote, store, PROTOCOL).run(CHAINS)
        visits = [visit for profile in store.profiles("edge_cpu") for visit in profile.visits]
    assert (report.complete, report.failed, report.lost) == (len(CHAINS), {}, [])
    assert all(visit.invocations == 5 and visit.minimum_ns > 0 for visit in visits)
    assert report.transfer_s > 0
    assert report.measuring_s > 0
    assert 0 <= report.idle_share < 1


@needs_sshd
def test_an_artifact_that_the_runtime_refuses_is_not_the_hosts_fault(server: _Server, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.write_bytes(b"no flatbuffer")
    device("edge_cpu").compile_blocks(CHAINS[0], good)
    with RemoteDevice(device("edge_cpu"), server.start(), server.config).open() as session:
        for artifact in (bad, bad):
            with pytest.raises(DeviceError) as caught:
                session.visit(artifact, PROTOCOL)
            assert not isinstance(caught.value, HostError)
        assert session.visit(good, PROTOCOL).invocations == 5
        # The measuring process there, not the one that holds the connection.
        worker = subprocess.run(
            ["pgrep", "-f", f"{tmp_path}/blsm-.*worker.py"], capture_output=True, text=True
        ).stdout.split()
        assert len(worker) == 1
        folder = Path(f"/proc/{worker[0]}/cmdline").read_text().split("\0")[1]
        os.kill(int(worker[0]), 11)
        with pytest.raises(DeviceError, match="died with status -11") as caught:
            session.visit(good, PROTOCOL)
        assert not isinstance(caught.value, HostError)
        assert session.visit(good, PROTOCOL).invocations == 5
    assert not Path(folder).parent.exists()


@needs_sshd
def test_hosts_that_cannot_be_used_say_why(server: _Server, tmp_path: Path) -> None:
    host = server.start()
    port = next(iter(server.processes))

    def refuses(text: str) -> str:
        with pytest.raises(HostError) as caught:
            RemoteDevice(device("edge_cpu"), text, server.config).open()
        return str(caught.value)

    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    assert "refused; check its name and port" in refuses(server.host(closed))
    assert "name its Python" in refuses(server.host(port, "/no/such/python"))
    venv.create(tmp_path / "bare", symlinks=True)
    assert "has no ai-edge-litert and no numpy: pip install" in refuses(
        server.host(port, str(tmp_path / "bare" / "bin" / "python"))
    )
    (tmp_path / "known_hosts").write_text("127.0.0.1 " + (tmp_path / "other.pub").read_text())
    assert "its key is unknown or has changed" in refuses(host)
    (tmp_path / "known_hosts").write_text("127.0.0.1 " + (tmp_path / "host.pub").read_text())
    (tmp_path / "user.pub").write_text((tmp_path / "other.pub").read_text())
    assert "a key must log in" in refuses(host)


class _Cut(FakeDevice):
    """Two or more fake hosts, of which some are lost after a few visits."""

    def __init__(self, visits: list[int]) -> None:
        super().__init__(visit_s=0.002)
        self.visits = visits

    def sessions(self, core: int | None = None) -> list[object]:  # type: ignore[override]
        return [_cut(self.open(), number, visits) for number, visits in enumerate(self.visits)]


def _cut(session: object, number: int, visits: int) -> object:
    visit: Callable[..., object] = session.visit  # type: ignore[attr-defined]
    left = [visits]

    def cut(*arguments: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise HostError(f"no connection to host {number}")
        return visit(*arguments)

    session.visit = cut  # type: ignore[attr-defined]
    return session


def test_a_lost_host_gives_its_work_to_the_others(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(_Cut([5, 10_000]), store, PROTOCOL).run(CHAINS)
        assert (report.complete, report.failed, report.lost) == (len(CHAINS), {}, ["no connection to host 0"])
        assert all(len(profile.visits) >= 2 for profile in store.profiles("fake"))


def test_the_last_host_that_is_lost_ends_the_campaign_and_nothing_is_lost_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "_SENTINEL_INTERVAL_S", 600.0)
    # More than both hosts hold and visit: one with nothing left to visit would turn to the sentinel again.
    chains: list[Chain] = [(config,) for config in blsm.block_family("conv").sample(30, seed=0)]
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        with pytest.raises(HostError, match="no host is left: what was measured is stored"):
            Campaign(_Cut([4, 3]), store, PROTOCOL).run(chains)
        profiles = store.profiles("fake")
        # Each host's first visit is the sentinel's.
        assert sum(len(profile.visits) for profile in profiles) == 5
        assert all(profile.failure is None for profile in profiles)
        assert Campaign(FakeDevice(), store, PROTOCOL).run(chains).complete == len(chains)


@needs_sshd
def test_a_connection_cut_in_the_middle_of_a_visit_is_the_hosts_fault(server: _Server, tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    device("edge_cpu").compile_blocks(CHAINS[0], artifact)
    long = Protocol(invocations=10**7, max_visit_s=20, min_invocations=10)
    with RemoteDevice(device("edge_cpu"), server.start(), server.config).open() as session:
        assert isinstance(session, HostSession)
        threading.Timer(0.5, session._process.terminate).start()
        with pytest.raises(HostError, match="no connection to host"):
            session.visit(artifact, long)


@needs_sshd
def test_hosts_that_differ_are_refused(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    start = HostSession._start

    def odd(self: HostSession, *arguments: object) -> dict[str, object]:
        facts = start(self, *arguments)  # type: ignore[arg-type]
        return {**facts, "governor": self.name.rpartition(":")[2]}

    monkeypatch.setattr(HostSession, "_start", odd)
    with pytest.raises(FingerprintError, match="is not like .*governor"):
        RemoteDevice(device("edge_cpu"), f"{server.start()},{server.start()}", server.config).fingerprint()


def _killer(server: _Server, number: int, after: int) -> Callable[[int], None]:
    """A campaign's progress that kills a server after some visits."""
    settled = []

    def progress(count: int) -> None:
        settled.append(count)
        if len(settled) == after:
            server.kill(number)

    return progress


@needs_sshd
def test_a_server_killed_in_the_middle_of_a_campaign_gives_its_work_to_the_other(
    server: _Server, precompiled: Precompiled, tmp_path: Path
) -> None:
    remote = RemoteDevice(precompiled, f"{server.start()},{server.start()}", server.config)
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(remote, store, PROTOCOL, progress=_killer(server, 0, 2)).run(CHAINS)
        visits = [len(profile.visits) for profile in store.profiles("edge_cpu")]
    assert (report.complete, report.failed, report.stopped) == (len(CHAINS), {}, None)
    (lost,) = report.lost
    assert f"no connection to host {getpass.getuser()}@127.0.0.1:{next(iter(server.processes))}" in lost
    assert all(2 <= number <= 4 for number in visits)


@needs_sshd
def test_the_only_server_killed_ends_a_campaign_that_another_run_continues(
    server: _Server, precompiled: Precompiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "_SLOW", math.inf)  # visits on a slow device are stored, but not counted
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        first = RemoteDevice(precompiled, server.start(), server.config)
        with pytest.raises(HostError, match="no host is left: what was measured is stored, run again to continue"):
            Campaign(first, store, PROTOCOL, progress=_killer(server, 0, 3)).run(CHAINS)
        stored = sum(len(profile.visits) for profile in store.profiles("edge_cpu"))
        assert stored >= 3
        assert not (tmp_path / "p.db.work").exists()
        second = RemoteDevice(precompiled, server.start(), server.config)
        report = Campaign(second, store, PROTOCOL).run(CHAINS)
        assert (report.complete, report.failed) == (len(CHAINS), {})
        assert sum(len(profile.visits) for profile in store.profiles("edge_cpu")) == stored + report.visits


@needs_sshd
def test_hosts_that_cannot_be_used_at_the_start_are_done_without(
    server: _Server, precompiled: Precompiled, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = server.host(free.getsockname()[1])
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        remote = RemoteDevice(precompiled, f"{closed},{server.start()}", server.config)
        report = Campaign(remote, store, PROTOCOL).run(CHAINS[:2])
        assert report.complete == 2
        (lost,) = report.lost
        assert "refused; check its name and port" in lost
        with pytest.raises(HostError, match="refused; check its name and port"):
            Campaign(RemoteDevice(precompiled, closed, server.config), store, PROTOCOL).run(CHAINS)


@needs_sshd
def test_a_host_that_goes_silent_is_lost(
    server: _Server, precompiled: Precompiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RemoteDevice(precompiled, server.start(), server.config).open() as session:
        session.visit(precompiled.artifact, PROTOCOL)
        monkeypatch.setattr(hosts, "_PATIENCE_S", 0.5)
        (sshd,) = server.processes.values()
        frozen = _pythons(sshd.pid)
        _signal(frozen, signal.SIGSTOP)
        with pytest.raises(HostError, match="it went silent"):
            session.visit(precompiled.artifact, replace(PROTOCOL, timeout_s=0.5))
    _signal(frozen, signal.SIGKILL)


_VISITOR = """
import sys
from pathlib import Path
from blsm.profiling import Protocol, RemoteDevice, device, hosts
host, config, artifact = sys.argv[1:]
with RemoteDevice(device("edge_cpu"), host, Path(config)).open() as session:
    print("open", flush=True)
    input()
    hosts._PATIENCE_S = 0.5
    print(session.visit(Path(artifact), Protocol(invocations=5, timeout_s=2.5, patience_s=0.0)).minimum_ns > 0)
"""


@needs_sshd
def test_a_host_does_not_go_silent_while_the_campaign_is_stopped(server: _Server, precompiled: Precompiled) -> None:
    command = [sys.executable, "-c", _VISITOR, server.start(), str(server.config), str(precompiled.artifact)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        (sshd,) = server.processes.values()
        remote = _pythons(sshd.pid)
        _signal(remote, signal.SIGSTOP)
        process.stdin.write(b"visit\n")
        process.stdin.flush()
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(3.5)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.5)
        _signal(remote, signal.SIGCONT)
        assert process.communicate(timeout=60)[0] == b"True\n"


@needs_sshd
def test_a_hosts_clock_may_be_anything(server: _Server, precompiled: Precompiled, tmp_path: Path) -> None:
    python = server.python(
        "odd_clock", at_start="import itertools, time\ntime.time = lambda n=itertools.count(9, -3): 1e9 * next(n)\n"
    )
    remote = RemoteDevice(precompiled, server.start(python=python), server.config)
    before = time.time()
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(remote, store, PROTOCOL).run(CHAINS[:3])
        visits = [visit for profile in store.profiles("edge_cpu") for visit in profile.visits]
    assert (report.complete, report.failed) == (3, {})
    assert all(before <= visit.started_s <= time.time() and visit.minimum_ns > 0 for visit in visits)


@needs_sshd
def test_a_full_disk_is_the_hosts_fault(server: _Server, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(2**20))
    python = server.python("small_disk", shell="ulimit -f 200")  # blocks of 512 bytes
    remote = RemoteDevice(device("edge_cpu"), server.start(python=python), server.config)
    complaint = "not usable: cannot keep an artifact in .*: File too large"
    with remote.open() as session, pytest.raises(HostError, match=complaint):
        session.visit(large, PROTOCOL)
    none = server.python("no_disk", shell="ulimit -f 1")
    with pytest.raises(HostError, match="not usable: it can't write temporary files: File too large"):
        RemoteDevice(device("edge_cpu"), server.start(python=none), server.config).open()


@needs_sshd
def test_another_architecture_is_another_machine(server: _Server, tmp_path: Path) -> None:
    odd = server.python("odd_machine", at_start="import platform\nplatform.machine = lambda: 'riscv64'\n")
    remote = RemoteDevice(device("edge_cpu"), server.start(python=odd), server.config)
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        store.register_device("edge_cpu", device("edge_cpu").fingerprint())
        with pytest.raises(FingerprintError, match="architecture: 'riscv64' against"):
            Campaign(remote, store, PROTOCOL).run(CHAINS)


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@needs_sshd
@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on the loopback")
def test_the_command_line_measures_elsewhere(
    server: _Server, tmp_path: Path, keras_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = ["--host", server.start("::1"), "--ssh-config", str(server.config)]
    store = ["--store", str(tmp_path / "p.db")]
    assert main(["profile", "--block", "head", "--samples", "2", "--visits", "2", *host, *store]) == 0
    assert "3 of 3 blocks on edge_cpu are complete" in capsys.readouterr().out
    assert main(["measure", str(keras_file), "--invocations", "5", "--json", *host]) == 0
    assert json.loads(capsys.readouterr().out)["latency_ms"] > 0
    server.kill(0)
    assert main(["measure", str(keras_file), *host]) == 2
    said = capsys.readouterr().err
    assert "blsm: error: no connection to host" in said
    assert said.count("\n") == 1

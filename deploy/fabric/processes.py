"""Starting, finding again and stopping the processes of a network, each by its own id.

A process is written down with the moment it started, so that an id that the system gave to somebody else
since is never signalled.
"""

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 10
LOWEST_PORT = 10_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_EPHEMERAL = 32_768


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on now.

    They lie below those that the system hands out by itself, so that no connection takes the port of a
    node while that is down.
    """
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            one = socket.socket()
            sockets.append(one)
            try:
                one.bind(("127.0.0.1", LOWEST_PORT + secrets.randbelow(_ephemeral() - LOWEST_PORT)))
            except OSError:
                sockets.pop().close()
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _ephemeral() -> int:
    """The first port that the system hands out by itself."""
    try:
        return int(EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError):
        return USUAL_EPHEMERAL


def _started(pid: int) -> str | None:
    """The kernel's start time of a living process (field 22 of /proc/<pid>/stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Processes:
    """The processes of one network, by name. `bound` ones end with the process that started them."""

    def __init__(self, folder: Path, *, bound: bool) -> None:
        self._folder = folder
        self._bound = bound
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it with its output in `logs/<name>.log`; nothing when it runs already."""
        if self.running(name):
            return
        for part in ("pids", "logs"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        with (self._folder / "logs" / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent if self._bound else None,  # noqa: PLW1509
            )
        self._children[name] = child
        self._pid_file(name).write_text(json.dumps({"pid": child.pid, "started": _started(child.pid)}))

    def pid(self, name: str) -> int | None:
        """The id of the living process of that name, or None."""
        try:
            noted = json.loads(self._pid_file(name).read_text())
        except (OSError, ValueError):
            return None
        if (child := self._children.get(name)) is not None:
            child.poll()
        alive = noted["started"] is not None and _started(noted["pid"]) == noted["started"]
        return noted["pid"] if alive else None

    def running(self, name: str) -> bool:
        return self.pid(name) is not None

    def names(self) -> list[str]:
        return sorted(path.name for path in (self._folder / "pids").glob("*"))

    def signal(self, name: str, number: signal.Signals) -> None:
        """Raises ProcessLookupError when it does not run."""
        pid = self.pid(name)
        if pid is None:
            raise ProcessLookupError(name)
        os.kill(pid, number)

    def stop(self, names: Sequence[str]) -> None:
        """Ask them all to end, wait, and kill who has not ended."""
        for name in names:
            with suppress(ProcessLookupError):
                self.signal(name, signal.SIGCONT)
                self.signal(name, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(self.running(name) for name in names) and time.monotonic() < deadline:
            time.sleep(0.05)
        for name in names:
            with suppress(ProcessLookupError):
                self.signal(name, signal.SIGKILL)
            if (child := self._children.pop(name, None)) is not None:
                child.wait()
            self._pid_file(name).unlink(missing_ok=True)

    def _pid_file(self, name: str) -> Path:
        return self._folder / "pids" / name

"""Where a demonstration or a sandbox lives: a folder that is emptied at its start, and known by a mark."""

import fcntl
import os
import shutil
import socket
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError


def base() -> Path:
    """What the homes lie in: GATEWAY_HOME where it is set, else `var/` in the clone."""
    found = Path(os.environ.get("GATEWAY_HOME") or settings.BASE_DIR / "var")
    found.mkdir(parents=True, exist_ok=True)
    return found


def emptied(name: str, mark: str) -> Path:
    """The folder of this name, empty but for its mark, held until this process ends.

    Raises CommandError for one that is not ours, or that is served.
    """
    home = base() / name
    _hold(base() / f"{name}.lock", home)
    if home.exists() and not (home / mark).exists():
        raise CommandError(f"{home} was not made by this command: it is left alone. Set GATEWAY_HOME.")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    (home / mark).touch()
    return home


def _hold(lock: Path, home: Path) -> None:
    """Only one lives in a home: whoever has this lock, until its process ends (and `execve` hands it on).

    Raises CommandError where another has it.
    """
    held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise CommandError(
            f"A demonstration is served from {home} already. Stop it, or set GATEWAY_HOME to another folder."
        ) from None
    os.set_inheritable(held, True)


def free_port(wanted: int = 0) -> int:
    """`wanted` where nobody listens there, else one that the system names."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise CommandError("No port is free on this machine.")

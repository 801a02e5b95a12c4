"""The sandbox's switches: one small file that every process of it reads. Standard library only."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

FAULTS = ("ledger", "keyholder", "rate", "slow")  # what each looks like: catalogue.py
LONGEST_SECONDS = 10 * 366 * 86_400


@dataclass(frozen=True)
class Switches:
    """`ahead`: seconds that the sandbox's clock is ahead of the machine's. `faults`: names of FAULTS."""

    ahead: int = 0
    faults: tuple[str, ...] = ()


def read(home: Path) -> Switches:
    """What is set; nothing, where nobody has touched a switch."""
    try:
        told = json.loads(_file(home).read_bytes())
    except FileNotFoundError:
        return Switches()
    return Switches(ahead=int(told["ahead"]), faults=tuple(told["faults"]))


def advance(home: Path, seconds: int) -> Switches:
    """Move the clock ahead; never back, or the keyholder would open nothing any more. Raises ValueError."""
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise ValueError("The clock moves ahead by a second to ten years.")
    with _changing(home) as now:
        return _write(home, replace(now, ahead=now.ahead + seconds))


def set_fault(home: Path, name: str, *, on: bool) -> Switches:
    """Make something fail, or work again. Raises ValueError."""
    if name not in FAULTS:
        raise ValueError(f"There is no such fault. There are: {', '.join(FAULTS)}.")
    with _changing(home) as now:
        faults = {*now.faults, name} if on else {*now.faults} - {name}
        return _write(home, replace(now, faults=tuple(sorted(faults))))


class Clock:
    """Seconds since 1970 UTC, as far ahead of `machine` as the switches in `home` say at this moment."""

    def __init__(self, home: Path, machine: Callable[[], float] = time.time) -> None:
        self._home, self._machine = home, machine
        self._seen: tuple[int, int] | None = None
        self._ahead = 0

    def __call__(self) -> float:
        try:
            found = os.stat(_file(self._home))
        except FileNotFoundError:
            return self._machine()
        if (found.st_ino, found.st_mtime_ns) != self._seen:
            self._seen, self._ahead = (found.st_ino, found.st_mtime_ns), read(self._home).ahead
        return self._machine() + self._ahead


def _file(home: Path) -> Path:
    return home / "switches.json"


def _write(home: Path, switches: Switches) -> Switches:
    """A new file in place of the old one, so that nobody reads half of it."""
    new = home / "switches.new"
    new.write_text(json.dumps(asdict(switches)))
    new.replace(_file(home))
    return switches


@contextmanager
def _changing(home: Path) -> Iterator[Switches]:
    """One change at a time, whoever makes it."""
    with (home / "switches.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield read(home)

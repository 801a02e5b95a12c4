"""A ledger and a keyholder that exist for one benchmark, each in a folder of its `home` and a process."""

from pathlib import Path

from gateway.keyholder.kek import FileKEK
from gateway.processes import Processes, Spec, listens_at, python
from ledger.embedded.folder import make_ledger


def make(home: Path) -> None:
    """Their folders and keys."""
    for name in ("ledger", "keyholder"):
        (home / name).mkdir(mode=0o700, exist_ok=True)
    make_ledger(home / "ledger")
    FileKEK.create(home / "keyholder" / "kek")


def start(processes: Processes) -> None:
    """The processes at the home of `processes`, the keyholder after the ledger. Raises ProcessError."""
    for name, module, more in (
        ("ledger", "ledger.embedded", ()),
        ("keyholder", "gateway.keyholder", ("--ledger", f"embedded://{processes.home / 'ledger'}")),
    ):
        folder = processes.home / name
        command = python("-m", module, str(folder), *more)
        processes.start(Spec(name, command, listens_at(folder / f"{name}.sock")))

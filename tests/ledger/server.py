"""`python -m tests.ledger.server FOLDER [--max-pages N]`: the ledger's process with the toy contract."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from gateway.processes import listens_at
from ledger.embedded.server import LedgerProcess
from tests.ledger.toy import run


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    pages = int(sys.argv[2]) if len(sys.argv) > 2 else None
    process = LedgerProcess(sys.argv[1], run=run, max_pages=pages)
    stop.wait()
    process.close()


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The process, once somebody accepts connections at its socket."""
    socket = folder / "ledger.sock"
    socket.unlink(missing_ok=True)
    is_ready = listens_at(socket)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ledger.server", str(folder), *arguments],
        cwd=Path(__file__).resolve().parents[2],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    deadline = time.monotonic() + 20
    while not is_ready():
        assert process.poll() is None, "the ledger's process ended"
        assert time.monotonic() < deadline, "the ledger's process did not start"
        time.sleep(0.01)
    return process


if __name__ == "__main__":
    main()

"""manage.py ledger and python -m ledger.embedded: the process in the foreground."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.processes import listens_at
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import make_ledger

ROOT = Path(__file__).resolve().parents[2]
MODULE = ["-m", "ledger.embedded"]
COMMAND = ["manage.py", "ledger"]


def start(*arguments: str) -> subprocess.Popen[bytes]:
    # No database can be reached: the ledger needs none.
    environment = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stderr=subprocess.PIPE, env=environment)


@pytest.fixture
def made(folder: Path) -> Path:
    make_ledger(folder)
    return folder


@pytest.mark.parametrize("command", [MODULE, COMMAND], ids=["module", "command"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_ends_clean(made: Path, command: list[str], number: int) -> None:
    process = start(*command, str(made))
    try:
        while not listens_at(made / "ledger.sock")():
            assert process.poll() is None
            time.sleep(0.01)
        assert EmbeddedLedger(made, identity="gateway").height() == 1
        second = start(*command, str(made))
        _, errors = second.communicate(timeout=20)
        assert second.returncode == 1
        assert b"already_served" in errors
        process.send_signal(number)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
    assert not (made / "ledger.sock").exists()
    assert not (made / "ledger.sqlite3-wal").exists()


def test_a_folder_that_is_no_ledger_is_said(tmp_path: Path) -> None:
    process = start(*MODULE, str(tmp_path))
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"ledger.key cannot be read" in errors
    assert b"Traceback" not in errors


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to run as a separate account")
def test_only_the_accounts_it_is_told_may_connect(made: Path) -> None:
    def ask() -> str:
        script = (
            "import os, sys; sys.path.insert(0, '.');"
            "from ledger.rpc import Connection; from ledger.errors import GatewayError\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"try: print(Connection({str(made / 'ledger.sock')!r}).call('height', {{}})['height'])\n"
            "except GatewayError as error: print(error.code)"
        )
        return subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True).strip()

    made.chmod(0o711)
    for arguments, answer in (
        ([], "ledger_unavailable"),
        (["--group", "nogroup"], "account_refused"),
        (["--group", "nogroup", "--allow-uid", "65534"], "1"),
    ):
        process = start(*MODULE, str(made), *arguments)
        try:
            while not listens_at(made / "ledger.sock")():
                assert process.poll() is None
                time.sleep(0.01)
            assert ask() == answer
        finally:
            process.terminate()
            process.communicate(timeout=10)

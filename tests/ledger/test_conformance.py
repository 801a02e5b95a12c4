"""The conformance suite on the embedded ledger, as processes use it."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.processes import listens_at
from ledger.client import Ledger, Trust, connect, trust
from ledger.embedded.folder import make_ledger
from ledger.embedded.fsck import check
from tests.ledger.conformance import Conformance


@dataclass
class Embedded:
    """The real process, started as an installation starts it."""

    folder: Path
    orgs = ("Embedded",)
    races = 200
    stop_delay = 0.01

    @property
    def trust(self) -> Trust:
        return trust(f"embedded://{self.folder}")

    def connect(self, identity: str) -> Ledger:
        return connect(f"embedded://{self.folder}", identity=identity)


class TestEmbedded(Conformance):
    @pytest.fixture(scope="class")
    @classmethod
    def network(cls) -> Iterator[Embedded]:
        folder = Path(tempfile.mkdtemp(prefix="lg-"))
        make_ledger(folder)
        process = subprocess.Popen(
            [sys.executable, "-m", "ledger.embedded", str(folder)],
            cwd=Path(__file__).resolve().parents[2],
            stderr=subprocess.PIPE,
        )
        while not listens_at(folder / "ledger.sock")():
            assert process.poll() is None
            time.sleep(0.01)
        yield Embedded(folder)
        process.terminate()
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0
        assert b"Error" not in errors
        report = check(folder)  # after all of it, every verdict is derived again
        assert report.good, report
        shutil.rmtree(folder)

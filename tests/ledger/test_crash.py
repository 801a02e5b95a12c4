"""Kills and full disks: the last whole block stands, and nothing that was acknowledged is lost."""

import contextlib
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.fsck import check
from ledger.errors import LedgerError, OutcomeUnknown, SendError
from tests.ledger.conftest import commit, put
from tests.ledger.server import start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are Linux")


class Writer(threading.Thread):
    """Submits without a pause, and remembers what was acknowledged and what it must send again."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__()
        self.folder, self.number = folder, number
        self.acknowledged: dict[str, str] = {}
        self.in_doubt = None
        self.stopped = False

    def run(self) -> None:
        ledger = EmbeddedLedger(self.folder, identity="gateway")
        count = 0
        while not self.stopped:
            try:
                if self.in_doubt is None:
                    count += 1
                    self.key = f"{self.number}/{count}"
                    self.in_doubt = ledger.prepare("Put", {"key": self.key, "value": "x"})
                ledger.send(self.in_doubt)
                outcome = ledger.outcome(self.in_doubt.tx_id, timeout=1)
            except LedgerError:
                time.sleep(0.01)
                continue
            assert outcome.is_valid
            self.acknowledged[self.key] = self.in_doubt.tx_id
            self.in_doubt = None


def test_killed_at_random_points_it_loses_nothing_that_was_acknowledged(toy_folder: Path) -> None:
    random.seed()
    process = start(toy_folder)
    writers = [Writer(toy_folder, number) for number in range(4)]
    for writer in writers:
        writer.start()
    heights = [0]
    for _ in range(8):
        time.sleep(random.uniform(0.02, 0.3))
        process.kill()
        process.wait()
        report = check(toy_folder)  # before anyone has recovered the file
        assert report.good, report
        assert report.blocks >= heights[-1]
        heights.append(report.blocks)
        process = start(toy_folder)
    for writer in writers:
        writer.stopped = True
    for writer in writers:
        writer.join()
    ledger = EmbeddedLedger(toy_folder, identity="gateway")
    acknowledged = {key: tx_id for writer in writers for key, tx_id in writer.acknowledged.items()}
    assert len(acknowledged) > 20
    assert ledger.evaluate(sorted(acknowledged)) == [b"x"] * len(acknowledged)
    assert all(ledger.outcome(tx_id, timeout=0).is_valid for tx_id in acknowledged.values())
    heard = [event.tx_id for event in ledger.events((-1, -1), wait=0)]
    assert set(acknowledged.values()) <= set(heard)
    assert len(heard) == len(set(heard))
    process.terminate()
    assert process.wait(10) == 0
    assert check(toy_folder).good


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[int]:
    process = start(folder, *arguments)
    try:
        yield process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def fill(ledger: EmbeddedLedger, codes: set[str]) -> tuple[int, OutcomeUnknown]:
    """Write until the ledger says that it cannot; how many were committed, and what it said."""
    for count in range(400):
        envelope = ledger.prepare("Put", {"key": f"f/{count}", "value": "v" * 20_000})
        ledger.send(envelope)
        try:
            ledger.outcome(envelope.tx_id, timeout=5)
        except OutcomeUnknown as error:
            if error.code not in codes:
                raise
            return count, error
    pytest.fail("the disk never filled")


def test_a_full_disk_is_said_and_survived(toy_folder: Path) -> None:
    """RLIMIT_FSIZE stands for the disk: no file of the process may grow beyond it."""
    with running(toy_folder) as pid:
        ledger = EmbeddedLedger(toy_folder, identity="gateway")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        count, error = fill(ledger, {"ledger_disk_full", "ledger_disk_failed"})
        assert "disk" in error.message
        assert ledger.evaluate([f"f/{count - 1}", f"f/{count}"]) == [b"v" * 20_000, None]
        assert check(toy_folder).good
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert put(ledger, f"f/{count}", "there is room again").is_valid
        assert check(toy_folder).good


def test_a_full_database_is_said_and_survived(toy_folder: Path) -> None:
    with running(toy_folder, "100"):
        ledger = EmbeddedLedger(toy_folder, identity="gateway")
        count, error = fill(ledger, {"ledger_disk_full"})
        assert "full" in error.message
        height = ledger.height()
        envelope = ledger.prepare("Put", {"key": f"f/{count}", "value": "v" * 100_000})
        with pytest.raises(OutcomeUnknown):
            commit(ledger, envelope)
        assert ledger.height() == height
    assert check(toy_folder).good
    with running(toy_folder):
        assert commit(ledger, envelope).is_valid  # the same envelope, once there is room
    assert check(toy_folder).good


def test_stopping_commits_what_is_queued(toy_folder: Path) -> None:
    process = start(toy_folder)
    ledger = EmbeddedLedger(toy_folder, identity="gateway")
    envelopes = [ledger.prepare("Put", {"key": str(n), "value": "x"}) for n in range(20)]
    for envelope in envelopes:
        ledger.send(envelope)
    process.terminate()
    assert process.wait(10) == 0
    assert not os.path.exists(toy_folder / "ledger.sock")
    with pytest.raises(SendError):
        ledger.send(envelopes[0])
    with running(toy_folder):
        assert all(ledger.outcome(envelope.tx_id, timeout=1).is_valid for envelope in envelopes)

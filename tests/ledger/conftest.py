"""A ledger with the toy contract, in this process and in a process of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ledger.client import Envelope, Outcome
from ledger.contract.state import Json
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import make_ledger
from ledger.embedded.server import LedgerProcess
from ledger.embedded.trust import EmbeddedTrust
from tests.ledger.toy import run


@dataclass
class Clock:
    """Seconds since 1970, moved by hand."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Toy:
    """An embedded ledger that runs the toy contract in this process."""

    folder: Path
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        make_ledger(self.folder, run=run, clock=self.clock)
        self.start()

    def start(self, **options: int) -> None:
        self.process = LedgerProcess(self.folder, run=run, clock=self.clock, **options)

    def connect(self, identity: str = "gateway") -> EmbeddedLedger:
        return EmbeddedLedger(self.folder, identity=identity, clock=self.clock)

    @property
    def trust(self) -> EmbeddedTrust:
        return EmbeddedTrust.from_folder(self.folder)


def submit(ledger: EmbeddedLedger, name: str, args: Json) -> Outcome:
    envelope = ledger.prepare(name, args)
    return commit(ledger, envelope)


def commit(ledger: EmbeddedLedger, envelope: Envelope) -> Outcome:
    ledger.send(envelope)
    return ledger.outcome(envelope.tx_id, timeout=10)


def put(ledger: EmbeddedLedger, key: str, value: str) -> Outcome:
    return submit(ledger, "Put", {"key": key, "value": value})


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="lg-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def toy(folder: Path) -> Iterator[Toy]:
    ledger = Toy(folder)
    yield ledger
    ledger.process.close()


@pytest.fixture
def ledger(toy: Toy) -> Iterator[EmbeddedLedger]:
    connection = toy.connect()
    yield connection
    connection.close()


@pytest.fixture
def toy_folder(folder: Path) -> Path:
    """A folder that no process serves yet."""
    make_ledger(folder, run=run)
    return folder

"""A real embedded ledger in this process, and what the relay would do, on demand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger import outbox
from ledger.audit import sealing
from ledger.audit.export import Export, Selection, export
from ledger.audit.log import Actor, pseudonym, record
from ledger.client import Ledger
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import make_ledger, read_public_key
from ledger.embedded.server import LedgerProcess

ALICE, CHARLIE = (pseudonym(b"k" * 32, name) for name in ("alice", "charlie"))
HELIX = Actor.client("6f1d6c1e-3b5e-4a53-9a57-0c7d6f0f1a2b")


@pytest.fixture
def ledger_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ledger")
    make_ledger(folder)
    process = LedgerProcess(folder)
    yield folder
    process.close()


@pytest.fixture
def ledger(ledger_folder: Path) -> Iterator[Ledger]:
    connection = EmbeddedLedger(ledger_folder, identity="gateway")
    yield connection
    connection.close()


@pytest.fixture
def relay(ledger: Ledger, db: None) -> Callable[[], None]:
    """One round of the relay: send what is due, handle what the ledger tells."""

    def no_openings(_: Any) -> dict[str, object]:
        raise AssertionError("a checkpoint has no opening")

    def run() -> None:
        outbox.send_pending(ledger, through_keyholder=no_openings)
        outbox.follow(ledger, listener="test", handlers={"Checkpointed": checkpointed}, wait=0.05)

    def checkpointed(event: Any) -> None:
        sealing.record_checkpointed(event)

    return run


@pytest.fixture
def act() -> Callable[..., Any]:
    """Record `count` acts, each in a transaction of its own."""
    from django.db import transaction

    def make(count: int = 1, subject: str = ALICE, **details: Any) -> Any:
        row = None
        for _ in range(count):
            with transaction.atomic():
                row = record(kind="job.queued", actor=HELIX, subject=subject, job="ab" * 32, **details)
        return row

    return make


@pytest.fixture
def export_to(ledger: Ledger, ledger_folder: Path, relay: Callable[[], None]) -> Callable[..., Export]:
    key = bytes.fromhex(read_public_key(ledger_folder))

    def make(out: Path, **options: Any) -> Export:
        about = ("subject", options.pop("subject")) if "subject" in options else options.pop("about", None)
        period = {name: options.pop(name) for name in ("since", "until") if name in options}
        return export(
            out,
            selection=Selection(about=about, **period),
            ledger=ledger,
            ledger_keys=[key],
            actor=Actor.system("command"),
            wait=relay,
            **options,
        )

    return make

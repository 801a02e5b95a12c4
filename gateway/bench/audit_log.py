"""A sealed log with a real embedded ledger behind it, for the rows `export` and `verify`."""

import json
import os
import secrets
import tempfile
from pathlib import Path

from django.utils import timezone

from gateway.bench.databases import empty
from ledger import outbox
from ledger.audit import sealing
from ledger.audit.export import Selection, export
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import make_ledger, read_public_key
from ledger.embedded.server import LedgerProcess

ROWS = int(os.environ.get("BENCH_LOG_ROWS", "100000"))


class SealedLog:
    """`ROWS` rows of a usual length, sealed; `export` writes them into a new place."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.path = Path(self._folder.name)
        make_ledger(self.path / "ledger")
        self._process = LedgerProcess(self.path / "ledger")
        self.ledger = EmbeddedLedger(self.path / "ledger", identity="gateway")
        self.key = read_public_key(self.path / "ledger")
        now = timezone.now().replace(microsecond=0)
        for _ in range(ROWS // 5000):
            AuditRow.objects.bulk_create(
                [AuditRow(line=_line(), kind="job.queued", recorded_at=now) for _ in range(5000)]
            )
        sealing.seal_all()

    def export(self, name: str) -> Path:
        export(
            self.path / name,
            selection=Selection(),
            ledger=self.ledger,
            ledger_keys=[bytes.fromhex(self.key)],
            actor=Actor.system("command"),
            wait=self._relay,
        )
        return self.path / name

    def _relay(self) -> None:
        outbox.send_pending(self.ledger, through_keyholder=lambda _: {})
        outbox.follow(
            self.ledger, listener="bench", handlers={"Checkpointed": sealing.record_checkpointed}, wait=0.01
        )

    def close(self) -> None:
        self.ledger.close()
        self._process.close()
        empty()
        self._folder.cleanup()


def _line() -> bytes:
    line = {
        "actor": {"id": "6f1d6c1e-3b5e-4a53-9a57-0c7d6f0f1a2b", "kind": "client"},
        "details": {"attempt": 1, "job": secrets.token_hex(32)},
        "format": 1,
        "kind": "job.queued",
        "nonce": secrets.token_hex(16),
        "subject": secrets.token_hex(32),
        "time": "2026-01-01T00:00:00Z",
    }
    return json.dumps(line, sort_keys=True, separators=(",", ":")).encode()

"""A sealed log with a real embedded ledger behind it, for the rows `export` and `verify`."""

import os
import secrets
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from django.db import connection, transaction
from django.utils import timezone
from tqdm import tqdm

from gateway.bench.databases import empty
from ledger import outbox
from ledger.audit import sealing
from ledger.audit.export import Selection, export
from ledger.audit.log import Actor
from ledger.audit.merkle import CompactRange, leaf_hash
from ledger.audit.models import AuditBatch, AuditNode, AuditRow
from ledger.contract.canonical import dumps
from ledger.embedded.client import EmbeddedLedger
from ledger.embedded.folder import make_ledger, read_public_key
from ledger.embedded.server import LedgerProcess

ROWS = int(os.environ.get("BENCH_LOG_ROWS", "100000"))


class SealedLog:
    """`ROWS` rows of a usual length, sealed; `export` writes them into a new place.

    The rows are put in place in bulk, numbered and with their tree, as sealing leaves them: that is not what
    is measured here, and `verify` would notice a difference.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.path = Path(self._folder.name)
        make_ledger(self.path / "ledger")
        self._process = LedgerProcess(self.path / "ledger")
        self.ledger = EmbeddedLedger(self.path / "ledger", identity="gateway")
        self.key = read_public_key(self.path / "ledger")
        _fill(ROWS)

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


def _fill(count: int) -> None:
    """A sealed log of so many rows, in batches of the sealer's size."""
    now, tree = timezone.now().replace(microsecond=0), CompactRange()
    with tqdm(total=count, unit="row", desc="making the log", leave=False) as bar, transaction.atomic():
        while tree.size < count:
            nodes: list[AuditNode] = []
            first, lines = tree.size, _some_lines(min(sealing.BATCH, count - tree.size))
            tree = CompactRange(first, tree.hashes, visit=sealing.keeper(nodes))
            tree.extend([leaf_hash(line) for line in lines])
            _insert(first, lines, now)
            AuditNode.objects.bulk_create(nodes)
            AuditBatch.objects.create(
                size=tree.size,
                root=tree.root().hex(),
                range=[node.hex() for node in tree.hashes],
                first_at=now,
                last_at=now,
            )
            bar.update(len(lines))
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM ANALYZE {AuditRow._meta.db_table}")


def _some_lines(count: int) -> list[bytes]:
    """Canonical lines that differ in what always differs."""
    line = dumps(
        {
            "actor": {"id": "6f1d6c1e-3b5e-4a53-9a57-0c7d6f0f1a2b", "kind": "client"},
            "details": {"attempt": 1, "job": "JOB"},
            "format": 1,
            "kind": "job.queued",
            "nonce": "NONCE",
            "subject": "SUBJECT",
            "time": "2026-01-01T00:00:00Z",
        }
    )
    before, rest = line.split(b"JOB")
    between, rest = rest.split(b"NONCE")
    then, after = rest.split(b"SUBJECT")
    random = secrets.token_bytes(80 * count).hex().encode()
    return [
        b"".join(
            (
                before,
                random[at : at + 64],
                between,
                random[at + 64 : at + 96],
                then,
                random[at + 96 : at + 160],
                after,
            )
        )
        for at in range(0, 160 * count, 160)
    ]


def _insert(first: int, lines: Sequence[bytes], now: datetime) -> None:
    table = AuditRow._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            columns = "line, kind, subject, step_of, recorded_at, leaf"
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                copy.write(
                    "".join(
                        f"\\\\x{line.hex()}\tjob.queued\t\t\t{now.isoformat()}\t{leaf}\n"
                        for leaf, line in enumerate(lines, first)
                    )
                )
        else:
            rows = (
                AuditRow(line=line, kind="job.queued", recorded_at=now, leaf=leaf)
                for leaf, line in enumerate(lines, first)
            )
            AuditRow.objects.bulk_create(rows, batch_size=1_000)

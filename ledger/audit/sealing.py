"""Sealing: rows that are not yet in the Merkle log are numbered, hashed, and anchored on the ledger.

One sealer at a time, and everything of a batch in one database transaction: the rows' numbers, the
tree, the batch, and the outbox row that carries the checkpoint to the ledger.
"""

import logging
from collections.abc import Callable
from hashlib import sha256
from operator import itemgetter

from django.conf import settings
from django.db import connections, router, transaction
from django.db.models import Max, Min

from ledger import outbox
from ledger.audit.merkle import CompactRange
from ledger.audit.models import AuditBatch, AuditNode, AuditRow
from ledger.client import Event

log = logging.getLogger(__name__)

BATCH = 10_000
KEPT_LEVELS = 8  # AuditNode holds levels 8, 16, 24, …
_SEALER_LOCK = 0x6175646974  # "audit": names PostgreSQL's advisory lock

# One statement, so that what is numbered is exactly what was seen: a row that commits meanwhile stays
# unnumbered and is in the next batch.
_NUMBER = """
UPDATE {rows} SET leaf = %s + chosen.place
FROM (
    SELECT id, row_number() OVER (ORDER BY id) - 1 AS place
    FROM (SELECT id FROM {rows} WHERE leaf IS NULL ORDER BY id LIMIT %s) AS due
) AS chosen
WHERE {rows}.id = chosen.id
RETURNING leaf, line
"""


def seal(*, limit: int = BATCH) -> AuditBatch | None:
    """Seal up to `limit` rows and enqueue their Checkpoint. None when there is nothing to seal, or when
    another sealer is at work.

    Rows are chosen by "not yet sealed", never by an id: a transaction that was open while later ids were
    sealed gets its rows into the log when it commits.
    """
    database = router.db_for_write(AuditRow)
    if not AuditRow.objects.using(database).filter(leaf__isnull=True).exists():
        return None
    with transaction.atomic(using=database):
        if not _take_turn(database):
            return None
        last = AuditBatch.objects.using(database).order_by("-size").first()
        start = last.size if last else 0
        with connections[database].cursor() as cursor:
            cursor.execute(_NUMBER.format(rows=AuditRow._meta.db_table), [start, limit])  # a table's name
            rows = sorted(cursor.fetchall(), key=itemgetter(0))
        if not rows:
            return None
        nodes: list[AuditNode] = []
        tree = CompactRange(
            start, [bytes.fromhex(node) for node in last.range] if last else [], visit=_keeper(nodes)
        )
        tree.extend([sha256(b"\x00" + row[1]).digest() for row in rows])
        AuditNode.objects.using(database).bulk_create(nodes)
        sealed = AuditRow.objects.using(database).filter(leaf__gte=start, leaf__lt=tree.size)
        times = sealed.aggregate(first=Min("recorded_at"), last=Max("recorded_at"))
        batch = AuditBatch.objects.using(database).create(
            size=tree.size,
            root=tree.root().hex(),
            range=[node.hex() for node in tree.hashes],
            first_at=times["first"],
            last_at=times["last"],
        )
        outbox.enqueue(
            name="Checkpoint",
            args={"size": batch.size, "root": batch.root, "origin": settings.CUSTODIAN},
            reference=reference(batch.size),
        )
    return batch


def seal_all() -> int:
    """Seal until nothing is left that was there at the start; answers the number of rows sealed."""
    sealed, before = 0, AuditBatch.objects.order_by("-size").values_list("size", flat=True).first() or 0
    due = AuditRow.objects.filter(leaf__isnull=True).count()
    while sealed < due and (batch := seal()):
        sealed = batch.size - before
    return sealed


def reference(size: int) -> str:
    """How the outbox names the checkpoint of this size: its key on the ledger."""
    return f"checkpoint/{size:016d}"


def record_checkpointed(event: Event) -> None:
    """The ledger holds a checkpoint: its batch is anchored. Harmless to repeat.

    The event's payload has `size` and `root`. One that does not fit our log is an alarm: it is logged and
    anchors nothing.
    """
    size, root = event.payload.get("size"), event.payload.get("root")
    batches = (
        AuditBatch.objects.filter(size=size, root=root) if type(size) is int else AuditBatch.objects.none()
    )
    if not batches.update(tx_id=event.tx_id, block=event.block):
        log.error("audit_checkpoint_unknown: the ledger holds a checkpoint that this log does not have")


def _take_turn(database: str) -> bool:
    """Whether this transaction is the only sealer until it ends.

    SQLite has one writer at a time (transactions begin IMMEDIATE), so whoever is here is alone.
    """
    connection = connections[database]
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_SEALER_LOCK])
        return bool(cursor.fetchone()[0])


def _keeper(nodes: list[AuditNode]) -> Callable[[int, int, bytes], None]:
    def keep(level: int, index: int, node: bytes) -> None:
        if level % KEPT_LEVELS == 0:
            nodes.append(AuditNode(level=level, index=index, hash=node))

    return keep

"""Sealing: rows that are not yet in the Merkle log are numbered, hashed, and anchored on the ledger.

One sealer at a time, and everything of a batch in one database transaction: the rows' numbers, the
tree and the batch. One checkpoint at a time is on its way to the ledger, with the proof that it extends the
last one that stands there; the batches sealed meanwhile are covered by the next.
"""

import logging
from collections.abc import Callable
from hashlib import sha256
from operator import itemgetter

from django.conf import settings
from django.db import connections, router, transaction
from django.db.models import Max, Min

from ledger import outbox
from ledger.audit.merkle import CompactRange, consistency_proof
from ledger.audit.models import AuditBatch, AuditNode, AuditRow
from ledger.audit.tree import SealedTree
from ledger.client import Event
from ledger.contract.checkpoint import checkpoint_key
from ledger.models import LedgerTransaction

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
    """Seal up to `limit` rows, and anchor. None when there is nothing to seal, or when another sealer is at
    work.

    Rows are chosen by "not yet sealed", never by an id: a transaction that was open while later ids were
    sealed gets its rows into the log when it commits. Raises TreeDamaged as `anchor` does; the rows are
    sealed all the same.
    """
    batch = _seal(limit)
    anchor()
    return batch


def _seal(limit: int) -> AuditBatch | None:
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
            start, [bytes.fromhex(node) for node in last.range] if last else [], visit=keeper(nodes)
        )
        tree.extend([sha256(b"\x00" + row[1]).digest() for row in rows])
        AuditNode.objects.using(database).bulk_create(nodes)
        sealed = AuditRow.objects.using(database).filter(leaf__gte=start, leaf__lt=tree.size)
        times = sealed.aggregate(first=Min("recorded_at"), last=Max("recorded_at"))
        return AuditBatch.objects.using(database).create(
            size=tree.size,
            root=tree.root().hex(),
            range=[node.hex() for node in tree.hashes],
            first_at=times["first"],
            last_at=times["last"],
        )


@transaction.atomic
def anchor() -> LedgerTransaction | None:
    """Intend the newest batch's Checkpoint, with the proof that it extends the last one on the ledger.

    None where it stands there already, where one is on its way, or where the ledger refused this very one.
    Raises TreeDamaged where the log has a gap: then nothing can show that it only grew.
    """
    database = router.db_for_write(AuditRow)
    batches = AuditBatch.objects.using(database).order_by("-size")
    newest = batches.first()
    if newest is None or newest.origin == settings.AUDIT_ORIGIN or not _take_turn(database):
        return None
    last = batches.filter(origin=settings.AUDIT_ORIGIN).first()
    sent = last_intended()
    if sent is not None:
        is_refused = sent.state == LedgerTransaction.State.REFUSED
        if sent.args["size"] > (newest.size - 1 if is_refused else last.size if last else 0):
            return None
    proof = consistency_proof(last.size, newest.size, SealedTree(newest.size)) if last else []
    return outbox.enqueue(
        name="Checkpoint",
        args={
            "origin": settings.AUDIT_ORIGIN,
            "previous": last.size if last else 0,
            "proof": [node.hex() for node in proof],
            "root": newest.root,
            "size": newest.size,
        },
        reference=checkpoint_key(settings.AUDIT_ORIGIN),
    )


def last_intended() -> LedgerTransaction | None:
    """The log's last Checkpoint, whatever became of it."""
    found = LedgerTransaction.objects.filter(reference=checkpoint_key(settings.AUDIT_ORIGIN))
    return found.order_by("-pk").first()


def seal_all() -> int:
    """Seal until nothing is left that was there at the start; answers the number of rows sealed."""
    sealed, before = 0, AuditBatch.objects.order_by("-size").values_list("size", flat=True).first() or 0
    due = AuditRow.objects.filter(leaf__isnull=True).count()
    while sealed < due and (batch := seal()):
        sealed = batch.size - before
    anchor()
    return sealed


def record_checkpointed(event: Event) -> None:
    """The ledger holds a checkpoint: its batch is anchored. Harmless to repeat.

    The event's payload has `origin`, `size` and `root`. One of our log that does not fit it is an alarm: it
    is logged and anchors nothing.
    """
    origin = event.payload.get("origin")
    if origin != settings.AUDIT_ORIGIN:
        return  # another custodian's log
    size, root = event.payload.get("size"), event.payload.get("root")
    batches = (
        AuditBatch.objects.filter(size=size, root=root) if type(size) is int else AuditBatch.objects.none()
    )
    if not batches.update(origin=origin, tx_id=event.tx_id, block=event.block):
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


def keeper(nodes: list[AuditNode]) -> Callable[[int, int, bytes], None]:
    """Adds to `nodes` what is to be kept of a tree that grows."""

    def keep(level: int, index: int, node: bytes) -> None:
        if level % KEPT_LEVELS == 0:
            nodes.append(AuditNode(level=level, index=index, hash=node))

    return keep

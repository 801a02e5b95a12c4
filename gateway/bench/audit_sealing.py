"""Sealing what requests have logged into the Merkle log."""

from django.db import connection, transaction
from django.utils import timezone

from gateway.bench import Row
from gateway.bench.databases import empty
from ledger.audit import sealing
from ledger.audit.merkle import leaf_hash, root_of
from ledger.audit.models import AuditRow

ROWS, PEER_ROWS, LINE = 30_000, 2_000, b"x" * 400


class AuditSealing(Row):
    name = "audit sealing"
    unit = "rows"
    goal = "≥ 50,000 rows/s"
    product_is = f"seal(): {ROWS:,} rows in batches of {sealing.BATCH:,}, numbered, hashed, committed"
    peer_is = f"{PEER_ROWS:,} rows numbered with Django's bulk_update"
    limit_is = "hashing the leaves and the tree alone"
    needs_database = True

    def setup(self) -> None:
        self.teardown()

    def teardown(self) -> None:
        empty()

    def before(self, path: str) -> None:
        self.teardown()
        if path != "limit":
            now = timezone.now()
            AuditRow.objects.bulk_create(
                [AuditRow(line=LINE, kind="job.queued", recorded_at=now) for _ in range(ROWS)],
                batch_size=5000,
            )
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"VACUUM ANALYZE {AuditRow._meta.db_table}")

    def product(self) -> int:
        return sealing.seal_all()

    def peer(self) -> int:
        with transaction.atomic():
            rows = list(AuditRow.objects.filter(leaf__isnull=True).order_by("id")[:PEER_ROWS])
            for place, row in enumerate(rows):
                row.leaf = place
            root_of([leaf_hash(bytes(row.line)) for row in rows])
            AuditRow.objects.bulk_update(rows, ["leaf"], batch_size=500)
        return len(rows)

    def limit(self) -> int:
        root_of([leaf_hash(LINE) for _ in range(ROWS)])
        return ROWS


ROW = AuditSealing()

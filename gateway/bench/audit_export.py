"""An export of the whole audit log with its proofs."""

import json
import shutil

from django.db import connection

from gateway.bench import Row
from gateway.bench.audit_log import ROWS, SealedLog
from ledger.audit.models import AuditRow


class AuditExport(Row):
    name = "export"
    unit = "rows"
    goal = "≥ 0.85 of the limit at 1 million rows, constant memory"
    product_is = f"export(): {ROWS:,} rows, digests, checkpoint anchored on the embedded ledger, proofs"
    peer_is = "Django's iterator, each row serialised"
    limit_is = "the stored lines straight from the database into a file (PostgreSQL: COPY)"
    needs_database = True

    def setup(self) -> None:
        self._log = SealedLog()

    def teardown(self) -> None:
        self._log.close()

    def before(self, path: str) -> None:
        shutil.rmtree(self._log.path / "out", ignore_errors=True)

    def product(self) -> int:
        self._log.export("out")
        return ROWS

    def peer(self) -> int:
        rows = AuditRow.objects.filter(leaf__lt=ROWS).order_by("leaf").iterator()
        with (self._log.path / "peer").open("wb") as file:
            for row in rows:
                value = {
                    "kind": row.kind,
                    "leaf": row.leaf,
                    "line": bytes(row.line).decode(),
                    "subject": row.subject,
                }
                file.write(json.dumps({**value, "at": row.recorded_at.isoformat()}).encode() + b"\n")
        return ROWS

    def limit(self) -> int:
        table = AuditRow._meta.db_table
        with (self._log.path / "limit").open("wb") as file, connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                query = f"SELECT convert_from(line, 'UTF8') FROM {table} WHERE leaf < {ROWS} ORDER BY leaf"  # noqa: S608
                with cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv, QUOTE E'\\x01')") as copy:
                    for data in copy:
                        file.write(data)
            else:
                cursor.execute(f"SELECT line FROM {table} WHERE leaf < {ROWS} ORDER BY leaf")  # noqa: S608
                while page := cursor.fetchmany(10_000):
                    file.write(b"\n".join([row[0] for row in page]))
        return ROWS


ROW = AuditExport()

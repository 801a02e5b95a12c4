"""What becomes of a quarantined resource: read, taken in after all (mended or as it came), or dropped.

Each is one audit row, in the transaction that does it. A resource is checked again as if it came today.
"""

import json

from django.db import transaction

from gateway.keyholder.client import Keyholder
from gateway.records import quarantine
from gateway.records.arriving import Run
from gateway.records.ingest import ACTOR, take_source
from gateway.records.models import Quarantined
from gateway.records.reports import FileReport
from gateway.records.sources import OneResource
from ledger.audit.log import record
from ledger.errors import InvalidInput, RefusedTransition

# Why a resource is thrown away, as the audit log says it.
REASONS = ("duplicate", "not_ours", "cannot_be_mended", "comes_again")


class NotInQuarantine(RefusedTransition):
    """No such resource there: never, or not any more."""

    code = "not_in_quarantine"


def read(id: str, *, keyholder: Keyholder) -> bytes:
    """The resource as it came. Written down before it is shown. Raises NotInQuarantine, GatewayError."""
    row = _find(id)
    found = quarantine.opened(keyholder, row)
    with transaction.atomic():
        record(kind="quarantine.read", actor=ACTOR, quarantined=row.id)
    return found.file.read()


def mend(id: str, raw: bytes, *, keyholder: Keyholder) -> FileReport:
    """Take `raw` in instead of the resource, if nothing is wrong with it; the report says what became of it.

    It must be of the same type and id: anything else is another resource. References to its own Bundle hold.
    Raises NotInQuarantine, InvalidInput (`another_resource`), GatewayError.
    """
    row = _find(id)
    was = quarantine.opened(keyholder, row)
    if not _is_same(was.file.read(), raw):
        raise InvalidInput(
            "What is mended keeps its type and id: this is another resource.", code="another_resource"
        )
    return _take(row, OneResource(raw, was.addresses), "mended", keyholder)


def release(id: str, *, keyholder: Keyholder) -> FileReport:
    """Take the resource in as it came, if nothing is wrong with it any more: its patient has come in
    meanwhile, or a rule has changed. Raises NotInQuarantine, GatewayError."""
    row = _find(id)
    return _take(row, quarantine.opened(keyholder, row), "as_received", keyholder)


def drop(id: str, *, reason: str) -> None:
    """Throw the resource away. `reason` is one of REASONS. Raises NotInQuarantine, InvalidInput."""
    if reason not in REASONS:
        raise InvalidInput(f"A reason is one of {', '.join(REASONS)}.", code="unknown_reason")
    with transaction.atomic():
        row = _find(id)
        _remove(row)
        record(kind="quarantine.dropped", actor=ACTOR, quarantined=row.id, code=reason)


def _take(row: Quarantined, source: OneResource, code: str, keyholder: Keyholder) -> FileReport:
    report = FileReport("-")

    def noted(chunks: int) -> None:
        _remove(row)
        record(
            kind="quarantine.released",
            actor=ACTOR,
            quarantined=row.id,
            code=code,
            resources=report.sealed,
            chunks=chunks,
        )

    take_source(Run(keyholder), source, report, row.file, noted)
    return report


def _find(id: str) -> Quarantined:
    """By its id, or by as much of its beginning as tells it from all others."""
    found = list(Quarantined.objects.filter(pk__startswith=id)[:2]) if len(id) >= 8 else []
    if len(found) != 1:
        raise NotInQuarantine("There is no such resource in the quarantine: see `manage.py quarantine list`.")
    return found[0]


def _remove(row: Quarantined) -> None:
    removed, _ = Quarantined.objects.filter(pk=row.pk).delete()
    if not removed:
        raise NotInQuarantine("Somebody else has taken this resource out of the quarantine meanwhile.")


def _is_same(was: bytes, now: bytes) -> bool:
    """Whether type and id agree, as far as the faulty one had them."""
    before, after = _named(was), _named(now)
    return all(old in (None, new) for old, new in zip(before, after, strict=True))


def _named(raw: bytes) -> tuple[str | None, str | None]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None, None
    given = [body.get(name) for name in ("resourceType", "id")] if isinstance(body, dict) else [None, None]
    kind, id = (one if isinstance(one, str) else None for one in given)
    return kind, id

"""The patient's own copy, act by act: asked for, on the ledger, read. docs/adr/0012-own-copy.md says why so.

The row, its audit row and the news to the patient are one database transaction, before anything is asked of
the keyholder: a copy that somebody else asked for in her name is told to her, too.
"""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from consent import news
from consent.models import News, Patient
from gateway.keyholder.client import Keyholder
from gateway.records.accesses import blobs_of, sizes_of, whose
from gateway.records.held import in_parts
from gateway.records.models import OwnCopy
from ledger.audit.log import Actor, record
from ledger.client import Event
from ledger.contract.state import Json
from ledger.errors import AccessDenied, RefusedTransition
from ledger.webauthn import copy_challenge

log = logging.getLogger(__name__)

MINUTES = 60
MOST_BYTES = 8 * 1024 * 1024  # of blobs that are opened at once
RELAY = Actor.system("relay")

State = OwnCopy.State


def begin(*, patient: Patient) -> OwnCopy:
    """The copy that this patient asks for; one that was asked for and never opened is gone on with."""
    with transaction.atomic():
        Patient.objects.select_for_update().get(pk=patient.pk)  # the same POST twice is one copy
        if (found := _open_for(patient)) is not None:
            return found
        now = timezone.now().replace(microsecond=0)
        found = OwnCopy.objects.create(
            patient=patient, asked_at=now, expires_at=now + timedelta(minutes=MINUTES)
        )
        _tell(found, Actor.patient(patient.pseudonym), code="asked")
        news.tell(patient=patient, kind=News.Kind.COPY, about=found.pk)
    return found


def challenge(copy: OwnCopy) -> str:
    """What her passkey signs for this copy, in hex."""
    return copy_challenge(
        patient=copy.patient_id, access=copy.pk, expires=int(copy.expires_at.timestamp())
    ).hex()


def put_on_ledger(*, copy: OwnCopy, voucher: Json | None = None, keyholder: Keyholder | None = None) -> None:
    """Have the keyholder put it on the ledger, unless it stands there. Repeat it freely.

    Raises RefusedTransition (SignatureRefused among them), LedgerError, KeyholderUnavailable.
    """
    if copy.state == State.RECORDED:
        return
    if timezone.now() >= copy.expires_at:
        raise RefusedTransition(_("The hour is over. Ask for a new copy."), code="access_expired")
    voucher = voucher or copy.voucher
    answer = _keyholder(keyholder).own_copy(
        access=copy.pk,
        patient=copy.patient_id,
        expires=int(copy.expires_at.timestamp()),
        voucher=voucher,
    )
    if answer["state"] == "refused":
        raise RefusedTransition(_("The record book refused this copy."), code=answer["code"])
    # What was taken counts: the next call says the same again.
    OwnCopy.objects.filter(pk=copy.pk).update(voucher=voucher)
    copy.voucher = voucher
    if answer["state"] == "committed":
        _record(copy.pk, answer["tx_id"], answer["block"])
        copy.refresh_from_db(fields=["state", "tx_id"])


def read(*, copy: OwnCopy, keyholder: Keyholder | None = None) -> Iterator[tuple[str, bytes]]:
    """(FHIR type, NDJSON as ingest packed it) for each chunk of the copy's patient. Nothing is kept.

    Each reading is an audit row, committed before the keyholder is asked, and rows of the keyholder's log.
    Raises AccessDenied, EnvelopeError, LedgerError, KeyholderUnavailable: before anything is yielded where
    the copy cannot be had.
    """
    if copy.state != State.RECORDED:
        raise AccessDenied(_("The record book does not have this copy yet."), code="access_missing")
    keyholder = _keyholder(keyholder)
    types = {one["chunk"]: one["resource_type"] for one in keyholder.own_copy_index(access=copy.pk)}
    with transaction.atomic():
        _tell(copy, Actor.patient(copy.patient.pseudonym), code="opened", chunks=len(types))
    return _opened(copy, types, keyholder)


def _opened(copy: OwnCopy, types: dict[str, str], keyholder: Keyholder) -> Iterator[tuple[str, bytes]]:
    for part in in_parts(_sized(sorted(types, key=lambda chunk: (types[chunk], chunk))), MOST_BYTES):
        found = keyholder.read_own_copy(access=copy.pk, sealed=blobs_of(copy.patient_id, part))
        for chunk in part:
            yield types[chunk], found[chunk]


def _sized(chunks: list[str]) -> Iterator[tuple[str, int]]:
    sizes = sizes_of(chunks)
    for chunk in chunks:
        if chunk not in sizes:
            raise AccessDenied(_("Some records cannot be found. Call us."), code="chunk_missing")
        yield chunk, sizes[chunk]


# What the ledger says


def record_accessed(event: Event, keyholder: Keyholder | None = None) -> None:
    """Accessed: an own copy stands on the ledger. May come twice.

    One that no page asked for is told to the patient all the same: the keyholder says whose it is, whatever
    row of ours is there. Raises KeyholderUnavailable (the event comes again).
    """
    if (asked := whose(event, "subject", _keyholder(keyholder))) is None:
        return
    patient, told = asked
    access = str(event.payload["access"])
    found = OwnCopy.objects.filter(pk=access)
    knows = news.was_told(patient=patient, kind=News.Kind.COPY, about=access)
    if not (knows and found.filter(patient=patient).exists()):
        log.warning("an own copy stands on the ledger that no page asked for")
        expires = datetime.fromtimestamp(told["expires"], UTC)
        with transaction.atomic():
            found.delete()  # a row that names another patient, or of which she was not told
            OwnCopy.objects.create(
                id=access,
                patient=patient,
                asked_at=expires - timedelta(minutes=MINUTES),
                expires_at=expires,
            )
            news.tell(patient=patient, kind=News.Kind.COPY, about=access)
    _record(access, event.tx_id, event.block)


@transaction.atomic
def _record(access: str, tx_id: str, block: int | None) -> None:
    asked = OwnCopy.objects.filter(pk=access, state=State.ASKED)
    if asked.update(state=State.RECORDED, tx_id=tx_id):
        copy = OwnCopy.objects.select_related("patient").get(pk=access)
        _tell(copy, RELAY, code="committed", tx_id=tx_id, block=block)


def _open_for(patient: Patient) -> OwnCopy | None:
    """The newest copy that can still be had for most of its hour, or never came to be."""
    late = timezone.now() + timedelta(minutes=MINUTES - 4)
    waiting = OwnCopy.objects.filter(patient=patient, state=State.ASKED, expires_at__gt=late)
    return waiting.order_by("-asked_at").first()


def _tell(copy: OwnCopy, by: Actor, *, code: str, **details: Any) -> None:
    record(
        kind="access.subject",
        actor=by,
        subject=copy.patient.pseudonym,
        access=copy.pk,
        code=code,
        **details,
    )


def _keyholder(given: Keyholder | None) -> Keyholder:
    return given or Keyholder(settings.KEYHOLDER_SOCKET)

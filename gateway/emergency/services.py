"""Break-glass, act by act. A person's alone: no AI client, no worker and no job comes here.

The row, its audit row and the notice to the patient are one database transaction, before anything is asked
of the keyholder: whoever opens a record was seen to ask. docs/adr/0014-break-glass.md says what that is
worth.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from consent import news
from consent.models import News, Patient
from gateway.accounts.models import User
from gateway.emergency.models import Emergency
from gateway.emergency.readable import Records, records_of
from gateway.keyholder.client import AccessTold, ChunkHeader, Keyholder
from gateway.records.accesses import blobs_of, sizes_of, whose
from gateway.records.held import in_parts
from ledger.audit.log import Actor, record
from ledger.client import Event
from ledger.contract.canonical import dumps
from ledger.contract.state import Json
from ledger.errors import AccessDenied, GatewayError, InvalidInput, RefusedTransition
from ledger.verify import EMERGENCY_FORMAT, SIGNATURE_FIELDS
from ledger.webauthn import access_digest

log = logging.getLogger(__name__)

MINUTES = 60
REVIEW_HOURS = 72
SHORTEST = 15  # characters of an explanation
MOST_BYTES = 16 * 1024 * 1024  # of blobs that are opened at once

# v3-ActReason codes that break the glass, and what a clinician reads.
REASONS: dict[str, Promise] = {
    "ETREAT": gettext_lazy("Emergency treatment: the patient cannot answer, or there is no time to ask"),
    "THREAT": gettext_lazy("To keep the patient or somebody else from serious harm"),
    "DISASTER": gettext_lazy("A disaster with many people hurt"),
}

RELAY = Actor.system("relay")
Confirmed = Emergency.Confirmed
# The keyholder takes an end of an hour from now, give or take five minutes.
CONFIRM_WITHIN = timedelta(minutes=4)


# The access


def open_emergency(
    *,
    patient: Patient,
    by: User,
    reason: str,
    explanation: str,
    will_sign: bool = False,
    keyholder: Keyholder | None = None,
) -> Emergency:
    """Begin an hour's access. The patient is told whether or not it comes to anything.

    `will_sign`: nothing is asked of the keyholder before `confirm`. Whoever has one open for this patient
    gets that one. Raises InvalidInput, RefusedTransition, LedgerError, KeyholderUnavailable (then `ask_again`
    goes on with the same access).
    """
    explanation = " ".join(explanation.split())
    if reason not in REASONS:
        raise InvalidInput(_("Choose a reason."), code="reason")
    if len(explanation) < SHORTEST:
        raise InvalidInput(_("Say why in at least 15 characters."), code="explanation")
    if patient.user_id == by.pk:
        raise RefusedTransition(_("These are your own records: ask for your own copy."), code="own_records")
    with transaction.atomic():
        # One at a time for each patient: the same POST twice is one access.
        Patient.objects.select_for_update().get(pk=patient.pk)
        if (found := open_for(patient, by)) is None:
            now = timezone.now().replace(microsecond=0)
            found = Emergency.objects.create(
                patient=patient,
                opened_by=by,
                reason=reason,
                explanation=explanation[:1000],
                opened_at=now,
                expires_at=now + timedelta(minutes=MINUTES),
                review_by=now + timedelta(hours=REVIEW_HOURS),
                confirmed="" if will_sign else Confirmed.SESSION,
            )
            _tell(found, Actor.staff(by.pk))
    return found if waits_for_passkey(found) else ask_again(emergency=found, keyholder=keyholder)


def waits_for_passkey(emergency: Emergency) -> bool:
    """Nobody said yet whether a passkey confirms it."""
    return not emergency.confirmed and emergency.state == Emergency.State.ASKED


def is_too_late_to_confirm(emergency: Emergency) -> bool:
    """The keyholder would not take it for an hour's access any more."""
    return waits_for_passkey(emergency) and timezone.now() > emergency.opened_at + CONFIRM_WITHIN


def challenge(emergency: Emergency) -> str:
    """What the passkey signs, in hex: the digest that goes on the ledger."""
    return access_digest(
        access=emergency.pk,
        details=_details(emergency, Confirmed.PASSKEY),
        expires=int(emergency.expires_at.timestamp()),
        kind="emergency",
        patient=emergency.patient_id,
    )


def confirm(
    *, emergency: Emergency, by: User, signature: Json | None, keyholder: Keyholder | None = None
) -> Emergency:
    """Whoever opened it signs `challenge` with a passkey, or goes on without one (None), which it then says.

    It is said once: where it was said already, what was said then goes on. What the keyholder does not take
    changes nothing: it can be confirmed once more. Raises RefusedTransition (`not_yours`, and the
    keyholder's), LedgerError, KeyholderUnavailable (`ask_again` goes on).
    """
    if emergency.opened_by_id != by.pk:
        raise RefusedTransition(_("Somebody else opened this."), code="not_yours")
    how = Confirmed.SESSION if signature is None else Confirmed.PASSKEY
    undecided = Emergency.objects.filter(pk=emergency.pk, confirmed="", state=Emergency.State.ASKED)
    if not undecided.update(confirmed=how, signature=signature):
        # Another request of hers said it first, and only that one takes it back where it is refused.
        emergency.refresh_from_db()
        return emergency
    emergency.confirmed, emergency.signature = how, signature
    try:
        return ask_again(emergency=emergency, keyholder=keyholder)
    except RefusedTransition:
        waiting = Emergency.objects.filter(pk=emergency.pk, state=Emergency.State.ASKED)
        waiting.update(confirmed="", signature=None)
        raise


def ask_again(*, emergency: Emergency, keyholder: Keyholder | None = None) -> Emergency:
    """Have the keyholder put it on the ledger, unless it stands there. Raises as `open_emergency`."""
    if emergency.state == Emergency.State.RECORDED:
        return emergency
    assert emergency.opened_by_id is not None
    answer = _keyholder(keyholder).emergency_access(
        access=emergency.pk,
        patient=emergency.patient_id,
        details=_details(emergency, emergency.confirmed or Confirmed.SESSION),
        expires=int(emergency.expires_at.timestamp()),
        signature=emergency.signature,
    )
    if answer["state"] == "refused":
        Emergency.objects.filter(pk=emergency.pk).update(state=Emergency.State.REFUSED)
        raise RefusedTransition(_("The ledger refused this access."), code=answer["code"])
    if answer["state"] == "committed":
        emergency.state, emergency.tx_id = Emergency.State.RECORDED, answer["tx_id"]
        Emergency.objects.filter(pk=emergency.pk).update(state=emergency.state, tx_id=emergency.tx_id)
    return emergency


def _details(emergency: Emergency, confirmed: str) -> Json:
    """What the access says of itself: the ledger's digest covers it, the keyholder keeps it sealed."""
    return {
        "clinician": Actor.staff(emergency.opened_by_id).id,
        "confirmed": str(confirmed),
        "reason": emergency.reason,
        "words": emergency.explanation,
    }


def open_for(patient: Patient, by: User) -> Emergency | None:
    """What this person has open for this patient now."""
    return (
        Emergency.objects.filter(patient=patient, opened_by=by, ended_at=None, expires_at__gt=timezone.now())
        .exclude(state=Emergency.State.REFUSED)
        .first()
    )


def is_open(emergency: Emergency) -> bool:
    return (
        emergency.state == Emergency.State.RECORDED
        and emergency.ended_at is None
        and timezone.now() < emergency.expires_at
    )


def is_completed(emergency: Emergency, keyholder: Keyholder | None = None) -> bool | None:
    """Whether the other organisations said on the ledger that they saw it; None where nobody can say."""
    try:
        return _keyholder(keyholder).emergency_completed(access=emergency.pk)
    except GatewayError:
        return None


def end(*, emergency: Emergency, by: User, keyholder: Keyholder | None = None) -> None:
    """Before the hour is over. The row says so even where the keyholder cannot be told. Harmless to repeat.

    Raises RefusedTransition (`not_yours`).
    """
    if emergency.opened_by_id != by.pk:
        raise RefusedTransition(_("Somebody else opened this."), code="not_yours")
    with transaction.atomic():
        done = Emergency.objects.filter(pk=emergency.pk, ended_at=None).update(ended_at=timezone.now())
        if done:
            record(
                kind="emergency.ended",
                actor=Actor.staff(by.pk),
                subject=emergency.patient.pseudonym,
                access=emergency.pk,
            )
    try:
        _keyholder(keyholder).end_emergency(access=emergency.pk)
    except GatewayError as error:
        log.warning("the end of an emergency was not told to the keyholder: %s", error.code)


def signed_file(*, emergency: Emergency, keyholder: Keyholder | None = None) -> bytes:
    """What shows others that whoever opened it signed it; ledger/verify.py verifies it without us.

    Canonical JSON, without whose records it was, who opened them and why. Raises RefusedTransition
    (`not_signed`, `not_sealed`), KeyholderUnavailable, LedgerError.
    """
    found = _keyholder(keyholder).signed_emergency(access=emergency.pk)
    if found["evidence"] is None:
        raise RefusedTransition(_("The ledger does not have this access yet."), code="not_sealed")
    signature = {name: found["signature"][name] for name in SIGNATURE_FIELDS}
    return dumps({**found, "access": emergency.pk, "format": EMERGENCY_FORMAT, "signature": signature})


# What is read


def contents(*, emergency: Emergency, keyholder: Keyholder | None = None) -> list[ChunkHeader]:
    """What there is of the patient: types, labels, counts. Nothing is opened. Raises GatewayError."""
    _check_open(emergency)
    return _keyholder(keyholder).emergency_index(access=emergency.pk)


def read(
    *, emergency: Emergency, kind: str, part: int = 0, by: User, keyholder: Keyholder | None = None
) -> tuple[Records, int]:
    """The records of one FHIR type, newest first, and in how many parts they come. Nothing is kept.

    Each reading is an audit row, in a transaction before the keyholder is asked, and a row of the keyholder's
    log. Raises AccessDenied, EnvelopeError, LedgerError, KeyholderUnavailable.
    """
    _check_open(emergency)
    if emergency.opened_by_id != by.pk:
        raise AccessDenied(_("Somebody else opened this."), code="not_yours")
    keyholder = _keyholder(keyholder)
    wanted = [
        one["chunk"] for one in keyholder.emergency_index(access=emergency.pk) if one["resource_type"] == kind
    ]
    parts = list(in_parts(sorted(sizes_of(wanted).items()), MOST_BYTES))
    if not 0 <= part < len(parts):
        return records_of(()), len(parts)
    with transaction.atomic():
        record(
            kind="emergency.read",
            actor=Actor.staff(by.pk),
            subject=emergency.patient.pseudonym,
            access=emergency.pk,
            chunks=len(parts[part]),
        )
    blobs = blobs_of(emergency.patient_id, parts[part])
    opened = keyholder.read_emergency(access=emergency.pk, sealed=blobs)
    return records_of(opened.values()), len(parts)


def _check_open(emergency: Emergency) -> None:
    if emergency.ended_at is not None:
        raise AccessDenied(_("This access was ended."), code="access_ended")
    if timezone.now() >= emergency.expires_at:
        raise AccessDenied(_("The hour is over."), code="access_expired")
    if emergency.state != Emergency.State.RECORDED:
        raise AccessDenied(_("The ledger does not have this access yet."), code="access_missing")


# The review


def believe_keyholder(emergency: Emergency, keyholder: Keyholder | None = None) -> bool:
    """Let the row, which is not saved, say what the keyholder was told: one that says otherwise names nobody.

    False where the keyholder cannot say; then the row is the only word, and nothing is proven by it.
    """
    try:
        told = _keyholder(keyholder).access_told(access=emergency.pk)
    except GatewayError:
        return False
    if not _agrees(emergency, told):
        emergency.opened_by = None
        emergency.reason, emergency.explanation = _reason(told), _words(told)
    emergency.confirmed = _confirmed(told)
    return True


@transaction.atomic
def take(*, emergency: Emergency, by: User) -> None:
    """Whose review it is. Raises RefusedTransition."""
    row = _for_review(emergency, by)
    row.owner = by
    row.save(update_fields=["owner"])


@transaction.atomic
def review(*, emergency: Emergency, by: User, outcome: str, reason: str) -> None:
    """A second person says whether it was justified. It is said once, and the patient reads it.

    Raises InvalidInput, RefusedTransition (`own_emergency`, `already_reviewed`).
    """
    reason = " ".join(reason.split())
    if outcome not in Emergency.Outcome.values:
        raise InvalidInput(_("Say whether it was justified."), code="outcome")
    if len(reason) < SHORTEST:
        raise InvalidInput(_("Say why in at least 15 characters."), code="explanation")
    row = _for_review(emergency, by)
    row.reviewed_by, row.reviewed_at = by, timezone.now()
    row.outcome, row.outcome_reason = outcome, reason[:1000]
    row.save(update_fields=["reviewed_by", "reviewed_at", "outcome", "outcome_reason"])
    record(
        kind="emergency.reviewed",
        actor=Actor.staff(by.pk),
        subject=row.patient.pseudonym,
        access=row.pk,
        code=outcome,
    )


def _for_review(emergency: Emergency, by: User) -> Emergency:
    row = Emergency.objects.select_for_update().get(pk=emergency.pk)
    if row.reviewed_at is not None:
        raise RefusedTransition(_("It was reviewed already."), code="already_reviewed")
    if by.pk in (row.opened_by_id, row.patient.user_id):
        raise RefusedTransition(_("Somebody else has to review this."), code="own_emergency")
    return row


# What the ledger says


@transaction.atomic
def record_accessed(event: Event, keyholder: Keyholder | None = None) -> None:
    """Accessed: an emergency stands on the ledger. May come twice.

    One that no page asked for is told to the patient all the same: the keyholder says whose it is, by whom
    and why, whatever row of ours is there. Raises KeyholderUnavailable (the event comes again).
    """
    if (asked := whose(event, "emergency", _keyholder(keyholder))) is None:
        return
    patient, told = asked
    access = str(event.payload["access"])
    found = Emergency.objects.select_for_update().filter(pk=access)
    row = found.first()
    was_told = news.was_told(patient=patient, kind=News.Kind.EMERGENCY, about=access)
    if row is not None and was_told and _agrees(row, told):
        found.update(state=Emergency.State.RECORDED, tx_id=event.tx_id, confirmed=_confirmed(told))
        return
    log.warning("an emergency stands on the ledger that no page asked for")
    found.delete()  # a row that says otherwise than the keyholder, or of which she was not told
    expires = datetime.fromtimestamp(told["expires"], UTC)
    opened = expires - timedelta(minutes=MINUTES)
    made = Emergency.objects.create(
        id=access,
        patient=patient,
        reason=_reason(told),
        explanation=_words(told),
        state=Emergency.State.RECORDED,
        confirmed=_confirmed(told),
        tx_id=event.tx_id,
        opened_at=opened,
        expires_at=expires,
        review_by=opened + timedelta(hours=REVIEW_HOURS),
    )
    _tell(made, RELAY)


def _agrees(row: Emergency, told: AccessTold) -> bool:
    """Whether the row says what the keyholder was told: whose records, who opens them, and why. The row of
    one that no page asked for names nobody."""
    clinician = told["details"].get("clinician")
    return (
        row.patient_id == told["patient"]
        and (row.opened_by_id is None or Actor.staff(row.opened_by_id).id == clinician)
        and (row.reason, row.explanation) == (_reason(told), _words(told))
    )


def _confirmed(told: AccessTold) -> Confirmed:
    return Confirmed.PASSKEY if told["signed"] else Confirmed.SESSION


def _reason(told: AccessTold) -> str:
    return _said(told, "reason", REASONS.__contains__)


def _words(told: AccessTold) -> str:
    return _said(told, "words", lambda words: len(words) <= 1000)


def _said(told: AccessTold, name: str, is_right: Callable[[str], bool]) -> str:
    value = told["details"].get(name)
    return value if isinstance(value, str) and is_right(value) else ""


def _tell(emergency: Emergency, by: Actor) -> None:
    """The patient is told: by the row that the home page shows a banner of, and as news, always by email."""
    news.tell(patient=emergency.patient, kind=News.Kind.EMERGENCY, about=emergency.pk)
    record(
        kind="access.emergency",
        actor=by,
        subject=emergency.patient.pseudonym,
        access=emergency.pk,
        purpose=emergency.reason or None,
    )


def _keyholder(given: Keyholder | None) -> Keyholder:
    return given or Keyholder(settings.KEYHOLDER_SOCKET)

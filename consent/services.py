"""What changes in this room: answering, stopping, and what the ledger said about it (asking: asking.py).

An act writes its row, its outbox row and its audit row in one database transaction. The ledger
follows; its event brings the outcome to the `record_…` functions at the end of this file, which may be
called twice with the same event. What is not allowed raises RefusedTransition and changes nothing.
"""

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from consent import conflicts, fhir, representatives
from consent.answers import IN_PORTAL, Drafted, How
from consent.asking import ask, expire_requests, record_act, settle, withdraw_request
from consent.models import (
    Conflict,
    Consent,
    ConsentRequest,
    Patient,
    Progress,
    Representative,
    random_id,
)
from consent.patients import (
    accept_invitation,
    find_invitation,
    invite,
    invite_again,
    link_record,
    proof_identity,
)
from consent.state import end_of
from ledger import outbox
from ledger.audit.log import Actor
from ledger.channels import told
from ledger.client import Event
from ledger.errors import InvalidInput, RefusedTransition
from ledger.models import LedgerTransaction

__all__ = [
    "accept_invitation",
    "ask",
    "check_proofed",
    "consent_of",
    "consents_of",
    "draft",
    "expire_requests",
    "find_invitation",
    "grant",
    "invite",
    "invite_again",
    "link_record",
    "proof_identity",
    "record_all_granted",
    "record_granted",
    "record_refused",
    "record_replaced",
    "record_revoked",
    "refuse",
    "replace",
    "revoke",
    "use_up",
    "withdraw_request",
]

Json = dict[str, Any]

Status, LedgerState, Duration = Consent.Status, Consent.LedgerState, Consent.Duration
Scope = Representative.Scope
RELAY = Actor.system("relay")


def ledger_tells(consent_id: str) -> None:
    """For who cannot tell the keyholder of a stop at once: the ledger does."""


# Answering


@transaction.atomic
def grant(
    *,
    request: ConsentRequest,
    patient: Patient,
    kinds: Sequence[str],
    duration: str,
    sensitive: Sequence[str] = (),
    until: date | None = None,
    how: How = IN_PORTAL,
    drafted: Drafted | None = None,
    signature: Json | None = None,
) -> Consent:
    """The patient says yes to `kinds` (and to each of `sensitive` on its own) for `duration`.

    `until` is the last day, where the patient chose one that is sooner than the question's; `how` the
    answer came: by the patient or a representative in the portal, or written down by staff
    (consent/recorded.py). `drafted` is what `signature` (ledger.webauthn.Assertion) signed; the keyholder
    checks that it did. The consent is proposed until the ledger has it; where somebody else who decides for
    her says no, it is held and never sent (consent/conflicts.py). A representative's yes ends with the
    authority at the latest. Raises InvalidInput for a choice that was not offered, RefusedTransition for an
    answer that is not allowed (any more).
    """
    _check_may_answer(request, patient)
    check_proofed(patient)
    check_choice(request, kinds, sensitive, duration, until)
    _check_signature(request, signature, how)
    representatives.check(how.representative, patient, Scope.ANSWER, kinds=kinds, sensitive=sensitive)
    conflicts.one_at_a_time(patient)
    no = conflicts.against(request, how.author)
    differs = conflicts.may_differ(request, how.author, no)
    open_states = (ConsentRequest.State.PENDING, *([ConsentRequest.State.ANSWERED] if differs else []))
    settle(request, ConsentRequest.State.ANSWERED, of=open_states)
    consent = _propose(
        request,
        kinds,
        sensitive,
        duration,
        until,
        how=how,
        drafted=drafted,
        signature=signature,
        held=no is not None,
    )
    by = how.actor or Actor.patient(patient.pseudonym)
    if no is None:
        _send_to_keyholder("GrantConsent", consent)
    else:
        conflicts.opened(yes=consent, no=no, why=Conflict.Why.HELD, by=by)
    record_act(
        "consent.granted",
        by,
        request,
        consent=consent.id,
        code="asked" if no is None else "held",
        signed="passkey" if signature else "no",
        **how.details,
    )
    return consent


def draft(
    *,
    request: ConsentRequest,
    kinds: Sequence[str],
    duration: str,
    sensitive: Sequence[str] = (),
    until: date | None = None,
    drafted: Drafted,
    how: How = IN_PORTAL,
) -> Json:
    """The FHIR R4 Consent that `grant` or `replace` would make of the same arguments; nothing is kept.

    Raises InvalidInput.
    """
    check_choice(request, kinds, sensitive, duration, until)
    ends = _end(Duration(duration), request, drafted, until, how)
    return fhir.build_consent(
        drafted=drafted, request=request, kinds=kinds, sensitive=sensitive, ends=ends, how=how
    )


@transaction.atomic
def refuse(
    *,
    request: ConsentRequest,
    patient: Patient,
    how: How = IN_PORTAL,
    stop_now: Callable[[str], None] = ledger_tells,
) -> Consent:
    """The patient says no. Nothing goes to the ledger: what was not granted does not exist there.

    What somebody else gave the same requester for the same model stops with it (`stop_now` as for `revoke`).
    Raises RefusedTransition.
    """
    _check_may_answer(request, patient)
    representatives.check(how.representative, patient, Scope.ANSWER, asked=request.kinds)
    conflicts.one_at_a_time(patient)
    settle(request, ConsentRequest.State.ANSWERED)
    id, now = random_id(), timezone.now()
    consent = Consent.objects.create(
        id=id,
        request=request,
        patient=patient,
        channel=patient.channel,
        status=Status.REJECTED,
        ledger_state=LedgerState.NONE,
        fhir=fhir.build_refusal(consent_id=id, request=request, at=now, how=how),
        **how.fields,
    )
    by = how.actor or Actor.patient(patient.pseudonym)
    record_act("consent.refused", by, request, consent=consent.id, **how.details)
    for yes in conflicts.others_yes(request, how.author):
        stop(yes, by, stop_now, stopper=how.representative)
        conflicts.opened(yes=yes, no=consent, why=Conflict.Why.OVERRULED, by=by)
    return consent


@transaction.atomic
def replace(
    *,
    consent: Consent,
    patient: Patient,
    kinds: Sequence[str],
    duration: str,
    sensitive: Sequence[str] = (),
    until: date | None = None,
    how: How = IN_PORTAL,
    drafted: Drafted | None = None,
    signature: Json | None = None,
) -> Consent:
    """Who gave it changes it: a new consent takes the place of `consent`, which stays as it is until the
    ledger has the new one. `drafted` and `signature`: as for `grant`. Raises InvalidInput,
    RefusedTransition (`not_your_choice`: somebody else gave it; `in_conflict`).
    """
    _require_owner(consent.patient_id, patient)
    representatives.check(how.representative, patient, Scope.ANSWER, kinds=kinds, sensitive=sensitive)
    conflicts.one_at_a_time(patient)
    if consent.author != how.author:
        raise RefusedTransition(
            _("Somebody else made this choice. You can stop it, but not change it."), code="not_your_choice"
        )
    now = timezone.now()
    locked = Consent.objects.select_for_update(of=("self",)).select_related("request").get(pk=consent.pk)
    if Consent.objects.filter(replaces=locked).exists() or locked.ledger_state == LedgerState.SUPERSEDED:
        raise RefusedTransition(_("This choice was already replaced by a newer one."), code="replaced")
    if locked.ledger_state != LedgerState.IN_FORCE or locked.stopped_at or not _lasts(locked, now):
        raise RefusedTransition(_("Only a choice that is in force can be changed."), code="not_in_force")
    check_choice(locked.request, kinds, sensitive, duration, until)
    _check_signature(locked.request, signature, how)
    if conflicts.against(locked.request, how.author) is not None:
        raise RefusedTransition(_("The clinic looks at a disagreement about this first."), code="in_conflict")
    newer = _propose(
        locked.request,
        kinds,
        sensitive,
        duration,
        until,
        replaces=locked,
        how=how,
        drafted=drafted,
        signature=signature,
    )
    Progress.objects.filter(request=locked.request).delete()
    _send_to_keyholder("ReplaceConsent", newer)
    record_act(
        "consent.replaced",
        how.actor or Actor.patient(patient.pseudonym),
        newer.request,
        consent=newer.id,
        replaces=locked.id,
        code="asked",
        **how.details,
        signed="passkey" if signature else "no",
    )
    return newer


@transaction.atomic
def revoke(
    *, consent: Consent, patient: Patient, stop_now: Callable[[str], None], how: How = IN_PORTAL
) -> Consent:
    """The patient stops sharing, or a representative does. Nobody may refuse this but for there being
    nothing to stop; where somebody else gave it, a reviewer looks at it afterwards.

    `stop_now(consent id)` is called as soon as the stop is committed here: it tells the keyholder, which
    opens nothing more from then on. The ledger follows. Raises RefusedTransition.
    """
    _require_owner(consent.patient_id, patient)
    representatives.check(how.representative, patient, Scope.STOP)
    conflicts.one_at_a_time(patient)
    by = how.actor or Actor.patient(patient.pseudonym)
    stopped = stop(consent, by, stop_now, stopper=how.representative)
    if stopped.author != how.author:
        conflicts.opened(yes=stopped, no=stopped, why=Conflict.Why.STOPPED, by=by)
    return stopped


def use_up(*, consents: Sequence[str], stop_now: Callable[[str], None]) -> None:
    """A result was delivered under these consents: those given for one time only end here."""
    once = Consent.objects.filter(pk__in=consents, duration=Duration.ONCE, stopped_at=None)
    for consent in once.filter(ledger_state=LedgerState.IN_FORCE):
        try:
            stop(consent, RELAY, stop_now)
        except RefusedTransition:  # the patient was quicker
            continue


def stop(
    consent: Consent, by: Actor, stop_now: Callable[[str], None], *, stopper: Representative | None = None
) -> Consent:
    """Stop `consent`, whoever asks: callers say why they may. Raises RefusedTransition (`not_in_force`)."""
    with transaction.atomic():
        now = timezone.now()
        # A replacement on its way would come into force after all: it is stopped with what it replaces. And
        # whoever stops the replacement means both: what it replaces would go on otherwise.
        rows = Consent.objects.select_for_update(of=("self",)).filter(
            Q(pk=consent.pk)
            | Q(replaces=consent.pk, ledger_state=LedgerState.GRANTING)
            | Q(replaced_by=consent.pk)
        )
        stopped = None
        for row in rows.select_related(
            "request__requester", "request__notice", "patient", "request__patient", "representative__patient"
        ):
            if row.stopped_at is None and row.ledger_state in (LedgerState.GRANTING, LedgerState.IN_FORCE):
                _begin_stop(row, by, now, stopper)
                transaction.on_commit(lambda id=row.id: stop_now(id), robust=True)  # type: ignore[misc]
                stopped = row if row.pk == consent.pk else stopped
        if stopped is None:
            raise RefusedTransition(
                _("There is nothing to stop: this choice is not in force."), code="not_in_force"
            )
    return stopped


def _begin_stop(consent: Consent, by: Actor, now: datetime, stopper: Representative | None) -> None:
    consent.stopped_at, consent.status, consent.ledger_state = now, Status.INACTIVE, LedgerState.REVOKING
    consent.stopped_by, consent.stopper = by.kind, stopper
    consent.save(update_fields=["stopped_at", "status", "ledger_state", "stopped_by", "stopper"])
    # The outbox keeps the order within one reference: a grant still under way goes first.
    outbox.enqueue(
        name="RevokeConsent",
        args={"consent": consent.id},
        reference=f"consent/{consent.id}",
        channel=consent.channel,
    )
    record_act("consent.stopped", by, consent.request, consent=consent.id)


# What the ledger said. Each may come twice: the conditional update lets the first one through.


@transaction.atomic
def record_granted(event: Event) -> None:
    """ConsentGranted: the consent is in force, unless it was stopped meanwhile."""
    consent = _of_event(event)
    if consent is not None and _come_into_force(consent, event):
        record_act(
            "consent.granted", RELAY, consent.request, consent=consent.id, code="committed", **_where(event)
        )


@transaction.atomic
def record_all_granted(event: Event) -> None:
    """ConsentsGranted: several in one transaction."""
    for consent in event.payload["consents"]:
        record_granted(dataclasses.replace(event, payload={"consent": consent}))


@transaction.atomic
def record_replaced(event: Event) -> None:
    """ConsentReplaced: the new consent is in force, and the one that it replaces no longer."""
    consent = _of_event(event)
    if consent is None or not _come_into_force(consent, event):
        return
    Consent.objects.filter(pk=consent.replaces_id).exclude(ledger_state=LedgerState.REVOKED).update(
        status=Status.INACTIVE, ledger_state=LedgerState.SUPERSEDED
    )
    record_act(
        "consent.replaced",
        RELAY,
        consent.request,
        consent=consent.id,
        replaces=consent.replaces_id,
        code="committed",
        **_where(event),
    )


@transaction.atomic
def record_revoked(event: Event) -> None:
    """ConsentRevoked: nothing can be released under this consent any more, whoever revoked it."""
    consent = _of_event(event)
    if consent is None or consent.ledger_state == LedgerState.REVOKED:
        return
    consent.status = Status.ENTERED_IN_ERROR if consent.invalid_at else Status.INACTIVE
    consent.ledger_state = LedgerState.REVOKED
    consent.revoked_at = _ledger_time(event)
    consent.stopped_at = consent.stopped_at or consent.revoked_at
    consent.save(update_fields=["status", "ledger_state", "revoked_at", "stopped_at"])
    record_act("consent.revoked", RELAY, consent.request, consent=consent.id, **_where(event))


@transaction.atomic
def record_refused(row: LedgerTransaction) -> None:
    """The ledger refused for good what the outbox row asked for. A grant then never was.

    A refused revocation changes nothing here: the stop stays asked for, and the reconciler reports it.
    """
    if row.name not in ("GrantConsent", "ReplaceConsent"):
        return
    consent = consent_of(row)
    changed = Consent.objects.filter(
        pk=consent.pk, ledger_state__in=[LedgerState.GRANTING, LedgerState.REVOKING], granted_at=None
    ).update(status=Status.ENTERED_IN_ERROR, ledger_state=LedgerState.REFUSED, replaces=None)
    if changed:
        kind = "consent.granted" if row.name == "GrantConsent" else "consent.replaced"
        record_act(kind, RELAY, consent.request, consent=consent.id, code=row.error_code or "refused")


def consent_of(row: LedgerTransaction) -> Consent:
    """The consent that an outbox row is about."""
    return Consent.objects.select_related("request__requester", "request__notice", "request__patient").get(
        pk=row.reference.removeprefix("consent/")
    )


def consents_of(rows: Sequence[LedgerTransaction]) -> list[Consent]:
    """The consents that outbox rows are about, in their order. Raises Consent.DoesNotExist."""
    found = Consent.objects.select_related("request").in_bulk(
        [row.reference.removeprefix("consent/") for row in rows]
    )
    if len(found) < len(rows):
        raise Consent.DoesNotExist
    return [found[row.reference.removeprefix("consent/")] for row in rows]


def _come_into_force(consent: Consent, event: Event) -> bool:
    """Whether this event is the first news of it."""
    now = timezone.now()
    new = Consent.objects.filter(pk=consent.pk, granted_at=None)
    if new.filter(ledger_state=LedgerState.GRANTING).update(
        status=Status.ACTIVE, ledger_state=LedgerState.IN_FORCE, granted_at=now
    ):
        return True
    return bool(new.filter(ledger_state=LedgerState.REVOKING).update(granted_at=now))


def _of_event(event: Event) -> Consent | None:
    """The consent that an event is about; None where it is not of this installation, or of another channel:
    what its members write there under this id says nothing here."""
    return (
        Consent.objects.select_for_update(of=("self",))
        .select_related("request__requester", "request__notice", "request__patient")
        .filter(pk=event.payload.get("consent"), channel=event.channel)
        .first()
    )


def _ledger_time(event: Event) -> datetime:
    """When the transaction was made, by the time on the ledger (whole seconds), where the event says it."""
    at = event.payload.get("at")
    return timezone.now() if at is None else datetime.fromtimestamp(at, UTC)


def _where(event: Event) -> dict[str, Any]:
    return {"tx_id": event.tx_id, "block": event.block, "channel": told(event.channel)}


# Steps that the acts share


def _propose(
    request: ConsentRequest,
    kinds: Sequence[str],
    sensitive: Sequence[str],
    duration: str,
    until: date | None,
    *,
    replaces: Consent | None = None,
    how: How = IN_PORTAL,
    drafted: Drafted | None = None,
    signature: Json | None = None,
    held: bool = False,
) -> Consent:
    drafted = dataclasses.replace(drafted or Drafted(), signed=signature is not None)
    made = draft(
        request=request,
        kinds=kinds,
        sensitive=sensitive,
        duration=duration,
        until=until,
        drafted=drafted,
        how=how,
    )
    return Consent.objects.create(
        id=drafted.consent,
        request=request,
        patient_id=request.patient_id,
        channel=request.patient.channel,
        replaces=replaces,
        ledger_state=LedgerState.HELD if held else LedgerState.GRANTING,
        duration=duration,
        kinds=sorted(set(kinds)),
        sensitive=sorted(set(sensitive)),
        expires_at=_end(Duration(duration), request, drafted, until, how),
        fhir={**made, "status": "proposed"} if held else made,
        signature=signature,
        **how.fields,
    )


def _end(
    duration: Consent.Duration, request: ConsentRequest, drafted: Drafted, until: date | None, how: How
) -> datetime:
    """When it ends: no later than the authority of who gives it."""
    authority = how.representative.last_day if how.representative else None
    days = [day for day in (until, authority) if day is not None]
    return end_of(duration, request=request, now=drafted.at, until=min(days, default=None))


def _send_to_keyholder(name: str, consent: Consent) -> None:
    outbox.enqueue(
        name=name,
        args={"consent": consent.id},
        reference=f"consent/{consent.id}",
        through=LedgerTransaction.Through.KEYHOLDER,
        channel=consent.channel,
    )


def check_proofed(patient: Patient) -> None:
    """Raises RefusedTransition (`not_proofed`)."""
    if patient.proofed_at is None or not patient.record_id:
        raise RefusedTransition(_("The clinic has to check who you are first."), code="not_proofed")


def _check_may_answer(request: ConsentRequest, patient: Patient) -> None:
    _require_owner(request.patient_id, patient)
    if request.state == ConsentRequest.State.EXPIRED or request.answer_by < timezone.localdate():
        raise RefusedTransition(_("The time to answer is over."), code="too_late")


def check_choice(
    request: ConsentRequest,
    kinds: Sequence[str],
    sensitive: Sequence[str],
    duration: str,
    until: date | None = None,
) -> None:
    """Whether this was offered. Raises InvalidInput."""
    if not kinds or set(kinds) - set(request.kinds) or set(sensitive) - set(request.sensitive):
        raise InvalidInput(_("Choose from the kinds of record that were asked for."), code="kinds")
    if duration not in Duration.values:
        raise InvalidInput(_("Choose how long they can use them."), code="duration")
    if until is not None and not (
        duration == Duration.UNTIL and timezone.localdate() <= until <= request.share_until
    ):
        raise InvalidInput(_("Choose a day from today on, and not after the last day."), code="until")


def _check_signature(request: ConsentRequest, signature: Json | None, how: How) -> None:
    if how.representative is not None and signature is not None:
        raise RefusedTransition(_("Only the patient signs with a passkey."), code="signature_wrong")
    if request.signature_required and signature is None:
        raise RefusedTransition(
            _("This question needs a yes signed with a passkey."), code="signature_missing"
        )


def _require_owner(owner_id: str, patient: Patient) -> None:
    if owner_id != patient.pk:
        raise RefusedTransition(_("This is another person's."), code="not_yours")


def _lasts(consent: Consent, now: datetime) -> bool:
    return consent.expires_at is None or now < consent.expires_at

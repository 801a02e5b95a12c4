"""Answers that staff write down, on paper or by phone, and how they are taken back.

Three separate acts: to record an answer, to withdraw one because the patient says stop, and to mark one
invalid because it was written down by mistake. The patient sees it in her portal and can undo it there.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from consent import conflicts, services
from consent.answers import Authority, GivenBy, How
from consent.asking import record_act, settle
from consent.models import Conflict, Consent, ConsentRequest, Scan
from ledger.audit.log import Actor
from ledger.errors import InvalidInput, RefusedTransition

RECORDED = (GivenBy.PAPER, GivenBy.PHONE)


@transaction.atomic
def record_answer(
    *,
    request: ConsentRequest,
    by: AbstractBaseUser,
    given_by: str,
    authority: str,
    kinds: Sequence[str],
    sensitive: Sequence[str] = (),
    duration: str = "",
    scan: Scan | None = None,
    read_back: bool = False,
    stop_now: Callable[[str], None] = services.ledger_tells,
) -> Consent:
    """Write down the patient's answer: a yes to `kinds` and `sensitive`, or a no where both are empty.

    Paper needs its scan. Every answer is read back to the person first. Nobody writes down their own. A no
    stops what somebody else gave (`stop_now` as for `services.revoke`).
    Raises InvalidInput, RefusedTransition.
    """
    patient = request.patient
    if patient.user_id == by.pk:
        raise RefusedTransition(_("Somebody else has to write down your answer."), code="own_answer")
    if given_by not in RECORDED or authority not in Authority.values:
        raise InvalidInput(_("Say how the answer was given, and by whom."), code="given_by")
    if given_by == GivenBy.PAPER and scan is None:
        raise InvalidInput(_("Add a scan of the signed paper."), code="scan_missing")
    if scan is not None and scan.patient_id != patient.pk:
        raise InvalidInput(_("This scan belongs to another answer."), code="scan_of_another")
    if not read_back:
        raise InvalidInput(_("Read the answer back to the person first."), code="read_back")
    if authority == Authority.PARENT and not conflicts.decides(patient, authority, None):
        raise InvalidInput(_("This patient is of age: no parent decides for her."), code="of_age")
    if request.asked_at is None:
        raise RefusedTransition(_("This question has not passed its review."), code="not_open")
    how = How(given_by=given_by, authority=authority, staff=by.pk, scan=scan)
    if not kinds and not sensitive:
        return services.refuse(request=request, patient=patient, how=how, stop_now=stop_now)
    return services.grant(
        request=request, patient=patient, kinds=kinds, sensitive=sensitive, duration=duration, how=how
    )


def withdraw(
    *, consent: Consent, by: AbstractBaseUser, given_by: str, stop_now: Callable[[str], None]
) -> Consent:
    """The patient says stop, on paper or by phone. Raises InvalidInput, RefusedTransition."""
    if given_by not in RECORDED:
        raise InvalidInput(_("Say how the patient told you."), code="given_by")
    with transaction.atomic():
        stopped = services.stop(consent, Actor.staff(by.pk), stop_now)
        if stopped.author:  # somebody else gave it
            conflicts.opened(yes=stopped, no=stopped, why=Conflict.Why.STOPPED, by=Actor.staff(by.pk))
        record_act(
            "consent.withdrawn", Actor.staff(by.pk), consent.request, consent=consent.pk, given_by=given_by
        )
    return stopped


def mark_invalid(*, consent: Consent, actor: Actor, stop_now: Callable[[str], None]) -> None:
    """What staff wrote down by mistake never was an answer: its sharing stops, the question is open again.

    The mark is final. Raises RefusedTransition (`not_recorded`, `invalid_already`).
    """
    with transaction.atomic():
        locked = Consent.objects.select_for_update(of=("self",)).get(pk=consent.pk)
        if locked.given_by not in RECORDED:
            raise RefusedTransition(
                _("Only an answer that staff wrote down can be a mistake."), code="not_recorded"
            )
        if locked.invalid_at is not None:
            raise RefusedTransition(_("This answer is marked as a mistake already."), code="invalid_already")
        # A refusal, or what was stopped or has ended, shares nothing that could be stopped.
        with suppress(RefusedTransition):
            services.stop(consent, actor, stop_now)
        changes = {"invalid_at": timezone.now(), "status": Consent.Status.ENTERED_IN_ERROR}
        Consent.objects.filter(pk=consent.pk).update(**changes)
        record_act("consent.entered_in_error", actor, consent.request, consent=consent.pk)
        others = consent.request.consents.filter(
            invalid_at=None, ledger_state__in=[Consent.LedgerState.GRANTING, Consent.LedgerState.IN_FORCE]
        )
        if consent.request.answer_by >= timezone.localdate() and not others.exists():
            settle(consent.request, ConsentRequest.State.PENDING, of=(ConsentRequest.State.ANSWERED,))
    consent.refresh_from_db()


def undo(*, consent: Consent, stop_now: Callable[[str], None]) -> None:
    """The patient says that what staff wrote down is not what she said. Raises RefusedTransition."""
    mark_invalid(consent=consent, actor=Actor.patient(consent.request.patient.pseudonym), stop_now=stop_now)

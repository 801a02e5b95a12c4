"""Asking a patient: a requester puts a question, takes it back, or lets it end.

No question reaches a patient unread: it waits for a reviewer (consent/review.py) unless the installation
says otherwise. What is not allowed raises InvalidInput or RefusedTransition and changes nothing.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from consent import explanation, news
from consent.models import Cohort, ConsentRequest, Notice, Patient, Progress, Requester
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput, RefusedTransition

State, Action = ConsentRequest.State, ConsentRequest.Action
# What is still open, and the requester may take back.
OPEN = (State.REVIEW, State.SENT_BACK, State.PENDING)
RELAY = Actor.system("relay")
LONGEST_YEARS = 100
REVIEW_DAYS = 5

EXPIRE_AT_ONCE = 500  # requests for each call of expire_requests


@transaction.atomic
def ask(
    *,
    requester: Requester,
    patient: Patient,
    notice: Notice,
    model: str,
    purpose: str,
    use: Sequence[str],
    kinds: Sequence[str],
    what_for: str,
    share_until: date,
    answer_by: date,
    sensitive: Sequence[str] = (),
    who_sees: str = "",
    what_can_go_wrong: str = "",
    action: str = Action.USE,
    signature_required: bool = False,
    cohort: Cohort | None = None,
    by: Actor | None = None,
) -> ConsentRequest:
    """Put one question to one patient; a reviewer reads it first, unless AUTO_APPROVE is set.

    `model` is the digest of the AI model; where the `action` is to disclose, a copy of the records leaves
    de-identified, and no model is named. `purpose` a v3-ActReason code, `use` DUO codes, `kinds` FHIR
    resource types, `sensitive` v3-ActCode sensitivity codes. The texts are what the patient reads: at most
    20 words in a sentence. With `signature_required` only a yes that she signs with a passkey counts. A
    question of a `cohort` was reviewed with it. `by` defaults to the requester as an AI client. Raises
    InvalidInput, RefusedTransition (`not_linked`, `suspended`).
    """
    check_question(
        action=action,
        model=model,
        purpose=purpose,
        use=use,
        kinds=kinds,
        sensitive=sensitive,
        what_for=what_for,
        who_sees=who_sees,
        what_can_go_wrong=what_can_go_wrong,
        share_until=share_until,
        answer_by=answer_by,
    )
    if not patient.record_id:
        raise RefusedTransition(_("This patient has no linked record yet."), code="not_linked")
    check_not_suspended(requester)
    request = ConsentRequest.objects.create(
        requester=requester,
        patient=patient,
        notice=notice,
        action=action,
        model=model,
        purpose=purpose,
        use=sorted(set(use)),
        kinds=sorted(set(kinds)),
        sensitive=sorted(set(sensitive)),
        what_for=what_for.strip(),
        who_sees=who_sees.strip(),
        what_can_go_wrong=what_can_go_wrong.strip(),
        share_until=share_until,
        answer_by=answer_by,
        signature_required=signature_required,
        cohort=cohort,
        review_by=min(timezone.localdate() + timedelta(days=REVIEW_DAYS), answer_by),
    )
    record_act("consent.asked", by or Actor.client(requester.id), request)
    if cohort is not None:
        assert cohort.approved_by_id is not None
        reviewed = {"asked_at": timezone.now(), "reviewed_by_id": cohort.approved_by_id}
        settle(request, State.PENDING, of=(State.REVIEW,), **reviewed)
        record_act("request.approved", Actor.staff(cohort.approved_by_id), request)
    elif settings.AUTO_APPROVE:
        settle(request, State.PENDING, of=(State.REVIEW,), asked_at=timezone.now())
        record_act("request.approved", Actor.system("auto_approve"), request)
    return request


@transaction.atomic
def withdraw_request(*, request: ConsentRequest, requester: Requester) -> None:
    """The asker takes the question back while it is open. Raises RefusedTransition."""
    if request.requester_id != requester.pk:
        raise RefusedTransition(_("This question was asked by somebody else."), code="not_yours")
    settle(request, State.WITHDRAWN, of=OPEN)
    record_act("request.withdrawn", Actor.client(requester.pk), request)


def expire_requests(*, today: date | None = None) -> int:
    """Close what was not answered in time: silence is No. Returns how many were closed."""
    today = today or timezone.localdate()
    due = ConsentRequest.objects.filter(state__in=OPEN, answer_by__lt=today)
    closed = 0
    for request in due.select_related("patient", "requester", "notice").order_by("answer_by")[
        :EXPIRE_AT_ONCE
    ]:
        try:
            with transaction.atomic():
                settle(request, State.EXPIRED, of=OPEN)
                record_act("request.expired", RELAY, request)
        except RefusedTransition:  # answered or withdrawn a moment ago
            continue
        closed += 1
    return closed


def settle(
    request: ConsentRequest,
    state: ConsentRequest.State,
    *,
    of: Sequence[str] = (State.PENDING,),
    **changes: Any,
) -> None:
    """From one of the states `of` to `state`, once: of two acts at the same moment, one is refused.

    `changes` are other fields that change with it. Raises RefusedTransition (`not_open`).
    """
    still = ConsentRequest.objects.filter(pk=request.pk, state__in=of)
    if not still.update(state=state, **changes):
        raise RefusedTransition(_("This question is no longer open."), code="not_open")
    for name, value in {"state": state, **changes}.items():
        setattr(request, name, value)
    if state != State.PENDING:
        Progress.objects.filter(request=request).delete()


def check_not_suspended(requester: Requester) -> None:
    if requester.suspended_at:
        raise RefusedTransition(
            _("The hospital takes no questions from you now. Ask it why."), code="suspended"
        )


def check_question(
    *,
    action: str,
    model: str,
    purpose: str,
    use: Sequence[str],
    kinds: Sequence[str],
    sensitive: Sequence[str],
    what_for: str,
    who_sees: str,
    what_can_go_wrong: str,
    share_until: date,
    answer_by: date,
) -> None:
    """Whether a patient can be asked this, whoever she is. Raises InvalidInput."""
    _check_action(action, model)
    _check_words(purpose, use, kinds, sensitive)
    for text in (what_for, who_sees, what_can_go_wrong):
        if explanation.longest_sentence(text) > explanation.LONGEST_SENTENCE:
            raise InvalidInput(
                _("Write sentences of at most 20 words; a patient will read them."), code="hard_to_read"
            )
    if not what_for.strip() or len(what_for) > 300 or len(who_sees) > 300 or len(what_can_go_wrong) > 2000:
        raise InvalidInput(_("Say what the records are for, in at most 300 characters."), code="what_for")
    if not timezone.localdate() <= answer_by < share_until:
        raise InvalidInput(_("The answer is due today or later, and before the sharing ends."), code="dates")
    if share_until.year > timezone.localdate().year + LONGEST_YEARS:
        raise InvalidInput(
            _("Nothing is shared for more than %(number)s years.") % {"number": LONGEST_YEARS}, code="dates"
        )


def _check_action(action: str, model: str) -> None:
    if action not in Action.values:
        raise InvalidInput(
            _("A question is about using records here, or about a copy of them."), code="action"
        )
    if action == Action.DISCLOSE:
        if model:
            raise InvalidInput(_("A copy of records is for no model: leave it out."), code="model")
    elif len(model) != 64 or set(model) - set("0123456789abcdef"):
        raise InvalidInput(_("The AI model is named by its SHA-256 digest in lower-case hex."), code="model")


def _check_words(purpose: str, use: Sequence[str], kinds: Sequence[str], sensitive: Sequence[str]) -> None:
    if purpose not in explanation.PURPOSES:
        raise InvalidInput(_("The purpose is not a v3-ActReason code that we know."), code="purpose")
    if set(use) - explanation.USES:
        raise InvalidInput(_("One of the uses is not a DUO code that we know."), code="use")
    if not kinds or set(kinds) - explanation.KINDS.keys():
        raise InvalidInput(_("Name the kinds of record by FHIR resource types that we know."), code="kinds")
    if set(sensitive) - explanation.SENSITIVE.keys():
        raise InvalidInput(_("One of the sensitive kinds is not a code that we know."), code="sensitive")


def record_act(kind: str, actor: Actor, request: ConsentRequest, **details: Any) -> None:
    """The audit row of one act upon a question or its answer, and what the patient is told of it."""
    news.tell_of_answer(kind, actor, patient=request.patient_id, request=request.id, details=details)
    record(
        kind=kind,
        actor=actor,
        subject=request.patient.pseudonym,
        request=request.id,
        requester=str(request.requester_id),
        purpose=request.purpose,
        model=request.model or None,
        **{"notice": request.notice.digest, **details},
    )

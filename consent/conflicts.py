"""Where two who may decide for a patient disagree: the most restrictive holds until a reviewer has looked.

They disagree about one thing: the same requester and the same AI model. A yes against another's no or stop
is kept and not sent; a no stops what another gave. The ledger then has no consent, or a stopped one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from consent import asking
from consent.models import Conflict, Consent, ConsentRequest, Patient, Representative
from ledger.audit.log import Actor
from ledger.errors import InvalidInput, RefusedTransition

Why, Outcome = Conflict.Why, Conflict.Outcome
LedgerState, Status = Consent.LedgerState, Consent.Status

PERSONS = ("patient", "representative", "staff")  # whose stop is a decision; staff pass the patient's on
DAYS_TO_ANSWER = 14
REASON_LENGTH = range(15, 301)  # characters


@dataclass(frozen=True)
class _Decision:
    """What somebody (`Consent.author`) said last, in which answer."""

    at: datetime
    says_no: bool
    answer: Consent
    who: Representative | None


def one_at_a_time(patient: Patient) -> None:
    """Of two acts for one patient at the same moment, the second sees what the first did."""
    Patient.objects.select_for_update().get(pk=patient.pk)


def against(request: ConsentRequest, author: str) -> Consent | None:
    """The answer by which somebody else says no to what `author` would say yes to; None: nobody does.

    Each person's last word counts. A representative's counts as long as the authority stands. While a
    disagreement waits for its review, every yes goes against it.
    """
    waiting = _about(request).filter(settled_at=None).select_related("no").first()
    if waiting is not None:
        return waiting.no
    for other, said in _last_words(request).items():
        if other != author and said.says_no and decides(request.patient, other, said.who):
            return said.answer
    return None


def may_differ(request: ConsentRequest, author: str, no: Consent | None) -> bool:
    """Whether `author` may still say yes to a question that somebody else (`no`) answered with a no: once."""
    return (
        no is not None
        and no.request_id == request.pk
        and no.status == Status.REJECTED
        and no.author != author
        and not any(one.yes.author == author for one in _open(request))
    )


def others_yes(request: ConsentRequest, author: str) -> list[Consent]:
    """What others than `author` gave to this requester for this model, in force or on its way there."""
    given = _answers(request).filter(
        stopped_at=None, ledger_state__in=(LedgerState.GRANTING, LedgerState.IN_FORCE)
    )
    return [each for each in given if each.author != author]


def opened(*, yes: Consent, no: Consent, why: str, by: Actor) -> None:
    """A reviewer has to look at it. Nothing to look at where whose word was overruled decides no more."""
    if why != Why.HELD and not decides(yes.request.patient, yes.author, yes.representative):
        return
    Conflict.objects.create(patient_id=yes.patient_id, yes=yes, no=no, why=why)
    asking.record_act("conflict.opened", by, yes.request, consent=yes.pk, code=why)


@transaction.atomic
def settle(*, conflict: Conflict, by: AbstractBaseUser, outcome: str, reason: str) -> None:
    """A reviewer's decision: nothing is shared (`keep`), or the question is put again (`ask_anew`).

    Neither lets the yes in: where the question is put again, it is answered again. `reason`: 15 to 300
    characters, for staff. Raises InvalidInput, RefusedTransition (`own_conflict`, `settled_already`,
    `too_late`, `suspended`, `not_open`).
    """
    reason = reason.strip()
    if outcome not in Outcome.values:
        raise InvalidInput(_("Choose what is to happen."), code="outcome")
    if len(reason) not in REASON_LENGTH:
        raise InvalidInput(_("Give the reason in 15 to 300 characters."), code="reason")
    yes = conflict.yes
    if by.pk in _concerned(conflict):
        raise RefusedTransition(_("Somebody else has to review what concerns you."), code="own_conflict")
    one_at_a_time(yes.request.patient)
    now = timezone.now()
    settled = {"settled_at": now, "settled_by": by, "outcome": outcome, "reason": reason}
    if not Conflict.objects.filter(pk=conflict.pk, settled_at=None).update(**settled):
        raise RefusedTransition(_("Somebody has settled this already."), code="settled_already")
    Consent.objects.filter(pk=yes.pk, ledger_state=LedgerState.HELD).update(
        ledger_state=LedgerState.NONE, status=Status.INACTIVE
    )
    if outcome == Outcome.ASK_ANEW:
        _ask_anew(yes.request, now)
    asking.record_act("conflict.settled", Actor.staff(by.pk), yes.request, consent=yes.pk, code=str(outcome))
    conflict.refresh_from_db()


def _ask_anew(request: ConsentRequest, now: datetime) -> None:
    last = request.share_until - timedelta(days=1)
    if last < timezone.localdate():
        raise RefusedTransition(_("What was asked for is over: there is nothing to ask."), code="too_late")
    if request.requester.suspended_at:
        raise RefusedTransition(_("This provider is suspended: it cannot ask."), code="suspended")
    if request.consents.filter(ledger_state__in=(LedgerState.GRANTING, LedgerState.IN_FORCE)).exists():
        raise RefusedTransition(_("Something is shared for this question already."), code="not_open")
    answer_by = min(last, timezone.localdate() + timedelta(days=DAYS_TO_ANSWER))
    asking.settle(
        request,
        ConsentRequest.State.PENDING,
        of=(ConsentRequest.State.ANSWERED,),
        asked_anew_at=now,
        answer_by=max(answer_by, request.answer_by),
    )


def decides(patient: Patient, author: str, who: Representative | None) -> bool:
    """Whether this person's word counts now (`who` for a representative's)."""
    if who is not None:
        return who.stands()
    if author == Consent.Authority.PARENT:
        return patient.of_age_on is None or timezone.localdate() < patient.of_age_on
    return True


def _about(request: ConsentRequest) -> QuerySet[Conflict]:
    return Conflict.objects.filter(
        patient=request.patient_id,
        yes__request__requester=request.requester_id,
        yes__request__model=request.model,
    )


def _open(request: ConsentRequest) -> Iterable[Conflict]:
    return _about(request).filter(settled_at=None).select_related("yes")


def _answers(request: ConsentRequest) -> QuerySet[Consent]:
    return Consent.objects.filter(
        patient=request.patient_id,
        request__requester=request.requester_id,
        request__model=request.model,
        invalid_at=None,
    ).select_related("representative__patient", "stopper__patient", "request__patient")


def _last_words(request: ConsentRequest) -> dict[str, _Decision]:
    """By author, what was said last: since the question was last asked anew, if it was."""
    since = _about(request).filter(outcome=Outcome.ASK_ANEW).aggregate(at=Max("settled_at"))["at"]
    said: list[tuple[str, _Decision]] = []
    # A change that the ledger refused never was.
    for one in _answers(request).exclude(ledger_state=LedgerState.REFUSED):
        says_no = one.status == Status.REJECTED
        said.append((one.author, _Decision(one.decided_at, says_no, one, one.representative)))
        if one.stopped_at is not None and one.stopped_by in PERSONS:
            stop = _Decision(one.stopped_at, True, one, one.stopper)
            said.append((one.stopper_id or "", stop))
    said.sort(key=lambda each: each[1].at)
    return {author: each for author, each in said if since is None or each.at > since}


def _concerned(conflict: Conflict) -> set[int]:
    """The accounts of those who decide for this patient, and her own."""
    accounts = Representative.objects.filter(patient=conflict.patient_id).values_list("user_id", flat=True)
    return {id for id in (*accounts, conflict.yes.request.patient.user_id) if id is not None}


def open_ones() -> QuerySet[Conflict]:
    """Those that wait for a review, oldest first; who the patients are is not fetched."""
    return (
        Conflict.objects.filter(settled_at=None)
        .select_related(
            "yes__request__requester", "yes__representative", "no__representative", "yes__stopper"
        )
        .order_by("opened_at", "id")
    )


def waiting_for(patient: Patient) -> QuerySet[Conflict]:
    """Of this patient, those that wait or were settled in the last 90 days; the open ones first."""
    lately = timezone.now() - timedelta(days=90)
    return (
        Conflict.objects.filter(Q(settled_at=None) | Q(settled_at__gt=lately), patient=patient)
        .select_related(
            "yes__request__requester", "yes__representative", "no__representative", "yes__stopper"
        )
        .order_by("settled_at", "-opened_at")
    )


def about(consent: Consent) -> list[Conflict]:
    """The disagreements in which this answer is the yes or the no, latest first."""
    found = Conflict.objects.filter(Q(yes=consent) | Q(no=consent)).select_related(
        "yes__request__requester", "yes__representative", "no__representative", "yes__stopper"
    )
    return list(found.order_by("-opened_at")[:20])

"""Asking many: a requester proposes a question, the hospital decides whom it is put to, and finds them.

One reviewer writes the criteria and sees how many fit; another approves, and those found are asked one after
another. The requester sees numbers that are cut short (counting.py), and never who (ADR 17). Criteria
know what stands outside the sealed records: an age, and which kinds of record there are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from itertools import islice
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.formats import localize
from django.utils.translation import gettext as _

from consent import notices, review
from consent.asking import OPEN as OPEN_QUESTIONS
from consent.asking import RELAY, ask, check_not_suspended, check_question
from consent.counting import told
from consent.explanation import KINDS
from consent.models import Cohort, Consent, ConsentRequest, Patient, Requester
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput, RefusedTransition

State = Cohort.State
OPEN = (State.PROPOSED, State.WRITTEN)
MOST_OPEN = 20  # cohorts of one requester that wait for the hospital
MOST_FOUND = 5000
LOOK_AT_ONCE = 500  # patients whose records' kinds are asked for together
ASK_AT_ONCE = 50  # patients for each call of ask_next
TOLD_AGAIN = timedelta(days=1)
OLDEST = 130

WithKinds = Callable[[Sequence[str], Sequence[str]], Sequence[str]]
"""Patients' ids and kinds of record → those who have an ordinary record of each, in their order; nothing is
opened (Keyholder.with_kinds)."""


@dataclass(frozen=True)
class Criteria:
    """Whom to ask: of this age in whole years, where there is at least one record of each of `kinds`.

    Records with a sensitivity count for nothing here: who was asked must not say who has some.
    """

    age_from: int | None = None
    age_to: int | None = None
    kinds: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raises InvalidInput (`criteria`)."""
        ages = [age for age in (self.age_from, self.age_to) if age is not None]
        ages_fit = all(0 <= age <= OLDEST for age in ages) and ages == sorted(ages)
        if not ages_fit or set(self.kinds) - KINDS.keys():
            raise InvalidInput(
                _("Ages are 0 to %(number)s, the lower one first; kinds are those of the list.")
                % {"number": OLDEST},
                code="criteria",
            )

    def born(self, today: date) -> dict[str, date]:
        """The ages as conditions on the date of birth. Whose is not known fits no age."""
        conditions = {}
        if self.age_from is not None:
            conditions["birth_date__lte"] = _years_before(today, self.age_from)
        if self.age_to is not None:
            conditions["birth_date__gt"] = _years_before(today, self.age_to + 1)
        return conditions

    def fitting(self, patients: Sequence[str], with_kinds: WithKinds) -> list[str]:
        """Those who have records of all the kinds, in their order."""
        return list(with_kinds(patients, self.kinds) if self.kinds else patients)


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:  # 29 February
        return date(day.year - years, 2, 28)


# The requester


@transaction.atomic
def propose(*, requester: Requester, question: Mapping[str, Any], wish: str) -> Cohort:
    """Take a question (as `asking.ask` takes it) for people of whom the requester says who they should be.

    Raises InvalidInput as `ask` does (`wish`), RefusedTransition (`suspended`, `too_many_cohorts`).
    """
    asked = {"action": ConsentRequest.Action.USE.value, "sensitive": [], "who_sees": "", **question}
    signature_required = bool(asked.pop("signature_required", False))
    check_question(**asked)
    check_not_suspended(requester)
    if not 0 < len(wish.strip()) <= 500:
        raise InvalidInput(_("Say whom you want to ask, in at most 500 characters."), code="wish")
    if Cohort.objects.filter(requester=requester, state__in=OPEN).count() >= MOST_OPEN:
        raise RefusedTransition(
            _("%(number)s cohorts of yours wait already.") % {"number": MOST_OPEN}, code="too_many_cohorts"
        )
    dates = {name: asked[name].isoformat() for name in ("share_until", "answer_by")}
    made = Cohort.objects.create(
        requester=requester,
        question={**asked, **dates, "signature_required": signature_required},
        wish=wish.strip(),
    )
    _record("cohort.proposed", Actor.client(requester.pk), made)
    return made


def question_of(cohort: Cohort) -> dict[str, Any]:
    """What `asking.ask` is given for each patient."""
    dates = {name: date.fromisoformat(cohort.question[name]) for name in ("share_until", "answer_by")}
    return {**cohort.question, **dates, "requester": cohort.requester, "notice": notices.current()}


def numbers(cohort: Cohort) -> dict[str, Any]:
    """What the requester is told: `asked` and `in_force` at least, and when the second was counted: once a
    day at most, so that no single yes or stop shows."""
    with transaction.atomic():
        row = Cohort.objects.select_for_update().get(pk=cohort.pk)
        if row.state == State.ASKED and (row.told_at is None or timezone.now() >= row.told_at + TOLD_AGAIN):
            row.told_in_force = told(len(in_force(row)), short_by=row.short_by[1])
            row.told_at = timezone.now()
            row.save(update_fields=["told_in_force", "told_at"])
    asked = told(row.requests.count(), short_by=row.short_by[0]) if row.state == State.ASKED else None
    return {"asked": asked, "in_force": row.told_in_force, "counted_at": row.told_at}


def in_force(
    cohort: Cohort, *, kinds: Sequence[str] = (), given_since: date | None = None
) -> list[ConsentRequest]:
    """Its questions with a consent in force, by the readable copies, that gives all of `kinds`."""
    given = Consent.objects.in_force().filter(request__cohort=cohort).select_related("request__patient")
    if given_since is not None:
        given = given.filter(granted_at__date__gte=given_since)
    fits = [one for one in given.order_by("pk") if set(kinds) <= set(one.kinds)]
    return list({one.request_id: one.request for one in fits}.values())


# The hospital


@transaction.atomic
def write(*, cohort: Cohort, criteria: Criteria, by: AbstractBaseUser, with_kinds: WithKinds) -> int:
    """Write the criteria, or write them anew, and find whom they fit. Returns how many: these are asked.

    Raises InvalidInput (`criteria`), RefusedTransition (`not_open`, `too_many_found`).
    """
    criteria.check()
    row = _locked(cohort, OPEN)
    found = []
    of_age = _candidates(row).filter(**criteria.born(timezone.localdate()))
    rest = of_age.values_list("pk", flat=True).iterator()
    while some := list(islice(rest, LOOK_AT_ONCE)):
        found += criteria.fitting(some, with_kinds)
        if len(found) > MOST_FOUND:
            raise RefusedTransition(
                _("They fit more than %(number)s people. Narrow them.") % {"number": localize(MOST_FOUND)},
                code="too_many_found",
            )
    row.criteria, row.chosen, row.found = asdict(criteria), found, len(found)
    row.state, row.written_by_id = State.WRITTEN, by.pk
    row.save(update_fields=["criteria", "chosen", "found", "state", "written_by"])
    _record("cohort.written", Actor.staff(by.pk), row)
    return len(found)


@transaction.atomic
def approve(*, cohort: Cohort, by: AbstractBaseUser) -> None:
    """Those found are asked from now on. Somebody else wrote the criteria.

    Raises RefusedTransition (`not_open`, `own_criteria`, `too_few`, `too_late`).
    """
    row = _locked(cohort, (State.WRITTEN,))
    if row.written_by_id == by.pk:
        raise RefusedTransition(_("Somebody else has to approve what you wrote."), code="own_criteria")
    if len(row.chosen) < settings.COHORT_FEWEST:
        raise RefusedTransition(
            _("They fit fewer than %(number)s people: send it back.") % {"number": settings.COHORT_FEWEST},
            code="too_few",
        )
    if question_of(row)["answer_by"] < timezone.localdate():
        raise RefusedTransition(_("The time to answer is over: send it back."), code="too_late")
    row.state, row.approved_by_id, row.approved_at = State.ASKING, by.pk, timezone.now()
    row.save(update_fields=["state", "approved_by", "approved_at"])
    _record("cohort.approved", Actor.staff(by.pk), row)


@transaction.atomic
def send_back(*, cohort: Cohort, by: AbstractBaseUser, reasons: Sequence[str]) -> None:
    """Back to the requester, for these reasons (codes of review.REASONS). Nobody is asked.

    Raises InvalidInput (`reasons`), RefusedTransition (`not_open`).
    """
    if not reasons or set(reasons) - review.REASONS.keys():
        raise InvalidInput(_("Choose one or more reasons from the list."), code="reasons")
    row = _locked(cohort, OPEN)
    row.state, row.send_back_reasons, row.chosen = State.SENT_BACK, sorted(set(reasons)), []
    row.save(update_fields=["state", "send_back_reasons", "chosen"])
    _record("cohort.sent_back", Actor.staff(by.pk), row, reasons=row.send_back_reasons)


def ask_next() -> int:
    """Ask the next patients of what is approved; the relay calls this. Returns how many were asked."""
    waiting = Cohort.objects.filter(state=State.ASKING).order_by("approved_at", "pk").first()
    if waiting is None:
        return 0
    try:
        return _ask_some(waiting)
    except (InvalidInput, RefusedTransition):
        # It cannot be asked any more: its time is over, or its asker was suspended. Others wait behind it.
        _end(waiting)
        return 0


@transaction.atomic
def _ask_some(cohort: Cohort) -> int:
    row = _locked(cohort, (State.ASKING,))
    now, row.chosen = row.chosen[:ASK_AT_ONCE], row.chosen[ASK_AT_ONCE:]
    # Who was asked meanwhile in another way, or decides about this very question, is passed over.
    still = _candidates(row).filter(pk__in=now).exclude(user_id__in=[row.written_by_id, row.approved_by_id])
    question = question_of(row)
    asked = [ask(patient=each, cohort=row, **question) for each in still]
    row.save(update_fields=["chosen"])
    if not row.chosen:
        _end(row)
    return len(asked)


@transaction.atomic
def _end(cohort: Cohort) -> None:
    row = _locked(cohort, (State.ASKING,))
    row.state, row.chosen = State.ASKED, []
    row.save(update_fields=["state", "chosen"])
    _record("cohort.asked", RELAY, row, subjects=row.requests.count())


def _candidates(cohort: Cohort) -> Any:
    """Who can answer, and was not asked by this requester about this model: a no is not asked again."""
    asked = ConsentRequest.objects.filter(
        requester=cohort.requester,
        model=cohort.question["model"],
        state__in=(*OPEN_QUESTIONS, ConsentRequest.State.ANSWERED),
    )
    can_answer = Patient.objects.filter(record_id__isnull=False, proofed_at__isnull=False)
    return can_answer.exclude(pk__in=asked.values("patient")).order_by("pk")


def _locked(cohort: Cohort, states: Sequence[str]) -> Cohort:
    """The row, within the caller's transaction, in one of these states. Raises RefusedTransition."""
    rows = Cohort.objects.select_for_update(of=("self",)).select_related("requester")
    row = rows.filter(pk=cohort.pk, state__in=states).first()
    if row is None:
        raise RefusedTransition(_("This cohort is not open for that any more."), code="not_open")
    return row


def _record(kind: str, by: Actor, cohort: Cohort, **details: Any) -> None:
    record(
        kind=kind,
        actor=by,
        cohort=cohort.pk,
        requester=str(cohort.requester_id),
        purpose=cohort.question["purpose"],
        model=cohort.question["model"],
        **details,
    )

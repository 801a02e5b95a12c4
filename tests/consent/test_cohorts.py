"""Asking many: a requester proposes, one reviewer writes whom, another approves, and they are asked."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pytest
from django.utils import timezone

from consent import cohorts, services
from consent.cohorts import Criteria
from consent.models import Cohort, ConsentRequest, News, Patient, Requester, random_id
from gateway.accounts.models import User
from ledger.audit.models import AuditRow
from ledger.errors import GatewayError, InvalidInput, RefusedTransition
from tests.questions import MODEL, ask, cohort_question, commit, grant

pytestmark = pytest.mark.django_db

State = Cohort.State
Kinds = Mapping[str, set[str]]


@pytest.fixture
def rita(user: Any) -> User:
    return user("rita-1", is_staff=True)  # type: ignore[no-any-return]


@pytest.fixture
def otto(user: Any) -> User:
    return user("otto-1", is_staff=True)  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def few(settings: Any) -> None:
    settings.COHORT_FEWEST = 3


def people(number: int, **fields: Any) -> list[Patient]:
    given = {"proofed_at": timezone.now(), **fields}
    return [Patient.objects.create(name=f"p{n}", record_id=random_id(), **given) for n in range(number)]


def propose(helix: Requester, **changes: Any) -> Cohort:
    made = cohorts.propose(requester=helix, question=cohort_question(MODEL, **changes), wish="Adults.")
    Cohort.objects.filter(pk=made.pk).update(short_by=[0, 0])
    return made


def write(cohort: Cohort, by: User, criteria: Criteria | None = None, there: Kinds | None = None) -> int:
    known = there or {}
    return cohorts.write(
        cohort=cohort,
        criteria=criteria or Criteria(),
        by=by,
        with_kinds=lambda patients, kinds: [one for one in patients if known.get(one, set()) >= set(kinds)],
    )


def asked(cohort: Cohort, rita: User, otto: User) -> Cohort:
    write(cohort, rita)
    cohorts.approve(cohort=cohort, by=otto)
    while cohorts.ask_next():
        pass
    cohort.refresh_from_db()
    return cohort


def code_of(error: pytest.ExceptionInfo[GatewayError]) -> str:
    return error.value.code


def test_those_whom_the_criteria_fit_are_asked(helix: Requester, rita: User, otto: User) -> None:
    found = people(5)
    cohort = propose(helix)
    assert write(cohort, rita) == 5
    assert not ConsentRequest.objects.exists()
    cohorts.approve(cohort=cohort, by=otto)
    assert cohorts.ask_next() == 5
    cohort.refresh_from_db()
    assert cohort.state == State.ASKED
    requests = cohort.requests.all()
    assert {each.patient_id for each in requests} == {each.pk for each in found}
    assert {(each.state, each.reviewed_by_id) for each in requests} == {("pending", otto.pk)}
    assert News.objects.filter(kind="question").count() == 5
    assert not cohorts.ask_next()
    kinds = AuditRow.objects.filter(kind__startswith="cohort.").order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["cohort.proposed", "cohort.written", "cohort.approved", "cohort.asked"]


def test_many_are_asked_some_at_a_time_and_each_once(
    helix: Requester, rita: User, otto: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohorts, "ASK_AT_ONCE", 2)
    people(5)
    cohort = propose(helix)
    write(cohort, rita)
    cohorts.approve(cohort=cohort, by=otto)
    assert [cohorts.ask_next() for _ in range(4)] == [2, 2, 1, 0]
    assert cohort.requests.values("patient").distinct().count() == cohort.requests.count() == 5


def test_a_cohort_that_cannot_be_asked_any_more_ends_and_the_next_goes_on(
    helix: Requester, rita: User, otto: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohorts, "ASK_AT_ONCE", 2)
    people(5)
    other = Requester.objects.create(name="Other AI")
    first, second = propose(helix), propose(other)
    for cohort in (first, second):
        write(cohort, rita)
        cohorts.approve(cohort=cohort, by=otto)
    assert cohorts.ask_next() == 2
    Requester.objects.filter(pk=helix.pk).update(suspended_at=timezone.now())
    assert cohorts.ask_next() == 0
    while cohorts.ask_next():
        pass
    states = {cohort.state for cohort in Cohort.objects.all()}
    assert (states, first.requests.count(), second.requests.count()) == ({State.ASKED}, 2, 5)
    assert set(map(tuple, Cohort.objects.values_list("chosen", flat=True))) == {()}


def test_criteria_know_age_and_kinds_of_record(helix: Requester, rita: User) -> None:
    today = timezone.localdate()
    ages = {age: people(1, birth_date=_born(today, age))[0] for age in (39, 40, 64, 65)}
    unknown = people(1)[0]
    cohort = propose(helix)

    def chosen(criteria: Criteria, there: Kinds | None = None) -> set[str]:
        write(cohort, rita, criteria, there)
        cohort.refresh_from_db()
        return set(cohort.chosen)

    assert chosen(Criteria(age_from=40, age_to=64)) == {ages[40].pk, ages[64].pk}
    assert chosen(Criteria(age_to=39)) == {ages[39].pk}
    there = {
        ages[39].pk: {"Observation"},
        ages[65].pk: {"Condition"},
        unknown.pk: {"Observation", "Condition"},
    }
    assert chosen(Criteria(kinds=["Observation"]), there) == {ages[39].pk, unknown.pk}
    assert chosen(Criteria(kinds=["Observation", "Condition"]), there) == {unknown.pk}
    assert chosen(Criteria(age_from=39, kinds=["Observation"]), there) == {ages[39].pk}
    for wrong in (Criteria(age_from=50, age_to=40), Criteria(age_from=-1), Criteria(kinds=["Diagnosis"])):
        with pytest.raises(InvalidInput) as error:
            write(cohort, rita, wrong)
        assert code_of(error) == "criteria"


def _born(today: date, age: int) -> date:
    """Somebody who turns `age` + 1 tomorrow, or turned `age` today."""
    return (today + timedelta(days=1)).replace(year=(today + timedelta(days=1)).year - age - 1)


def test_who_said_no_or_was_asked_is_not_asked_again(
    helix: Requester, rita: User, otto: User, alice: Patient
) -> None:
    people(4)
    waiting = ask(helix, alice, model=MODEL)
    cohort = asked(propose(helix), rita, otto)
    assert cohort.requests.count() == 4
    services.refuse(request=waiting, patient=alice)
    answered = cohort.requests.select_related("patient").first()
    assert answered is not None
    services.refuse(request=answered, patient=answered.patient)
    cohort.requests.filter(state="pending").update(state="expired")
    again = asked(propose(helix), rita, otto)
    assert again.requests.count() == 3
    assert not again.requests.filter(patient__in=[alice, answered.patient]).exists()


def test_nobody_approves_what_they_wrote_nor_a_question_to_themselves(
    helix: Requester, rita: User, otto: User
) -> None:
    mine, *_ = people(5)
    Patient.objects.filter(pk=mine.pk).update(user=otto)
    cohort = propose(helix)
    write(cohort, rita)
    with pytest.raises(RefusedTransition) as error:
        cohorts.approve(cohort=cohort, by=rita)
    assert code_of(error) == "own_criteria"
    assert not ConsentRequest.objects.exists()
    asked(cohort, rita, otto)
    assert cohort.requests.count() == 4
    assert not cohort.requests.filter(patient=mine).exists()


def test_few_are_not_asked(helix: Requester, rita: User, otto: User) -> None:
    people(2)
    cohort = propose(helix)
    write(cohort, rita)
    with pytest.raises(RefusedTransition) as error:
        cohorts.approve(cohort=cohort, by=otto)
    assert code_of(error) == "too_few"


def test_what_was_sent_back_asks_nobody(helix: Requester, rita: User, otto: User) -> None:
    people(4)
    cohort = propose(helix)
    write(cohort, rita)
    cohorts.send_back(cohort=cohort, by=otto, reasons=["beyond_minimum"])
    for act in (lambda: write(cohort, rita), lambda: cohorts.approve(cohort=cohort, by=otto)):
        with pytest.raises(RefusedTransition) as error:
            act()
        assert code_of(error) == "not_open"
    assert not cohorts.ask_next()
    assert cohorts.numbers(cohort) == {"asked": None, "in_force": None, "counted_at": None}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"kinds": ["Diagnosis"]}, "kinds"),
        ({"what_for": " ".join(["word"] * 30)}, "hard_to_read"),
        ({"answer_by": date(2020, 1, 1)}, "dates"),
        ({"model": "x"}, "model"),
    ],
)
def test_a_question_that_nobody_can_be_asked_is_refused_at_once(
    helix: Requester, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(InvalidInput) as error:
        propose(helix, **changes)
    assert code_of(error) == code
    assert not Cohort.objects.exists()


def test_numbers_are_lower_bounds_and_yes_is_counted_once_a_day(
    helix: Requester, rita: User, otto: User
) -> None:
    people(8)
    cohort = asked(propose(helix), rita, otto)
    first, *others = cohort.requests.select_related("patient")
    for each in others:
        commit(grant(each, kinds=["Observation"]))
    told = cohorts.numbers(cohort)
    assert (told["asked"], told["in_force"]) == (6, 6)
    for each in others[:5]:
        services.revoke(consent=each.consents.get(), patient=each.patient, stop_now=lambda _: None)
    commit(grant(first, kinds=["Observation"]))
    assert cohorts.numbers(cohort)["in_force"] == 6  # as it was told today
    Cohort.objects.filter(pk=cohort.pk).update(told_at=timezone.now() - timedelta(days=1))
    assert cohorts.numbers(cohort)["in_force"] == 3
    Cohort.objects.filter(pk=cohort.pk).update(short_by=[1, 1], told_at=None)
    assert cohorts.numbers(cohort)["asked"] == 3
    assert cohorts.numbers(cohort)["in_force"] is None


def test_who_is_used_gave_every_kind_and_since_then(helix: Requester, rita: User, otto: User) -> None:
    people(4)
    cohort = asked(propose(helix), rita, otto)
    both, one, late, _silent = cohort.requests.select_related("patient").order_by("pk")
    for each, kinds in (
        (both, ["Observation", "Condition"]),
        (one, ["Observation"]),
        (late, ["Observation"]),
    ):
        commit(grant(each, kinds=kinds))
    late.consents.update(granted_at=timezone.now() + timedelta(days=2))
    assert {each.pk for each in cohorts.in_force(cohort)} == {both.pk, one.pk, late.pk}
    assert {each.pk for each in cohorts.in_force(cohort, kinds=["Condition"])} == {both.pk}
    since = timezone.localdate() + timedelta(days=1)
    assert {each.pk for each in cohorts.in_force(cohort, given_since=since)} == {late.pk}

"""A job over a cohort, with the real ledger, keyholder and child: who is in, and what stops on the way do."""

import json
import random
from collections import Counter
from typing import Any

import pytest
from django.conf import settings

from consent import cohorts
from consent import services as consents
from consent.models import Cohort, Consent
from gateway.analysis import services, taking
from gateway.analysis.models import Attempt, Job, JobSubject, Output
from gateway.relay import HANDLERS, Relay
from ledger import outbox
from ledger.channels import HOME
from ledger.contract.release import deliver_key, release_key
from ledger.errors import AccessDenied, KeyholderUnavailable, RefusedTransition
from tests.analysis.test_job_end_to_end import KINDS, PCE, Play, lapse, play, records
from tests.questions import cohort_question

__all__ = ["play"]  # a fixture

pytestmark = pytest.mark.django_db(transaction=True)

State = Job.State


def a_cohort(play: Play, user: Any, number: int, *, model: str = PCE.digest()) -> Cohort:
    """So many people with records, all of whom were asked and said yes."""
    rita, otto = user("rita-1", is_staff=True), user("otto-1", is_staff=True)
    for _ in range(number):
        play.someone(*records())
    cohort = cohorts.propose(
        requester=play.helix, question=cohort_question(model, kinds=KINDS), wish="Everyone."
    )
    criteria = cohorts.Criteria(age_from=None, kinds=["Observation"])
    found = cohorts.write(
        cohort=cohort,
        criteria=criteria,
        by=rita,
        with_kinds=play.keyholder.with_kinds,
    )
    assert found == number
    cohorts.approve(cohort=cohort, by=otto)
    while cohorts.ask_next():
        pass
    for request in cohort.requests.select_related("patient"):
        consents.grant(request=request, patient=request.patient, kinds=KINDS, duration="until")
    relay = Relay({HOME: settings.LEDGER_URL}, settings.KEYHOLDER_SOCKET)
    while Consent.objects.exclude(ledger_state=Consent.LedgerState.IN_FORCE).exists():
        relay._send(play.channels.home)
        outbox.follow(play.ledger, listener="test", handlers=HANDLERS, wait=0.0)
    return cohort


def submit(play: Play, cohort: Cohort, **filters: Any) -> Job:
    return services.submit_over_cohort(requester=play.helix, cohort=cohort.pk, **filters)


class StopsOnTheWay:
    """A keyholder; when `after` subjects were begun, these consents are stopped."""

    def __init__(self, play: Play, stopped: list[Consent], after: int) -> None:
        self._play, self._stopped, self._after, self._begun = play, stopped, after, set[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._play.keyholder, name)

    def open_chunks(self, **asked: Any) -> Any:
        self._begun.add(asked["subject"])
        if len(self._begun) > self._after:
            while self._stopped:
                self._play.stop(self._stopped.pop())
        return self._play.keyholder.open_chunks(**asked)


def every_output_is_accounted_for(play: Play, user: Any, number: int, stops: int) -> None:
    cohort = a_cohort(play, user, number)
    job = submit(play, cohort)
    stopped = random.Random(7).sample(list(Consent.objects.select_related("patient")), stops)
    gone = {consent.pk for consent in stopped}
    play.run(job, keyholder=StopsOnTheWay(play, stopped, after=number // 2))
    assert (job.state, job.error_code) == (State.DONE, "")

    # 1. Each subject is delivered, or is one of those who stopped: no more and no fewer.
    subjects = list(job.subjects.select_related("request", "patient"))
    assert Counter(one.state for one in subjects) == {"delivered": number - stops, "not_available": stops}
    delivered = {one.pk: one for one in subjects if one.state == JobSubject.State.DELIVERED}
    assert {one.consent for one in subjects if one.pk not in delivered} <= gone
    assert gone.isdisjoint(one.consent for one in delivered.values())

    # 2. The ledger has one output for each delivered subject, each of that subject's one consent.
    on_ledger: dict[str, str] = {}
    for leg in job.legs.all():
        attempt = leg.attempts.get()
        released, value = (
            json.loads(found or b"")
            for found in play.ledger.evaluate([release_key(leg.pk, attempt.number), deliver_key(leg.pk)])
        )
        assert len(released["consents"]) == leg.subjects.count()
        assert gone.issuperset(value["withheld"])
        for one in value["outputs"]:
            (consent,) = one["consents"]
            on_ledger[one["output"]] = consent
    kept = {output.digest: output for output in Output.objects.filter(subject__job=job)}
    assert {digest: kept[digest].subject.consent for digest in kept} == on_ledger
    assert {output.subject_id for output in kept.values()} == set(delivered)

    # 3. The client sees the delivered ones alone, and each opens; nothing of the others does.
    shown: list[str] = []
    view = services.client_view(job)
    while True:
        shown += [each["subject"] for each in view["subjects"]]
        if view["next"] is None:
            break
        view = services.client_view(job, after=view["next"])
    assert sorted(shown) == sorted(delivered)
    assert str(cohort.requests.first().pk) not in json.dumps(view, default=str)
    for subject in random.Random(8).sample(sorted(delivered), min(20, len(delivered))):
        bundle = services.result(job=job, subject=subject, requester=play.helix, keyholder=play.keyholder)
        assert subject in bundle.decode()
    for one in subjects:
        if one.pk not in delivered:
            with pytest.raises(AccessDenied):
                services.result(job=job, subject=one.pk, requester=play.helix, keyholder=play.keyholder)


def test_stops_on_the_way_withhold_those_and_let_the_others_through(play: Play, user: Any) -> None:
    every_output_is_accounted_for(play, user, number=120, stops=15)


@pytest.mark.exhaustive
def test_a_cohort_of_a_thousand_with_fifty_stops_on_the_way(play: Play, user: Any) -> None:
    every_output_is_accounted_for(play, user, number=1000, stops=50)


def test_a_cohort_larger_than_a_transaction_has_several_releases_and_goes_on_after_a_crash(
    play: Play, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "MAX_CONSENTS", 10)
    monkeypatch.setattr(services, "SUBJECTS_AT_ONCE", 12)
    cohort = a_cohort(play, user, 25)
    job = submit(play, cohort)
    legs = list(job.legs.order_by("number"))
    assert [leg.subjects.count() for leg in legs] == [10, 10, 5]
    assert legs[0].pk == job.pk not in {leg.pk for leg in legs[1:]}

    class DiesInTheSecond(StopsOnTheWay):
        def open_chunks(self, **asked: Any) -> Any:
            if asked["job"] == legs[1].pk and len(self._begun) > 14:
                raise KeyholderUnavailable("The keyholder is gone.")
            self._begun.add(asked["subject"])
            return play.keyholder.open_chunks(**asked)

    play.run(job, keyholder=DiesInTheSecond(play, [], after=0))
    assert job.state not in Job.SETTLED
    assert services.progress(job)[1] == 10
    assert services.client_view(job)["subjects"] == []
    first = Attempt.objects.get(leg=legs[0]).deliver_tx
    assert first
    lapse(job)
    play.run(job)
    assert job.state == State.DONE
    # The first leg was not done again, the second was begun anew, and each has its two doors.
    assert [leg.attempts.count() for leg in legs] == [1, 2, 1]
    assert Attempt.objects.get(leg=legs[0]).deliver_tx == first
    view = services.client_view(job)
    assert len(view["doors"]) == 3
    assert (len(view["subjects"]), view["next"]) == (12, view["subjects"][-1]["subject"])
    rest = services.client_view(job, after=view["next"])
    assert len(rest["subjects"]) == 12
    assert len(services.client_view(job, after=rest["next"])["subjects"]) == 1
    assert job.subjects.filter(state="delivered").count() == 25


def test_a_cancelled_cohort_job_gives_nothing_more(play: Play, user: Any) -> None:
    cohort = a_cohort(play, user, 12)
    job = submit(play, cohort)

    class Cancels(StopsOnTheWay):
        def open_chunks(self, **asked: Any) -> Any:
            services.cancel(job=job, requester=play.helix)
            return play.keyholder.open_chunks(**asked)

    play.run(job, keyholder=Cancels(play, [], after=0))
    assert job.state == State.CANCELLED
    assert not Output.objects.exists()
    assert services.client_view(job)["subjects"] == []


def test_few_results_of_a_cohort_are_none(play: Play, user: Any) -> None:
    cohort = a_cohort(play, user, 12)
    job = submit(play, cohort)
    stopped = list(Consent.objects.select_related("patient")[:2])
    play.run(job, keyholder=StopsOnTheWay(play, stopped, after=1))
    assert job.subjects.filter(state="delivered").count() == 10
    view = services.client_view(job)
    assert (view["state"], view["subjects"], view["doors"], view["release_tx"]) == ("done", [], [], None)
    for subject in job.subjects.all():
        with pytest.raises(AccessDenied):
            services.result(job=job, subject=subject.pk, requester=play.helix, keyholder=play.keyholder)
    with pytest.raises(RefusedTransition) as error:
        submit(play, cohort)
    assert error.value.code == "too_few"

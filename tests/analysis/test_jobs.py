"""The job state machine and its services, without a keyholder: claims, fences, cancelling, recovering."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from consent.models import ConsentRequest, Notice, Requester
from gateway.analysis import jobs, runner, services, tasks
from gateway.analysis.catalogue import find
from gateway.analysis.models import AIModel, Job, JobSubject, Leg, Output
from gateway.keyholder.client import Keyholder
from ledger.audit.models import AuditRow
from ledger.client import Event
from ledger.errors import (
    AccessDenied,
    GatewayError,
    InvalidInput,
    KeyholderUnavailable,
    LedgerError,
    PrepareError,
    RefusedTransition,
)
from ledger.models import LedgerTransaction

State = Job.State
PCE = find("pce")


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids that were handed to the broker."""
    handed: list[str] = []
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda args, **_: handed.append(args[0]))
    return handed


@pytest.fixture
def model(helix: Requester) -> AIModel:
    return AIModel.objects.create(
        digest=PCE.digest(), name="pce", version="1", provider=helix, card={}, state=AIModel.State.APPROVED
    )


@pytest.fixture
def question(alice: Any, helix: Requester) -> ConsentRequest:
    notice = Notice.objects.create(slug="n", version=1, language="en", title="t", text="t")
    today = timezone.localdate()
    return ConsentRequest.objects.create(
        requester=helix,
        patient=alice,
        notice=notice,
        model=PCE.digest(),
        purpose="TREAT",
        use=["HMB"],
        kinds=["Patient"],
        what_for="x",
        share_until=today + timedelta(days=90),
        answer_by=today + timedelta(days=9),
    )


def submit(helix: Requester, *subjects: str, **more: Any) -> Job:
    wanted: dict[str, Any] = {"model": PCE.digest(), "purpose": "TREAT", "use": ["HMB"], "subjects": subjects}
    return services.submit(requester=helix, **{**wanted, **more})


@pytest.fixture
def job(helix: Requester, model: AIModel, question: ConsentRequest, broker: list[str]) -> Job:
    return submit(helix, question.id, "f" * 64)


def lapse(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1), enqueued_at=None)


def claimed(job: Job) -> jobs.Claim:
    claim = jobs.claim(job.id)
    assert claim is not None
    return claim


# Submitting


def test_a_job_is_queued_logged_and_handed_over_after_commit(
    job: Job,
    broker: list[str],
    django_capture_on_commit_callbacks: Any,
    helix: Requester,
    question: ConsentRequest,
) -> None:
    assert job.state == State.QUEUED
    assert broker == []
    with django_capture_on_commit_callbacks(execute=True):
        second = submit(helix, question.id)
    assert broker == [second.id]
    assert AuditRow.objects.filter(kind="job.queued").count() == 2


def test_an_unknown_request_becomes_a_subject_like_any_other(job: Job, question: ConsentRequest) -> None:
    known, unknown = job.subjects.order_by("number")
    assert (known.request, known.patient) == (question, question.patient)
    assert (unknown.request, unknown.patient) == (None, None)
    assert len(unknown.keyholder_patient) == len(known.keyholder_patient) == 64
    first, second = services.manifest(job)["subjects"]
    assert set(first) == set(second)
    assert first["state"] == second["state"]


def test_a_request_of_another_is_an_unknown_one(
    model: AIModel, question: ConsentRequest, broker: list[str]
) -> None:
    other = Requester.objects.create(name="Other AI")
    AIModel.objects.update(provider=other)
    (subject,) = submit(other, question.id).subjects.all()
    assert (subject.request, subject.patient) == (None, None)


def test_a_requester_has_so_many_jobs_under_way_and_no_more(
    helix: Requester, model: AIModel, question: ConsentRequest, broker: list[str], settings: Any
) -> None:
    settings.JOBS_AT_ONCE = 2
    first = submit(helix, question.id)
    submit(helix, question.id)
    with pytest.raises(services.QuotaReached) as told:
        submit(helix, question.id)
    assert (told.value.code, told.value.status) == ("too_many_jobs", 429)
    other = Requester.objects.create(name="Other AI")
    AIModel.objects.update(provider=other)
    submit(other, question.id)
    AIModel.objects.update(provider=helix)
    services.cancel(job=first, requester=helix)
    submit(helix, question.id)


def test_it_is_asked_again_less_often_the_longer_it_takes(job: Job) -> None:
    assert services.ask_again_in(job) == 1
    job.created_at = timezone.now() - timedelta(seconds=60)
    assert services.ask_again_in(job) == 15
    job.created_at = timezone.now() - timedelta(hours=1)
    assert services.ask_again_in(job) == 30
    job.retry_at = timezone.now() + timedelta(seconds=5)
    assert services.ask_again_in(job) in (5, 6)


def test_sealed_results_are_kept_for_so_long(job: Job, settings: Any) -> None:
    subject = job.subjects.order_by("number")[0]
    Output.objects.create(subject=subject, digest="a" * 64, sealed=b"x", delivered_at=timezone.now())
    Job.objects.filter(pk=job.pk).update(state=State.DONE, settled_at=timezone.now() - timedelta(days=29))
    assert services.drop_old_results() == 0
    Job.objects.filter(pk=job.pk).update(settled_at=timezone.now() - timedelta(days=31))
    job.refresh_from_db()
    JobSubject.objects.filter(pk=subject.pk).update(state=JobSubject.State.DELIVERED)
    with pytest.raises(AccessDenied):
        services.result(job=job, subject=subject.pk, requester=job.requester)
    assert services.drop_old_results() == 1
    assert not Output.objects.exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "0" * 64}, "model_not_approved"),
        ({"purpose": "BECAUSE"}, "unknown_purpose"),
        ({"use": [""]}, "unknown_use"),
        ({"subjects": []}, "subjects"),
        ({"subjects": [f"{n:064x}" for n in range(1001)]}, "subjects"),
        ({"subjects": ["x" * 65]}, "subjects"),
        ({"index_date": timezone.localdate() + timedelta(days=2)}, "index_date"),
    ],
)
def test_what_is_malformed_makes_no_job(
    helix: Requester, model: AIModel, change: dict[str, Any], code: str
) -> None:
    with pytest.raises(InvalidInput) as told:
        submit(helix, **{"subjects": ["f" * 64], **change})
    assert told.value.code == code
    assert not Job.objects.exists()


def test_a_suspended_model_takes_no_job(helix: Requester, model: AIModel, question: ConsentRequest) -> None:
    services.suspend_model(model=model, by=jobs.WORKER)
    with pytest.raises(InvalidInput) as told:
        submit(helix, question.id)
    assert told.value.code == "model_not_approved"
    assert LedgerTransaction.objects.get().args["state"] == "suspended"


def test_a_broker_that_is_down_leaves_the_job_to_be_recovered(
    helix: Requester,
    model: AIModel,
    question: ConsentRequest,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    from gateway.celery import app

    monkeypatch.setattr(app.conf, "broker_write_url", "redis+socket:///tmp/no-such-broker.sock")
    monkeypatch.setattr(app, "_pool", None)
    monkeypatch.setattr(app.amqp, "_producer_pool", None)
    with django_capture_on_commit_callbacks(execute=True):
        job = submit(helix, question.id)
    job.refresh_from_db()
    assert (job.state, job.enqueued_at) == (State.QUEUED, None)
    assert jobs.recover() == 0
    handed: list[str] = []
    monkeypatch.setattr(tasks.run_job, "apply_async", lambda args, **_: handed.append(args[0]))
    assert jobs.recover() == 1
    assert handed == [job.id]


# Claims


def test_a_job_is_claimed_once(job: Job) -> None:
    assert claimed(job).fence == 1
    assert jobs.claim(job.id) is None
    job.refresh_from_db()
    assert job.state == State.RELEASING


def test_a_lapsed_claim_is_taken_over_and_the_old_worker_can_write_nothing(job: Job) -> None:
    old = claimed(job)
    jobs.begin_attempt(old, job.legs.get())
    lapse(job)
    new = claimed(job)
    assert new.fence > old.fence
    for write in (
        lambda: jobs.renew(old),
        lambda: jobs.keep_going(old),
        lambda: jobs.settle(old, State.DONE),
        lambda: jobs.put_back(old, GatewayError("x")),
        lambda: jobs.begin_attempt(old, job.legs.get()),
    ):
        with pytest.raises(jobs.ClaimLost):
            write()
    jobs.renew(new)


def test_a_claim_is_over_once_the_job_is_settled(job: Job) -> None:
    claim = claimed(job)
    jobs.settle(claim, State.FAILED, code="x")
    with pytest.raises(jobs.ClaimLost):
        jobs.renew(claim)
    assert jobs.claim(job.id) is None


def test_held_rolls_back_as_a_whole(job: Job) -> None:
    claim = claimed(job)

    def half() -> None:
        with jobs.held(claim) as held:
            jobs.move(held, State.RUNNING)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    job.refresh_from_db()
    assert job.state == State.RELEASING


def test_an_unheard_release_keeps_its_number_and_a_heard_one_does_not(job: Job) -> None:
    first = jobs.begin_attempt(claimed(job), job.legs.get())
    lapse(job)
    second = jobs.begin_attempt(claimed(job), job.legs.get())
    assert (first.number, second.number) == (1, 1)
    second.release_tx = "a" * 64
    second.save()
    lapse(job)
    assert jobs.begin_attempt(claimed(job), job.legs.get()).number == 2


def test_a_new_attempt_drops_what_an_older_one_computed(job: Job) -> None:
    subject = job.subjects.order_by("number")[0]
    Output.objects.create(subject=subject, digest="a" * 64, sealed=b"x")
    jobs.begin_attempt(claimed(job), job.legs.get())
    assert not Output.objects.exists()


def test_a_delivery_under_way_stays_one(job: Job) -> None:
    claim = claimed(job)
    with jobs.held(claim) as held:
        jobs.move(held, State.DELIVERING)
    lapse(job)
    claimed(job)
    job.refresh_from_db()
    assert job.state == State.DELIVERING


def test_a_job_that_kills_its_workers_is_given_up(job: Job) -> None:
    for _ in range(jobs.MOST_LOST + 1):
        claimed(job)
        lapse(job)
    assert jobs.claim(job.id) is None
    job.refresh_from_db()
    assert (job.state, job.error_code) == (State.FAILED, "worker_lost")
    assert services.client_view(job)["code"] == "worker_lost"


# Recovering


def test_recover_finds_what_waits_and_what_was_left(job: Job, broker: list[str]) -> None:
    assert jobs.recover() == 1
    assert jobs.recover() == 0  # handed over a moment ago
    claimed(job)
    assert jobs.recover() == 0
    lapse(job)
    assert jobs.recover() == 1
    assert broker == [job.id, job.id]


def test_a_job_that_waits_for_the_keyholder_says_so_and_is_tried_later(job: Job, broker: list[str]) -> None:
    jobs.put_back(claimed(job), KeyholderUnavailable("down"))
    job.refresh_from_db()
    assert (job.state, job.error_code) == (State.QUEUED, "keyholder_unavailable")
    assert services.client_view(job)["code"] == "keyholder_unavailable"
    assert jobs.recover() == 0
    assert jobs.claim(job.id) is None
    Job.objects.filter(pk=job.pk).update(retry_at=timezone.now())
    assert jobs.recover() == 1
    assert jobs.claim(job.id) is not None


def test_a_job_that_waits_to_deliver_looks_like_one_that_waits_before(job: Job, broker: list[str]) -> None:
    jobs.put_back(claimed(job), LedgerError("away"))
    job.refresh_from_db()
    before = services.client_view(job)
    assert (before["state"], before["code"]) == ("queued", "ledger_unavailable")
    Job.objects.filter(pk=job.pk).update(retry_at=timezone.now())
    claim = claimed(job)
    Leg.objects.filter(job=job).update(state=Leg.State.DELIVERING)
    jobs.put_back(claim, PrepareError("away"))
    job.refresh_from_db()
    assert (job.state, job.error_code) == (State.DELIVERING, "ledger_prepare_failed")
    assert services.client_view(job) == before
    lapse(job)
    claimed(job)
    job.refresh_from_db()
    again = services.client_view(job)
    assert (again["state"], again["code"]) == ("running", "")


@pytest.mark.django_db(transaction=True)
def test_a_dead_keyholder_leaves_the_job_waiting(job: Job) -> None:
    runner.run(job.id, keyholder=Keyholder("/tmp/no-such-keyholder.sock"))
    job.refresh_from_db()
    assert (job.state, job.error_code) == (State.QUEUED, "keyholder_unavailable")
    assert job.retry_at is not None


# Cancelling


def test_a_waiting_job_is_cancelled_at_once(job: Job, helix: Requester) -> None:
    services.cancel(job=job, requester=helix)
    services.cancel(job=job, requester=helix)
    job.refresh_from_db()
    assert job.state == State.CANCELLED
    assert jobs.claim(job.id) is None
    assert AuditRow.objects.filter(kind="job.cancelled").count() == 1


def test_a_running_job_is_cancelled_at_its_next_chunk(job: Job, helix: Requester) -> None:
    claim = claimed(job)
    services.cancel(job=job, requester=helix)
    with pytest.raises(jobs.CancelRequested):
        jobs.keep_going(claim)


def test_a_cancelled_job_whose_worker_died_is_cancelled_by_the_next(job: Job, helix: Requester) -> None:
    claimed(job)
    services.cancel(job=job, requester=helix)
    lapse(job)
    runner.run(job.id, keyholder=Keyholder("/tmp/no-such-keyholder.sock"))
    job.refresh_from_db()
    assert job.state == State.CANCELLED


def test_what_has_ended_or_is_anothers_cannot_be_cancelled(job: Job, helix: Requester) -> None:
    with pytest.raises(AccessDenied):
        services.cancel(job=job, requester=Requester.objects.create(name="Other AI"))
    jobs.settle(claimed(job), State.FAILED, code="x")
    with pytest.raises(RefusedTransition) as told:
        services.cancel(job=job, requester=helix)
    assert told.value.code == "job_settled"


def test_a_job_whose_results_are_leaving_ends_as_it_would_have(job: Job, helix: Requester) -> None:
    claim = claimed(job)
    Leg.objects.filter(job=job).update(state=Leg.State.DELIVERING)
    services.cancel(job=job, requester=helix)
    jobs.keep_going(claim)
    job.refresh_from_db()
    assert (job.cancel_requested, job.settled_at) == (False, None)


def test_a_client_does_not_see_that_an_attempt_is_made_anew(job: Job) -> None:
    before = services.client_brief(job)
    jobs.put_back(claimed(job), runner.AttemptOver("over"))
    job.refresh_from_db()
    assert job.error_code == "attempt_over"
    assert services.client_brief(job) == before


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (LedgerError("x", code="releases_held"), "releases_held"),
        (LedgerError("x", code="ledger_catching_up"), "ledger_catching_up"),
        (LedgerError("x", code="release_unsettled"), "ledger_unavailable"),
        (KeyholderUnavailable("x"), "keyholder_unavailable"),
        (KeyholderUnavailable("x", code="clock_went_back"), "keyholder_unavailable"),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
def test_a_client_hears_what_is_away_and_no_more(job: Job, error: GatewayError, told: str) -> None:
    jobs.put_back(claimed(job), error)
    job.refresh_from_db()
    assert (job.error_code, services.client_brief(job)["code"]) == (error.code, told)


# What a client sees


def test_denied_stopped_and_done_without_results_look_the_same(
    helix: Requester, model: AIModel, question: ConsentRequest, broker: list[str]
) -> None:
    def seen(end: Job.State) -> dict[str, Any]:
        job = submit(helix, question.id)
        claim = claimed(job)
        attempt = jobs.begin_attempt(claim, job.legs.get())
        attempt.release_tx = attempt.deliver_tx = "a" * 64
        attempt.save()
        jobs.settle(claim, end)
        job.refresh_from_db()
        told = services.client_view(job)
        for name in ("id", "created_at", "settled_at", "results_until"):
            del told[name]
        for subject in told["subjects"]:
            del subject["subject"]
        return told

    assert seen(State.DENIED) == seen(State.STOPPED) == seen(State.DONE)
    assert seen(State.DONE)["release_tx"] is None
    assert seen(State.DONE)["subjects"][0]["state"] == "not_available"


def test_a_result_that_is_not_delivered_or_anothers_is_not_available(job: Job, helix: Requester) -> None:
    subject = job.subjects.order_by("number")[0]
    for requester, name in (
        (helix, subject.id),
        (helix, "0" * 64),
        (Requester.objects.create(name="Other AI"), subject.id),
    ):
        with pytest.raises(AccessDenied) as told:
            services.result(job=job, subject=name, requester=requester)
        assert told.value.code == "not_available"


# Models


def test_a_model_is_registered_through_the_ledger(helix: Requester) -> None:
    row = services.register_model(model=PCE, provider=helix, by=jobs.WORKER)
    services.register_model(model=PCE, provider=helix, by=jobs.WORKER)
    intent = LedgerTransaction.objects.get()
    assert (row.state, intent.name, intent.args["model"]) == ("registering", "RegisterModel", PCE.digest())
    event = Event(3, 0, "b" * 64, "ModelRegistered", {"model": PCE.digest(), "state": "approved"})
    services.record_model_registered(event)
    services.record_model_registered(event)
    row.refresh_from_db()
    assert row.state == AIModel.State.APPROVED
    assert AuditRow.objects.filter(kind="model.registered").count() == 2


def test_a_model_of_another_provider_is_refused(helix: Requester, model: AIModel) -> None:
    other = Requester.objects.create(name="Other AI")
    with pytest.raises(RefusedTransition):
        services.register_model(model=PCE, provider=other, by=jobs.WORKER)


def test_the_request_says_what_the_model_reads(job: Job, helix: Requester) -> None:
    request = services.request_of(job)
    assert request["recipient"] == f"Organization/{helix.id}"
    assert [each["type"] for each in request["resources"]] == sorted(PCE.reads)


def test_no_query_is_made_for_each_subject(
    helix: Requester, model: AIModel, broker: list[str], django_assert_max_num_queries: Any
) -> None:
    job = submit(helix, *(f"{n:064x}" for n in range(50)))
    assert connection.vendor
    with django_assert_max_num_queries(4):
        services.client_view(job)
    assert JobSubject.objects.count() == 50

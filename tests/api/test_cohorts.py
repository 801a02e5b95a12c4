"""`/api/v1/cohorts`, and a job over one: the client sees numbers that are cut short, and never who."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from consent import cohorts, deletion, services
from consent.models import Cohort, Consent, Patient, Requester
from gateway.accounts.models import WebhookCall
from gateway.analysis.models import AIModel, Job, JobSubject
from gateway.relay import and_tell
from ledger.client import Event
from tests.questions import cohort_question, commit, grant

pytestmark = pytest.mark.django_db

Call = Callable[..., Any]
KINDS = ["Observation", "Condition"]


@pytest.fixture
def body(pce: AIModel) -> dict[str, Any]:
    question = cohort_question(pce.digest)
    dates = {name: question[name].isoformat() for name in ("share_until", "answer_by")}
    return {**question, **dates, "wish": "People from 40 to 79 with a cholesterol value."}


@pytest.fixture
def cohort(helix: Requester, pce: AIModel, user: Any) -> Cohort:
    """Of 24 who were asked, 20 said yes."""
    for number in range(24):
        Patient.objects.create(name=f"p{number}", record_id=f"r{number}", proofed_at=timezone.now())
    made = cohorts.propose(requester=helix, question=cohort_question(pce.digest), wish="Everyone.")
    Cohort.objects.filter(pk=made.pk).update(short_by=[0, 0])
    cohorts.write(
        cohort=made,
        criteria=cohorts.Criteria(),
        by=user("rita-1"),
        with_kinds=lambda patients, _: patients,
    )
    cohorts.approve(cohort=made, by=user("otto-1"))
    while cohorts.ask_next():
        pass
    for request in list(made.requests.select_related("patient"))[:20]:
        commit(grant(request, kinds=KINDS))
    return made


def test_a_cohort_is_proposed_and_waits_for_the_hospital(call: Call, body: dict[str, Any]) -> None:
    answer = call("POST", "cohorts", body)
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert answer["Location"] == f"/api/v1/cohorts/{made['id']}"
    assert (made["state"], made["asked"], made["in_force"]) == ("waiting", None, None)
    assert call("GET", f"cohorts/{made['id']}").json() == made
    assert [each["id"] for each in call("GET", "cohorts").json()["cohorts"]] == [made["id"]]
    assert Cohort.objects.get().wish == body["wish"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "0" * 64}, "model_not_approved"),
        ({"kinds": ["Diagnosis"]}, "kinds"),
        ({"wish": ""}, "invalid_input"),
        ({"referral_code": "x"}, "invalid_input"),
        ({"answer_by": "2020-01-01"}, "dates"),
        ({"what_for": " ".join(["word"] * 30)}, "hard_to_read"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    call: Call, body: dict[str, Any], changes: dict[str, Any], code: str
) -> None:
    answer = call("POST", "cohorts", {**body, **changes})
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert not Cohort.objects.exists()


def test_so_many_may_wait(call: Call, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohorts, "MOST_OPEN", 1)
    assert call("POST", "cohorts", body).status_code == 201
    answer = call("POST", "cohorts", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_cohorts")


def test_why_it_was_sent_back_is_told(call: Call, body: dict[str, Any], user: Any) -> None:
    made = call("POST", "cohorts", body).json()
    cohorts.send_back(cohort=Cohort.objects.get(), by=user("rita-1"), reasons=["risk_unclear"])
    told = call("GET", f"cohorts/{made['id']}").json()
    assert (told["state"], [each["code"] for each in told["reasons"]]) == ("sent_back", ["risk_unclear"])


def test_numbers_are_multiples_and_no_question_shows(
    call: Call, fhir: Call, cohort: Cohort, helix: Requester
) -> None:
    told = call("GET", f"cohorts/{cohort.pk}").json()
    assert (told["state"], told["asked"], told["in_force"]) == ("asked", 22, 11)
    consent = Consent.objects.select_related("request").filter(ledger_state="in_force")[0]
    assert call("GET", f"consent-requests/{consent.request_id}").status_code == 404
    assert "entry" not in fhir("/fhir/Consent").json()
    assert fhir(f"/fhir/Consent/{consent.pk}").status_code == 404
    asked = {
        "request": consent.request_id,
        "model": cohort.question["model"],
        "purpose": "TREAT",
        "use": ["HMB"],
        "resources": ["Observation"],
    }
    (answer,) = call("POST", "decisions", {"decisions": [asked]}).json()["decisions"]
    assert (answer["decision"], answer["reasons"], answer["consent"]) == ("not_available", [], None)
    # A job over everyone whom it asked one by one has none of these, nor one that names such a question.
    wanted = {"model": cohort.question["model"], "purpose": "TREAT", "use": ["HMB"]}
    assert call("POST", "jobs", wanted).json()["code"] == "subjects"
    call("POST", "jobs", {**wanted, "requests": [consent.request_id]})
    assert JobSubject.objects.get().patient is None


def test_no_call_tells_of_one_of_a_cohort(call: Call, cohort: Cohort) -> None:
    call("POST", "webhooks", {"url": "https://helix.example/hooks", "events": ["consent.changed"]})
    consent = Consent.objects.filter(ledger_state="in_force")[0]
    event = Event(9, 0, "ee" * 32, "ConsentRevoked", {"consent": consent.pk})
    and_tell(lambda _: None)(event)
    assert not WebhookCall.objects.exists()


def test_a_job_over_a_cohort_takes_those_in_force_and_tells_no_number(call: Call, cohort: Cohort) -> None:
    answer = call("POST", "jobs", {"cohort": cohort.pk})
    assert answer.status_code == 202, answer.content
    told = answer.json()
    assert (told["cohort"], told["subjects"], told["model"]) == (cohort.pk, [], cohort.question["model"])
    assert answer["X-Progress"] == "queued, 0 of 10"
    job = Job.objects.get()
    assert job.subjects.count() == 20
    job.subjects.filter(number__lt=5).update(state="computed")
    assert call("GET", f"jobs/{job.pk}")["X-Progress"] == "queued, 2 of 10"


def _settle(delivered: int) -> Job:
    job = Job.objects.get()
    for subject in list(job.subjects.order_by("number")):
        state = "delivered" if subject.number < delivered else "not_available"
        JobSubject.objects.filter(pk=subject.pk).update(state=state)
    Job.objects.filter(pk=job.pk).update(state="done", settled_at=timezone.now())
    return job


def test_of_results_those_alone_are_shown_that_were_delivered(call: Call, cohort: Cohort) -> None:
    call("POST", "jobs", {"cohort": cohort.pk})
    told = call("GET", f"jobs/{_settle(12).pk}").json()
    assert len(told["subjects"]) == 12
    assert {each["request"] for each in told["subjects"]} == {None}
    assert sorted(each["subject"] for each in told["subjects"]) == [
        each["subject"] for each in told["subjects"]
    ]


def test_few_results_are_none(call: Call, cohort: Cohort) -> None:
    call("POST", "jobs", {"cohort": cohort.pk})
    job = _settle(10)
    told = call("GET", f"jobs/{job.pk}").json()
    assert (told["state"], told["subjects"], told["doors"]) == ("done", [], [])
    subject = job.subjects.filter(state="delivered")[0].pk
    assert call("GET", f"jobs/{job.pk}/results/{subject}").status_code == 404


@pytest.mark.parametrize("few", [{"kinds": ["Procedure"]}, {"given_since": "2999-01-01"}])
def test_filters_that_leave_few_start_no_job(call: Call, cohort: Cohort, few: dict[str, Any]) -> None:
    assert call("POST", "jobs", {"cohort": cohort.pk, "kinds": KINDS}).status_code == 202
    answer = call("POST", "jobs", {"cohort": cohort.pk, **few})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_few")


@pytest.mark.parametrize(
    "changes",
    [{"model": "0" * 64}, {"purpose": "TREAT"}, {"use": ["HMB"]}, {"requests": ["0" * 64]}],
)
def test_a_cohort_says_itself_what_it_is_for(call: Call, cohort: Cohort, changes: dict[str, Any]) -> None:
    answer = call("POST", "jobs", {"cohort": cohort.pk, **changes})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert set(answer.json()["errors"]) == set(changes)


def test_filters_are_of_a_cohort_only(call: Call, pce: AIModel) -> None:
    answer = call("POST", "jobs", {"model": pce.digest, "purpose": "TREAT", "kinds": ["Observation"]})
    assert answer.json()["errors"].keys() == {"kinds"}


def test_another_ones_cohort_is_not_there(call: Call, cohort: Cohort) -> None:
    Cohort.objects.filter(pk=cohort.pk).update(requester=Requester.objects.create(name="Other AI"))
    for id in (cohort.pk, "0" * 64):
        assert call("GET", f"cohorts/{id}").status_code == 404
        assert call("POST", "jobs", {"cohort": id}).status_code == 404
    assert call("GET", "cohorts").json() == {"cohorts": []}


def test_a_suspended_provider_proposes_nothing_and_starts_nothing(
    call: Call, body: dict[str, Any], cohort: Cohort, helix: Requester
) -> None:
    Requester.objects.filter(pk=helix.pk).update(suspended_at=timezone.now())
    for answer in (call("POST", "cohorts", body), call("POST", "jobs", {"cohort": cohort.pk})):
        assert (answer.status_code, answer.json()["code"]) == (409, "suspended")


def test_what_is_to_be_deleted_is_told_by_the_names_that_it_has(call: Call, cohort: Cohort) -> None:
    call("POST", "jobs", {"cohort": cohort.pk})
    job = _settle(12)
    subject = job.subjects.select_related("request", "patient").filter(state="delivered")[0]
    assert subject.request is not None
    assert subject.patient is not None
    consent = subject.request.consents.get()
    JobSubject.objects.filter(pk=subject.pk).update(consent=consent.pk)
    services.revoke(consent=consent, patient=subject.patient, stop_now=lambda _: None)
    consent.refresh_from_db()
    deletion.ask_deletion(consent=consent, patient=subject.patient)
    (told,) = call("GET", f"cohorts/{cohort.pk}").json()["deletions_asked"]
    assert (told["job"], told["subject"]) == (job.pk, subject.pk)

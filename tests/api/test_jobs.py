"""`/api/v1/jobs`: start, list, read, cancel. What runs a job is tested in tests/analysis."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.utils import timezone

from consent.models import ConsentRequest, Requester
from gateway.analysis.models import Job, JobSubject
from gateway.api import events, throttling
from gateway.api.throttling import EachClient

pytestmark = pytest.mark.django_db

Call = Callable[..., Any]


@pytest.fixture
def asked(call: Call, question: dict[str, Any]) -> str:
    return str(call("POST", "consent-requests", question).json()["id"])


@pytest.fixture
def wanted(asked: str, question: dict[str, Any]) -> dict[str, Any]:
    return {"model": question["model"], "purpose": "HRESCH", "use": ["HMB"], "requests": [asked]}


def test_a_job_is_taken(call: Call, wanted: dict[str, Any], asked: str) -> None:
    answer = call("POST", "jobs", wanted)
    assert answer.status_code == 202
    job = Job.objects.get()
    assert answer["Content-Location"] == f"/api/v1/jobs/{job.pk}"
    assert int(answer["Retry-After"]) >= 1
    body = answer.json()
    assert (body["id"], body["state"]) == (job.pk, "queued")
    assert [entry["request"] for entry in body["subjects"]] == [asked]


def test_the_same_key_starts_one_job(call: Call, wanted: dict[str, Any]) -> None:
    first = call("POST", "jobs", wanted, Idempotency_Key="one")
    second = call("POST", "jobs", wanted, Idempotency_Key="one")
    assert first.json() == second.json()
    assert second["Content-Location"] == first["Content-Location"]
    assert Job.objects.count() == 1


def test_without_requests_the_job_is_about_everyone_asked(
    call: Call, wanted: dict[str, Any], asked: str
) -> None:
    del wanted["requests"]
    body = call("POST", "jobs", wanted).json()
    assert [entry["request"] for entry in body["subjects"]] == [asked]


def test_with_nobody_asked_there_is_no_job(call: Call, question: dict[str, Any]) -> None:
    answer = call("POST", "jobs", {"model": question["model"], "purpose": "HRESCH"})
    assert (answer.status_code, answer.json()["code"]) == (400, "subjects")


def test_the_schema_says_how_many_requests_one_job_takes(call: Call, wanted: dict[str, Any]) -> None:
    answer = call("POST", "jobs", {**wanted, "requests": [f"{n:064x}" for n in range(1001)]})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    schema = call("GET", "openapi.json").json()["components"]["schemas"]["JobIn"]
    assert schema["properties"]["requests"]["maxItems"] == 1000


def test_unknown_and_anothers_requests_look_like_ones_own(call: Call, wanted: dict[str, Any]) -> None:
    own = call("POST", "jobs", wanted).json()
    unknown = call("POST", "jobs", {**wanted, "requests": ["0" * 64]}).json()
    ConsentRequest.objects.update(requester=Requester.objects.create(name="Other AI"))
    anothers = call("POST", "jobs", wanted).json()

    def shape(body: dict[str, Any]) -> dict[str, Any]:
        subjects = [entry | {"subject": "", "request": ""} for entry in body["subjects"]]
        return body | {"id": "", "created_at": "", "subjects": subjects}

    assert shape(own) == shape(unknown) == shape(anothers)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "0" * 64}, "model_not_approved"),
        ({"purpose": "FUN"}, "unknown_purpose"),
        ({"requests": []}, "invalid_input"),
        ({"index_date": "2999-01-01"}, "index_date"),
        ({"extra": 1}, "invalid_input"),
    ],
)
def test_a_wrong_job_is_refused(
    call: Call, wanted: dict[str, Any], change: dict[str, Any], code: str
) -> None:
    answer = call("POST", "jobs", wanted | change)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert not Job.objects.exists()


def test_a_job_is_read_while_it_runs_and_after(call: Call, wanted: dict[str, Any]) -> None:
    id = call("POST", "jobs", wanted).json()["id"]
    assert call("GET", f"jobs/{id}").status_code == 202
    Job.objects.update(state=Job.State.DENIED)
    ended = call("GET", f"jobs/{id}")
    assert (ended.status_code, ended.json()["state"]) == (200, "done")
    assert ended.json()["subjects"][0]["state"] == "not_available"


def test_denied_and_stopped_are_the_same_bytes(call: Call, wanted: dict[str, Any]) -> None:
    id = call("POST", "jobs", wanted).json()["id"]
    Job.objects.update(state=Job.State.DENIED, error_code="denied")
    denied = call("GET", f"jobs/{id}").content
    Job.objects.update(state=Job.State.STOPPED, error_code="stopped")
    assert call("GET", f"jobs/{id}").content == denied


def test_a_waiting_job_is_cancelled_and_again_harmlessly(call: Call, wanted: dict[str, Any]) -> None:
    id = call("POST", "jobs", wanted).json()["id"]
    assert call("POST", f"jobs/{id}/cancel").json()["state"] == "cancelled"
    assert call("POST", f"jobs/{id}/cancel").status_code == 202


def test_anothers_job_looks_like_none(call: Call, wanted: dict[str, Any]) -> None:
    id = call("POST", "jobs", wanted).json()["id"]
    Job.objects.update(requester=Requester.objects.create(name="Other AI"))
    none = call("GET", f"jobs/{'0' * 64}").json() | {"request_id": ""}
    for method, path in [
        ("GET", f"jobs/{id}"),
        ("POST", f"jobs/{id}/cancel"),
        ("GET", f"jobs/{id}/results/x"),
    ]:
        answer = call(method, path)
        assert answer.status_code == 404
        assert answer.json() | {"request_id": ""} == none
    assert call("GET", "jobs").json()["jobs"] == []


@pytest.mark.parametrize("id", ["x%0A", "x", "0" * 65, "A" * 64, "0" * 5000, "%ff", "x/y"])
def test_what_cannot_be_an_id_looks_like_an_unknown_one(call: Call, wanted: dict[str, Any], id: str) -> None:
    job = call("POST", "jobs", wanted).json()["id"]
    unknown = call("GET", f"jobs/{'0' * 64}")
    for method, path in [
        ("GET", f"jobs/{id}"),
        ("POST", f"jobs/{id}/cancel"),
        ("GET", f"jobs/{job}/results/{id}"),
        ("GET", f"consent-requests/{id}"),
    ]:
        answer = call(method, path)
        assert (answer.status_code, answer["Content-Type"]) == (404, unknown["Content-Type"])
        assert _bytes(answer) == _bytes(unknown)


def _bytes(answer: Any) -> bytes:
    """The body, whose request id alone is its own."""
    return bytes(answer.content.replace(answer.json()["request_id"].encode(), b""))


def test_a_result_that_was_not_delivered_is_not_there(call: Call, wanted: dict[str, Any]) -> None:
    body = call("POST", "jobs", wanted).json()
    answer = call("GET", f"jobs/{body['id']}/results/{body['subjects'][0]['subject']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_available")


def test_the_list_goes_on_where_the_page_ended(call: Call, wanted: dict[str, Any], helix: Requester) -> None:
    id = call("POST", "jobs", wanted).json()["id"]
    job = Job.objects.get(pk=id)
    Job.objects.bulk_create(
        Job(requester=helix, model=job.model, purpose="HRESCH", index_date=job.index_date) for _ in range(149)
    )
    seen: list[str] = []
    path = "jobs"
    while path:
        page = call("GET", path).json()
        seen += [each["id"] for each in page["jobs"]]
        path = page["next"] and f"jobs?before={page['next'].replace('+', '%2B')}"
    assert len(seen) == len(set(seen)) == 150
    edges = ("0001-01-01T00:00:00%2B23:59~x", "9999-12-31T23:59:59-23:59~x")
    for strange in ("yesterday", "2020-01-01~x", "2020-01-01T00:00:00Z~%00", *edges):
        assert call("GET", f"jobs?before={strange}").status_code == 400


# While it runs


def test_a_running_job_says_how_far_it_is(call: Call, wanted: dict[str, Any]) -> None:
    started = call("POST", "jobs", {**wanted, "requests": ["0" * 64, "1" * 64]})
    assert started["X-Progress"] == "queued, 0 of 2"
    Job.objects.update(state=Job.State.RUNNING)
    JobSubject.objects.filter(number=0).update(state=JobSubject.State.COMPUTED)
    answer = call("GET", f"jobs/{started.json()['id']}")
    assert (answer.status_code, answer["X-Progress"]) == (202, "running, 1 of 2")
    assert 1 <= int(answer["Retry-After"]) <= 30


def test_a_settled_job_says_until_when_its_results_are_kept(call: Call, wanted: dict[str, Any]) -> None:
    id = call("POST", "jobs", wanted).json()["id"]
    assert call("GET", f"jobs/{id}").json()["results_until"] is None
    call("POST", f"jobs/{id}/cancel")
    body = call("GET", f"jobs/{id}").json()
    kept = datetime.fromisoformat(body["results_until"]) - datetime.fromisoformat(body["settled_at"])
    assert kept.days == 30


def test_too_many_jobs_are_said_to_be_so(call: Call, wanted: dict[str, Any], settings: Any) -> None:
    settings.JOBS_AT_ONCE = 1
    assert call("POST", "jobs", wanted).status_code == 202
    answer = call("POST", "jobs", wanted)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_jobs")
    assert int(answer["Retry-After"]) > 0
    assert Job.objects.count() == 1


def test_too_many_calls_are_said_to_be_so(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    throttling.forget()
    monkeypatch.setattr(EachClient, "THROTTLE_RATES", {"client": "2/minute"})
    assert [call("GET", "jobs").status_code for _ in range(3)] == [200, 200, 429]
    answer = call("GET", "jobs")
    assert answer.json()["code"] == "too_many_requests"
    assert 50 < int(answer["Retry-After"]) <= 61


def test_summaries_have_a_rate_of_their_own(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    throttling.forget()
    monkeypatch.setattr(EachClient, "THROTTLE_RATES", {"client": "9/minute", "summaries": "2/minute"})
    path = f"jobs/{'0' * 64}/summaries/{'0' * 64}"
    assert [call("GET", path).status_code for _ in range(3)] == [404, 404, 429]
    assert call("GET", path).json()["code"] == "too_many_requests"
    assert [call("GET", "jobs").status_code for _ in range(6)] == [200] * 5 + [429]


def _events(answer: Any) -> list[dict[str, Any]]:
    text = b"".join(answer.streaming_content).decode()
    return [json.loads(part.partition("data: ")[2]) for part in text.split("\n\n") if "data: " in part]


def test_a_job_is_followed_to_its_end(
    call: Call, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    id = call("POST", "jobs", wanted).json()["id"]

    def passes(seconds: float) -> None:
        Job.objects.update(state=Job.State.DENIED, settled_at=timezone.now())

    monkeypatch.setattr(events.time, "sleep", passes)
    answer = call("GET", f"jobs/{id}/events", Accept="text/event-stream")
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")
    first, last = _events(answer)
    assert (first["state"], last["state"]) == ("queued", "done")
    assert last["subjects"][0]["state"] == "not_available"


def test_a_stream_that_nobody_reads_gives_its_place_back(call: Call, wanted: dict[str, Any]) -> None:
    id = call("POST", "jobs", wanted).json()["id"]
    for _ in range(events.AT_ONCE + 1):
        answer = call("GET", f"jobs/{id}/events")
        assert answer.status_code == 200
        answer.close()


def test_streams_are_few_and_none_is_anothers(call: Call, wanted: dict[str, Any]) -> None:
    id = call("POST", "jobs", wanted).json()["id"]
    path = f"jobs/{id}/events"
    open_streams = [call("GET", path) for _ in range(events.AT_ONCE)]
    for answer in open_streams:
        assert b"retry" in next(answer.streaming_content)
    refused = call("GET", path)
    assert (refused.status_code, refused.json()["code"]) == (429, "no_stream_free")
    for answer in open_streams:
        answer.close()
    again = call("GET", path)
    next(again.streaming_content)
    again.close()
    Job.objects.update(requester=Requester.objects.create(name="Other AI"))
    assert call("GET", path).json()["code"] == "not_available"

"""The short way of a token (gateway/api/authentication.py): every check is made at every call."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import AccessToken

from consent.models import Requester
from gateway.analysis.models import Job

pytestmark = pytest.mark.django_db

Read = Callable[..., Any]


@pytest.fixture
def job(helix: Requester) -> Job:
    return Job.objects.create(requester=helix, purpose="HRESCH", index_date=timezone.localdate())


@pytest.fixture
def read(application: Any, token_for: Callable[..., str], job: Job) -> Read:
    """Read the job as helix, whose token works; with `headers` that differ, or at another address."""
    token = token_for(application)

    def get(path: str = "", **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {token}", **headers}
        return Client().get(f"/api/v1/jobs/{path or job.pk}", headers=sent)

    assert get().json()["id"] == job.pk
    return get


def is_refused(answer: Any) -> None:
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_job_is_read_with_four_statements(read: Read, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(4):  # the token with its requester, the job, its subjects, their number
        assert read().status_code == 202


@pytest.mark.parametrize(
    "end",
    [
        lambda tokens: tokens.delete(),
        lambda tokens: tokens.update(expires=timezone.now() - timedelta(seconds=1)),
        lambda tokens: tokens.update(resource=["https://elsewhere.example/"]),
    ],
    ids=["revoked", "expired", "for another resource"],
)
def test_what_ends_a_token_ends_it_at_the_next_call(read: Read, end: Callable[[Any], Any]) -> None:
    end(AccessToken.objects.all())
    is_refused(read())


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer ", "Bearer x y", "Basic aGVsaXg6eA==", "Bearer é"])
def test_what_is_no_token_of_ours_is_refused(read: Read, sent: str) -> None:
    is_refused(read(Authorization=sent))


def test_a_token_in_the_address_is_refused_beside_a_good_one(read: Read, job: Job) -> None:
    is_refused(read(f"{job.pk}?access_token=x"))


def test_the_scope_is_asked_for(read: Read) -> None:
    AccessToken.objects.update(scope="consents")
    answer = read()
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_a_client_that_is_taken_away_reads_nothing(read: Read, application: Any) -> None:
    application.ai_client.delete()
    answer = read()
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_anothers_job_looks_like_none(read: Read, job: Job) -> None:
    Job.objects.update(requester=Requester.objects.create(name="Other AI"))
    anothers, none = read().json(), read("0" * 64).json()
    assert anothers | {"request_id": ""} == none | {"request_id": ""}
    assert none["code"] == "not_available"


def test_an_answer_comes_in_a_form_that_is_accepted(read: Read) -> None:
    assert read(Accept="*/*").content == read(Accept="application/json").content == read().content
    assert read(Accept="text/csv").json()["code"] == "not_acceptable"
    assert read(f"{'0' * 64}?format=csv").json()["code"] == "not_available"

"""/staff/results: the inbox, one result with its provenance, and the decision."""

import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from consent.models import random_id
from gateway.analysis.models import AIModel, Attempt, Job, JobSubject, Leg, Output, ResultReview
from gateway.keyholder.client import Keyholder
from gateway.staff.results import read
from ledger.errors import AccessDenied

pytestmark = pytest.mark.django_db

Member = Callable[..., Client]
BUNDLE = {
    "entry": [
        {
            "resource": {
                "resourceType": "RiskAssessment",
                "meta": {"security": [{"code": "AIAST"}]},
                "occurrenceDateTime": "2026-01-02",
                "prediction": [
                    {"outcome": {"text": "Heart disease within ten years"}, "probabilityDecimal": 7.5}
                ],
                "basis": [{"type": "Observation"}, {"type": "Observation"}, {"type": "Patient"}],
            }
        },
        {"resource": {"resourceType": "Provenance", "policy": ["urn:consent-gateway:release/aa/1"]}},
    ]
}


def deliver(model: Any, patient: Any, count: int = 1) -> list[JobSubject]:
    job = Job.objects.create(
        requester=model.provider, model=model.digest, purpose="TREAT", index_date="2026-01-02", state="done"
    )
    leg = Leg.objects.create(job=job, state="done")
    Attempt.objects.create(leg=leg, number=1, release_tx="ab" * 32, deliver_tx="cd" * 32)
    made = JobSubject.objects.bulk_create(
        JobSubject(job=job, leg=leg, number=n, asked=random_id(), patient=patient, state="delivered")
        for n in range(count)
    )
    Output.objects.bulk_create(
        Output(subject=one, digest=random_id(), sealed=b"sealed", delivered_at=timezone.now()) for one in made
    )
    return made


@pytest.fixture
def subject(model: Any, alice: Any) -> JobSubject:
    (found,) = deliver(model, alice)
    return found


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page alone is tested here; tests/analysis/test_results.py opens a real one."""
    monkeypatch.setattr(Keyholder, "open_output", lambda *_, **__: json.dumps(BUNDLE).encode())


def text(answer: Any) -> str:
    return str(answer.content.decode())


def at(subject: JobSubject, name: str = "staff_result") -> str:
    return reverse(name, args=[subject.pk])


def test_the_provenance_is_in_sight(member: Member, subject: JobSubject, opens: None) -> None:
    bob = member("clinician")
    assert "Alice Example" in text(bob.get(reverse("staff_results")))
    answer = bob.get(at(subject))
    for shown in (
        "7.5",
        "Said by an AI",
        "Test results: 2",
        subject.job.model,
        "ab" * 32,
        "cd" * 32,
        "Preliminary",
    ):
        assert shown in text(answer)
    assert "no-store" in answer["Cache-Control"]


def test_accepting_and_withdrawing(member: Member, subject: JobSubject, opens: None) -> None:
    bob, url = member("clinician"), at(subject, "staff_decide_result")
    for _ in range(2):
        assert bob.post(url, {"state": "accepted"}).status_code == 302
    assert "Nothing is here" in text(bob.get(reverse("staff_results")))
    assert "Alice Example" in text(bob.get(reverse("staff_results") + "?show=accepted"))
    assert "Choose a reason" in text(bob.post(url, {"state": "withdrawn"}))
    assert bob.post(url, {"state": "withdrawn", "reason": "implausible"}).status_code == 302
    assert "Entered in error" in text(bob.get(at(subject)))
    assert bob.post(url, {"state": "accepted"}).status_code == 409
    assert bob.post(url, {"state": "x"}).status_code == 400


def test_a_closed_result_cannot_be_accepted_from_the_page(
    member: Member, subject: JobSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> bytes:
        raise AccessDenied("The patient has asked to stop.", code="consent_stopped")

    monkeypatch.setattr(Keyholder, "open_output", refuse)
    bob = member("clinician")
    page = text(bob.get(at(subject)))
    assert "stopped sharing" in page
    assert 'value="accepted"' not in page
    assert 'value="rejected"' in page
    # From a page that was open before.
    answer = bob.post(at(subject, "staff_decide_result"), {"state": "accepted"})
    assert answer.status_code == 409
    assert "stopped sharing" in text(answer)
    assert not ResultReview.objects.exists()


def test_without_the_keyholder_the_page_says_so(member: Member, subject: JobSubject) -> None:
    page = text(member("clinician").get(at(subject)))
    assert 'value="accepted"' not in page
    assert subject.job.model in page


def test_the_patient_reads_what_was_decided(
    member: Member, subject: JobSubject, alice: Any, opens: None
) -> None:
    member("clinician").post(
        at(subject, "staff_decide_result"), {"state": "rejected", "reason": "implausible"}
    )
    hers = Client()
    hers.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    assert "Result not accepted" in text(hers.get("/access"))


def test_pages_show_each_once_in_as_many_queries(member: Member, model: Any, alice: Any) -> None:
    bob = member("clinician")
    bob.get(reverse("staff_results"))
    deliver(model, alice)
    with CaptureQueriesContext(connection) as few:
        bob.get(reverse("staff_results"))
    made = deliver(model, alice, 59)
    for show, total in (("waiting", 60), ("accepted", 59)):
        url, seen = reverse("staff_results") + f"?show={show}", []
        with CaptureQueriesContext(connection) as many:
            bob.get(url)
        assert len(many) <= len(few) <= 15
        while url:
            html = text(bob.get(url))
            seen += re.findall(r'href="/staff/results/([0-9a-f]{64})"', html)
            after = re.search(r'href="([^"]*after=[^"]*)"', html)
            url = after[1].replace("&amp;", "&") if after else ""
        assert len(seen) == len(set(seen)) == total
        if show == "waiting":
            ResultReview.objects.bulk_create(
                ResultReview(
                    subject=one,
                    state="accepted",
                    output="0" * 64,
                    reviewed_by_id=bob.get(reverse("staff_results")).wsgi_request.user.pk,
                    reviewed_at=timezone.now(),
                )
                for one in made
            )


def test_by_day_what_waits_longest_first(member: Member, model: Any, alice: Any) -> None:
    old, new = deliver(model, alice, 2)
    Output.objects.filter(subject=old).update(delivered_at=timezone.now() - timedelta(days=9))
    page = text(member("clinician").get(reverse("staff_results")))
    assert page.count("<h2") == 2
    assert "Waiting for 9 days" in page
    assert page.index(old.pk) < page.index(new.pk)
    assert "2 of 2 on this page" in page


def test_of_one_program(member: Member, model: Any, alice: Any) -> None:
    deliver(model, alice, 2)
    fields = {field.attname: getattr(model, field.attname) for field in model._meta.concrete_fields}
    other = AIModel.objects.create(**{**fields, "digest": "ee" * 32, "name": "other"})
    (theirs,) = deliver(other, alice)
    bob = member("clinician")
    everything = text(bob.get(reverse("staff_results")))
    assert "Waiting (3)" in everything
    assert f'<option value="{other.digest}">' in everything
    page = text(bob.get(reverse("staff_results"), {"program": other.digest}))
    assert re.findall(r'href="/staff/results/([0-9a-f]{64})"', page) == [theirs.pk]
    assert "Waiting (1)" in page
    assert f"program={other.digest}" in page  # what is pressed next keeps it
    assert "Waiting (3)" in text(bob.get(reverse("staff_results"), {"program": "ff" * 32}))


@pytest.mark.parametrize("after", ["x", "2026-01-01,1", "2026-13-01T00:00:00+00:00,1", ",", "é,²"])
def test_an_odd_position_starts_from_the_top(member: Member, subject: JobSubject, after: str) -> None:
    assert "Alice Example" in text(member("clinician").get(reverse("staff_results"), {"after": after}))


def test_a_bundle_that_lacks_everything_reads_as_empty() -> None:
    assert read({})["percent"] is None


def test_a_providers_page_counts_its_results(
    member: Member, subject: JobSubject, helix: Any, opens: None
) -> None:
    url = reverse("staff_requester", args=[helix.pk])
    rita = member("reviewer")
    assert "<dt>Waiting</dt><dd>1</dd>" in text(rita.get(url))
    member("clinician").post(at(subject, "staff_decide_result"), {"state": "accepted"})
    assert "<dt>Waiting</dt><dd>0</dd>" in text(rita.get(url))
    assert "<dt>Accepted</dt><dd>1</dd>" in text(rita.get(url))


def test_a_measure_past_its_threshold_reads_as_one() -> None:
    said = read(
        {
            "entry": [
                {
                    "resource": {
                        "resourceType": "Observation",
                        "code": {"text": "NEWS2"},
                        "effectiveDateTime": "2026-06-01",
                        "valueQuantity": {"value": 8, "unit": "{score}"},
                        "derivedFrom": [{"type": "Observation"}],
                    }
                },
                {"resource": {"resourceType": "DetectedIssue", "detail": "7 points or more (RCP 2017)"}},
            ]
        }
    )
    assert (said["outcome"], said["value"], said["unit"]) == ("NEWS2", 8, "points")
    assert (said["alert"], said["day"]) == ("7 points or more (RCP 2017)", date(2026, 6, 1))
    assert said["used"] == [("Test results", 1)]

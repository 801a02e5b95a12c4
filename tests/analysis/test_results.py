"""A result in the clinic: opened under the same consent, and what is said of it reaches the AI client."""

import json
from typing import Any

import pytest

from consent import requesters
from gateway.analysis import results, services
from gateway.analysis.models import JobSubject, Output
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.errors import AccessDenied, InvalidInput, RefusedTransition
from tests.analysis.test_job_end_to_end import Play, play, records

__all__ = ["play"]  # a fixture

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def delivered(play: Play) -> JobSubject:
    consent = play.yes(play.someone(*records()))
    return play.run(play.submit(consent.request_id)).subjects.get()


def review_told(subject: JobSubject) -> Any:
    return services.manifest(subject.job)["subjects"][0]["review"]


def test_a_clinician_opens_it_and_uses_up_nothing(play: Play, bob: Any) -> None:
    consent = play.yes(play.someone(*records()), duration="once")
    subject = play.run(play.submit(consent.request_id)).subjects.get()
    for _ in range(2):
        bundle = results.open_for_care(subject=subject, by=bob, keyholder=play.keyholder)
    assert bundle["entry"][0]["resource"]["meta"]["security"][0]["code"] == "AIAST"
    assert services.result(
        job=subject.job, subject=subject.pk, requester=play.helix, keyholder=play.keyholder
    )
    line = json.loads(bytes(AuditRow.objects.filter(kind="result.read").order_by("pk")[0].line))
    assert line["actor"]["kind"] == "staff"


def test_after_a_stop_it_stays_closed_to_the_clinic_too(play: Play, bob: Any) -> None:
    consent = play.yes(play.someone(*records()))
    subject = play.run(play.submit(consent.request_id)).subjects.get()
    play.stop(consent)
    with pytest.raises(AccessDenied):
        results.open_for_care(subject=subject, by=bob, keyholder=play.keyholder)
    assert not AuditRow.objects.filter(kind="result.read").exists()


def test_after_a_stop_it_is_not_accepted_and_may_be_rejected(play: Play, bob: Any) -> None:
    """Not by a page that was left open either."""
    consent = play.yes(play.someone(*records()))
    subject = play.run(play.submit(consent.request_id)).subjects.get()
    play.stop(consent)
    with pytest.raises(RefusedTransition) as refused:
        results.decide(subject=subject, by=bob, state="accepted", keyholder=play.keyholder)
    assert refused.value.code == "result_closed"
    assert review_told(subject) == "preliminary"
    results.decide(subject=subject, by=bob, state="rejected", reason="implausible")
    assert review_told(subject) == "cancelled"


def test_a_provider_that_is_suspended_reads_no_result(play: Play, delivered: JobSubject) -> None:
    """One that was delivered before, too; nothing is used up by the try, and the clinic reads it as ever."""
    asked = {"job": delivered.job, "subject": delivered.pk, "keyholder": play.keyholder}
    requesters.suspend(requester=play.helix, by=Actor.staff(1))
    with pytest.raises(RefusedTransition) as caught:
        services.result(requester=play.helix, **asked)
    assert caught.value.code == "suspended"
    assert not AuditRow.objects.filter(kind="result.read").exists()
    requesters.resume(requester=play.helix, by=Actor.staff(1))
    assert services.result(requester=play.helix, **asked)


def test_what_was_decided_is_in_the_manifest_in_fhirs_words(
    play: Play, delivered: JobSubject, bob: Any
) -> None:
    assert review_told(delivered) == "preliminary"
    assert [one.subject for one in results.waiting()] == [delivered]
    for _ in range(2):
        results.decide(subject=delivered, by=bob, state="accepted", keyholder=play.keyholder)
    assert review_told(delivered) == "final"
    assert not results.waiting()
    results.decide(subject=delivered, by=bob, state="withdrawn", reason="program_error")
    assert review_told(delivered) == "entered-in-error"
    kinds = AuditRow.objects.filter(kind__startswith="result.").order_by("pk").values_list("kind", flat=True)
    assert list(kinds) == ["result.read", "result.accepted", "result.withdrawn"]
    line = json.loads(bytes(AuditRow.objects.get(kind="result.withdrawn").line))
    assert (line["details"]["code"], line["subject"]) == ("program_error", delivered.patient.pseudonym)


def test_a_rejected_result_is_cancelled_and_stays_so(delivered: JobSubject, bob: Any) -> None:
    results.decide(subject=delivered, by=bob, state="rejected", reason="implausible")
    assert review_told(delivered) == "cancelled"
    for state in ("accepted", "withdrawn"):
        with pytest.raises(RefusedTransition):
            results.decide(subject=delivered, by=bob, state=state, reason="implausible")


@pytest.mark.parametrize(("state", "reason"), [("rejected", ""), ("rejected", "x"), ("fine", "")])
def test_no_reason_no_rejection(delivered: JobSubject, bob: Any, state: str, reason: str) -> None:
    with pytest.raises(InvalidInput):
        results.decide(subject=delivered, by=bob, state=state, reason=reason)
    assert review_told(delivered) == "preliminary"


def test_nobody_decides_on_a_result_about_themselves(delivered: JobSubject, bob: Any) -> None:
    assert delivered.patient is not None
    delivered.patient.user = bob
    delivered.patient.save()
    with pytest.raises(RefusedTransition):
        results.decide(subject=delivered, by=bob, state="accepted")


def test_what_was_said_outlives_the_sealed_result(play: Play, delivered: JobSubject, bob: Any) -> None:
    results.decide(subject=delivered, by=bob, state="accepted", keyholder=play.keyholder)
    Output.objects.all().delete()
    results.decide(subject=delivered, by=bob, state="withdrawn", reason="implausible")
    with pytest.raises(RefusedTransition):
        results.open_for_care(subject=delivered, by=bob)


def test_a_result_that_is_gone_is_not_accepted(delivered: JobSubject, bob: Any) -> None:
    Output.objects.all().delete()
    with pytest.raises(RefusedTransition):
        results.decide(subject=delivered, by=bob, state="accepted")


def test_a_job_without_a_result_says_nothing_of_a_review(play: Play) -> None:
    job = play.run(play.submit(play.ask(play.someone(*records())).id))
    assert services.manifest(job)["subjects"][0]["review"] is None

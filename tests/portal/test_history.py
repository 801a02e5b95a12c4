"""What happened to a choice, and what remains once it is over."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent import deletion, recorded, services
from consent.models import Consent, ConsentRequest, Deletion
from gateway.analysis.models import Job, JobSubject, Leg, Output
from gateway.api.consent_requests import consent_request_body
from gateway.portal.history import history_of
from gateway.portal.visitor import Visit
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.client import Event
from ledger.errors import RefusedTransition
from tests.questions import MODEL, ask, commit, grant, in_force
from tests.staff.conftest import member

__all__ = ["member"]

pytestmark = pytest.mark.django_db(transaction=True)


def words(consent: Consent) -> list[str]:
    return [entry.words for entry in history_of(consent, Visit(own=consent.patient))]


def page(browser: Client, name: str, consent: Consent) -> str:
    return browser.get(reverse(name, args=[consent.id])).content.decode()


def subject(consent: Consent, state: str, *, sent: bool = False) -> JobSubject:
    """What a job made of this consent."""
    asked = consent.request
    job = Job.objects.create(
        requester=asked.requester, model=MODEL, purpose=asked.purpose, index_date=timezone.localdate()
    )
    found = JobSubject.objects.create(
        job=job,
        leg=Leg.objects.create(id=job.pk, job=job),
        number=0,
        asked=asked.id,
        request=asked,
        patient=asked.patient,
        consent=consent.id,
        state=state,
    )
    if sent:
        Output.objects.create(subject=found, digest="11" * 32, sealed=b"", delivered_at=timezone.now())
    return found


def test_a_choice_tells_its_whole_story(question: ConsentRequest, alice: Any) -> None:
    consent = in_force(question)
    newer = services.replace(consent=consent, patient=alice, kinds=["Condition"], duration="until")
    commit(newer, "ConsentReplaced")
    services.revoke(consent=newer, patient=alice, stop_now=lambda _: None)
    commit(newer, "ConsentRevoked")
    before = ["Helix AI asked the clinic", "The clinic checked the question and asked you"]
    assert words(consent) == [
        *before,
        "You said yes",
        "The choice was sealed",
        "You made a newer choice",
        "Your newer choice was sealed. This one ended",
    ]
    assert words(newer) == [
        *before,
        "You changed your choice to this one",
        "This choice was sealed. The one before it ended",
        "You stopped sharing",
        "The stop was sealed",
    ]


def by_phone(question: ConsentRequest, staff: Any) -> Consent:
    return recorded.record_answer(
        request=question,
        by=staff,
        given_by="phone",
        authority="patient",
        kinds=["Observation"],
        duration="until",
        read_back=True,
    )


def test_what_staff_and_the_system_did_is_told_apart(
    question: ConsentRequest, alice: Any, bob: Any, helix: Any
) -> None:
    answer = by_phone(question, bob)
    assert words(answer)[-1] == "Staff wrote down your yes"
    commit(answer)
    recorded.withdraw(consent=answer, by=bob, given_by="phone", stop_now=lambda _: None)
    assert words(answer)[-2:] == ["Staff stopped it for you", "Staff wrote down that you said stop"]
    once = in_force(ask(helix, alice), duration="once")
    services.use_up(consents=[once.id], stop_now=lambda _: None)
    assert words(once)[-1] == "It ended after the first result, as chosen"


def test_what_staff_wrote_down_by_mistake_is_not_the_patients_stop(
    question: ConsentRequest, alice: Any, bob: Any
) -> None:
    answer = by_phone(question, bob)
    commit(answer)
    services.stop(answer, Actor.patient(alice.pseudonym), lambda _: None)
    assert words(answer)[-1] == "You stopped sharing"
    recorded.mark_invalid(consent=answer, actor=Actor.patient(alice.pseudonym), stop_now=lambda _: None)
    answer.refresh_from_db()
    assert words(answer)[-2:] == [
        "This was stopped",
        "This was taken back as a mistake. It never was your answer",
    ]


def test_only_this_question_and_only_this_patient(question: ConsentRequest, alice: Any, helix: Any) -> None:
    consent = in_force(question)
    before = words(consent)
    in_force(ask(helix, alice))
    assert words(consent) == before


def test_it_says_whether_all_of_it_is_in_the_record_book(browser: Client, question: ConsentRequest) -> None:
    consent = in_force(question)
    assert "still to be sealed" in page(browser, "choice", consent)
    for leaf, row in enumerate(AuditRow.objects.order_by("pk")):
        AuditRow.objects.filter(pk=row.pk).update(leaf=leaf)
    assert "still to be sealed" not in page(browser, "choice", consent)


# After a stop


def test_the_stop_page_says_when_and_how_long_by_the_ledgers_time(
    browser: Client, question: ConsentRequest
) -> None:
    consent = in_force(question)
    there = reverse("stop", args=[consent.id])
    assert browser.get(there)["Location"] == reverse("choice", args=[consent.id])
    assert browser.post(there)["Location"] == there
    text = page(browser, "stop", consent)
    assert "From then on we open nothing more" in text
    assert "still to be sealed. It works all the same" in text
    consent.refresh_from_db()
    assert consent.stopped_at is not None
    at = int(consent.stopped_at.timestamp()) + 3
    services.record_revoked(Event(9, 0, "cd" * 32, "ConsentRevoked", {"consent": consent.id, "at": at}))
    consent.refresh_from_db()
    assert consent.revoked_at is not None
    assert consent.revoked_at.timestamp() == at
    assert "seconds later" in page(browser, "stop", consent)
    # The same POST twice, the back button: the same page.
    assert browser.post(there)["Location"] == there


def test_what_may_still_exist_is_counted(browser: Client, question: ConsentRequest, alice: Any) -> None:
    consent = in_force(question)
    services.revoke(consent=consent, patient=alice, stop_now=lambda _: None)
    text = page(browser, "stop", consent)
    assert "Nothing. Helix AI got no result" in text
    assert reverse("ask_deletion", args=[consent.id]) not in text
    subject(consent, JobSubject.State.DELIVERED, sent=True)
    subject(consent, JobSubject.State.DELIVERED, sent=True)
    text = page(browser, "stop", consent)
    assert "Helix AI got 2 results, the last on" in text
    assert "was not released" not in text


def test_stopped_in_the_middle_of_a_job(browser: Client, question: ConsentRequest, alice: Any) -> None:
    consent = in_force(question)
    services.revoke(consent=consent, patient=alice, stop_now=lambda _: None)
    subject(consent, JobSubject.State.NOT_AVAILABLE)
    assert "A computer program was at work. Its result was not released." in page(browser, "stop", consent)
    assert "Its result was not released" in page(browser, "choice", consent)


def test_asking_for_deletion(browser: Client, question: ConsentRequest, alice: Any) -> None:
    consent = in_force(question)
    subject(consent, JobSubject.State.DELIVERED, sent=True)
    there = reverse("ask_deletion", args=[consent.id])
    # While it is shared there is nothing to ask for.
    browser.post(there)
    assert not Deletion.objects.exists()
    browser.post(reverse("stop", args=[consent.id]))
    assert there in page(browser, "stop", consent)
    for _ in range(2):
        assert browser.post(there)["Location"] == reverse("choice", args=[consent.id])
    asked = Deletion.objects.get()
    text = page(browser, "choice", consent)
    assert "They have not said yet" in text
    assert "You asked Helix AI to delete what it got" in text
    assert there not in text
    assert AuditRow.objects.filter(kind="deletion.asked").count() == 1
    deletion.confirm_deletion(deletion=asked, by=Actor.staff(1))
    assert "They said on" in page(browser, "choice", consent)
    assert words(consent)[-1] == "Helix AI said that it deleted what it got"
    with pytest.raises(RefusedTransition):
        deletion.confirm_deletion(deletion=asked, by=Actor.staff(1))


def test_anothers_deletion_is_not_asked_for(stranger: Client, question: ConsentRequest, charlie: Any) -> None:
    consent = in_force(question)
    there = reverse("ask_deletion", args=[consent.id])
    assert stranger.post(there).status_code == stranger.get(there).status_code == 404
    with pytest.raises(RefusedTransition):
        deletion.ask_deletion(consent=consent, patient=charlie)


def test_what_was_never_shared_needs_no_deletion(question: ConsentRequest, alice: Any) -> None:
    consent = grant(question)
    services.revoke(consent=consent, patient=alice, stop_now=lambda _: None)
    consent.refresh_from_db()
    with pytest.raises(RefusedTransition):
        deletion.ask_deletion(consent=consent, patient=alice)


def test_the_request_reaches_the_requester_and_its_page(
    browser: Client, question: ConsentRequest, member: Any
) -> None:
    consent = in_force(question)
    services.revoke(consent=consent, patient=question.patient, stop_now=lambda _: None)
    assert consent_request_body(question)["deletion_asked_at"] is None
    subject(consent, JobSubject.State.DELIVERED, sent=True)
    browser.post(reverse("ask_deletion", args=[consent.id]))
    asked = Deletion.objects.get()
    assert consent_request_body(question)["deletion_asked_at"] == asked.asked_at
    officer = member("compliance")
    provider = reverse("staff_requester", args=[question.requester_id])
    assert "Patients ask them to delete" in officer.get(provider).content.decode()
    there = reverse("staff_confirm_deletion", args=[consent.id])
    assert member("auditor").post(there).status_code == 403
    for _ in range(2):
        assert officer.post(there)["Location"] == provider
    assert "Patients ask them to delete" not in officer.get(provider).content.decode()
    assert consent_request_body(question)["deletion_asked_at"] is None
    assert "They said on" in page(browser, "choice", consent)

"""From the question to the answer: /requests/<id>, choose, check, no, done."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent.models import Consent, ConsentRequest, Progress
from consent.state import State, state_of
from gateway.demo.pages import agree, say_yes, show_again, to_check
from gateway.keyholder.client import Keyholder
from ledger.contract.consents import compile_consent
from ledger.contract.decision import decide, permits_chunk
from ledger.models import LedgerTransaction
from tests.questions import commit

pytestmark = pytest.mark.django_db

CHOICE = {"kinds": ["Observation", "Condition"], "duration": "90_days"}


def at(name: str, question: ConsentRequest) -> str:
    return reverse(name, args=[question.id])


def test_yes(browser: Client, question: ConsentRequest) -> None:
    assert "Can Helix AI use your records?" in browser.get(at("question", question)).content.decode()
    assert browser.post(at("choose", question), CHOICE)["Location"] == at("check", question)
    to_check(browser, question.id, CHOICE)
    page = browser.get(at("check", question)).content.decode()
    assert "Test results" in page
    assert "Show that it is you" in page
    assert not Consent.objects.exists()
    assert agree(browser, at("check", question))["Location"] == at("done", question)
    consent = Consent.objects.get()
    assert (consent.kinds, consent.sensitive, consent.duration) == (
        ["Condition", "Observation"],
        [],
        "90_days",
    )
    assert "Waiting to be sealed" in browser.get(at("done", question)).content.decode()
    commit(consent)
    assert "Sharing part" in browser.get(at("done", question)).content.decode()


def test_a_question_of_which_nothing_more_comes_is_told_as_past(
    browser: Client, question: ConsentRequest
) -> None:
    waits = browser.get(at("question", question)).content.decode()
    assert "gets the result, but not your name" in waits
    assert "What they asked for" not in waits
    say_yes(browser, question.id, CHOICE)
    consent = Consent.objects.get()
    commit(consent)
    shares = browser.get(at("question", question)).content.decode()
    assert "What they asked for" in shares
    assert "gets the result, but not your name" in shares
    Consent.objects.update(expires_at=timezone.now() - timedelta(days=1))
    over = browser.get(at("question", question)).content.decode()
    assert "could get the result, but not your name" in over
    assert "Who is asking" not in over


def test_only_an_answer_that_stands_is_told_as_news(browser: Client, question: ConsentRequest) -> None:
    say_yes(browser, question.id, CHOICE)
    consent = Consent.objects.get()
    commit(consent)
    banner = "govuk-panel--confirmation"
    assert banner in browser.get(at("done", question)).content.decode()
    Consent.objects.update(expires_at=timezone.now() - timedelta(days=1))
    page = browser.get(at("done", question)).content.decode()
    assert banner not in page
    assert "You said yes" in page
    assert "Nothing is shared any more." in page


@pytest.mark.parametrize("ticked", [[], ["PSY"]])
def test_what_was_ticked_is_what_the_contract_permits(
    browser: Client, question: ConsentRequest, ticked: list[str]
) -> None:
    say_yes(browser, question.id, {**CHOICE, "sensitive": ticked})
    consent = Consent.objects.get()
    request = {
        "action": "use",
        "model": question.model,
        "purpose": question.purpose,
        "recipient": question.requester.reference,
        "resources": [{"type": kind, "codes": None} for kind in question.kinds],
        "use": question.use,
        "version": 1,
    }
    canonical = compile_consent(consent.fhir, consent=consent.id, patient="ef" * 32)
    rules = decide([canonical], request, at=int(consent.decided_at.timestamp()) + 1).rules
    found = {
        (kind, *labels): permits_chunk(rules, kind, labels)
        for kind in ("Observation", "MedicationRequest")
        for labels in (["N"], ["R", "PSY"], ["R"], ["V", "PSY"], ["R", "HIV", "PSY"])
    }
    permitted = {("Observation", "N"), *([("Observation", "R", "PSY")] if ticked else [])}
    assert {each for each, verdict in found.items() if verdict != "deny"} == permitted


def test_no_is_one_click_and_looks_like_yes(browser: Client, question: ConsentRequest) -> None:
    page = browser.get(at("question", question)).content.decode()
    buttons = [line for line in page.partition("<main")[2].splitlines() if "<button" in line]
    assert len(buttons) == 2
    assert all('class="govuk-button govuk-button--secondary"' in button for button in buttons)
    assert browser.post(at("refuse", question))["Location"] == at("done", question)
    assert state_of(Consent.objects.get()) == State.REFUSED
    assert "You said no" in browser.get(at("done", question)).content.decode()
    assert not LedgerTransaction.objects.exists()


def test_nothing_is_ticked(browser: Client, question: ConsentRequest) -> None:
    page = browser.get(at("choose", question)).content.decode()
    assert " checked" not in page
    assert "More private records" in page


@pytest.mark.parametrize(
    ("choice", "problem"),
    [
        ({"duration": "until"}, "Tick one or more kinds of record, or choose No"),
        ({"kinds": ["Observation"]}, "Choose how long they can use them"),
        ({"kinds": ["Observation"], "duration": "until", "sensitive": ["HIV"]}, "Select a valid choice"),
        ({"kinds": ["Immunization"], "duration": "until"}, "Select a valid choice"),
        (
            {"kinds": ["Observation"], "duration": "sooner", "day": "31", "month": "2", "year": "2027"},
            "There is no such day",
        ),
        ({"kinds": ["Observation"], "duration": "sooner", "day": "soon"}, "Enter a day"),
    ],
)
def test_problems_are_named_and_what_was_ticked_stays(
    browser: Client, question: ConsentRequest, choice: dict[str, Any], problem: str
) -> None:
    page = browser.post(at("choose", question), choice).content.decode()
    assert "There is a problem" in page
    assert problem in page
    assert ('value="Observation" checked' in page) == ("Observation" in choice.get("kinds", []))
    assert not Progress.objects.exists()


def test_counts_are_the_keyholders(
    browser: Client, question: ConsentRequest, alice: Any, monkeypatch: Any
) -> None:
    counted = [
        {"resource_type": "Observation", "labels": ["N"], "count": 48},
        {"resource_type": "Observation", "labels": ["PSY", "R"], "count": 4},
        {"resource_type": "Immunization", "labels": ["N"], "count": 990123},
    ]
    monkeypatch.setattr(Keyholder, "index", lambda self, *, patient: counted if patient == alice.id else [])
    page = browser.get(at("choose", question)).content.decode()
    assert "48&nbsp;items" in page
    assert "4&nbsp;items" in page
    assert "0&nbsp;items" in page
    assert "990123" not in page


def test_without_the_keyholder_there_are_no_counts_and_the_page_says_so(
    browser: Client, question: ConsentRequest
) -> None:
    page = browser.get(at("choose", question)).content.decode()
    assert "We cannot count your records just now" in page
    assert "&nbsp;items" not in page


def test_the_same_post_twice_is_harmless(browser: Client, question: ConsentRequest) -> None:
    to_check(browser, question.id, CHOICE)
    shown = {"shown": Progress.objects.get().shown}
    show_again(browser)
    for _ in range(2):
        assert browser.post(at("check", question), shown)["Location"] == at("done", question)
    assert Consent.objects.count() == LedgerTransaction.objects.count() == 1
    # A No that comes after the Yes changes nothing; the receipt says what holds.
    assert browser.post(at("refuse", question))["Location"] == at("done", question)
    assert state_of(Consent.objects.get()) == State.PENDING


def test_a_no_twice_is_one_no(browser: Client, question: ConsentRequest) -> None:
    for _ in range(2):
        assert browser.post(at("refuse", question))["Location"] == at("done", question)
    assert Consent.objects.count() == 1


def test_pages_out_of_turn_lead_to_the_question(browser: Client, question: ConsentRequest) -> None:
    for name in ("check", "done", "refuse"):
        assert browser.get(at(name, question))["Location"] == at("question", question)


def test_a_closed_question_takes_no_answer(browser: Client, question: ConsentRequest) -> None:
    browser.post(at("choose", question), CHOICE)
    ConsentRequest.objects.update(answer_by=timezone.localdate() - timedelta(days=1))
    page = browser.get(at("question", question)).content.decode()
    assert "This question is closed" in page
    assert "<button" not in page.partition("<main")[2]
    assert agree(browser, at("check", question))["Location"] == at("question", question)
    assert browser.post(at("refuse", question)).status_code == 409
    assert not Consent.objects.exists()


def test_who_was_not_proofed_is_told_what_to_do(
    browser: Client, question: ConsentRequest, alice: Any
) -> None:
    alice.proofed_at = None
    alice.save()
    to_check(browser, question.id, CHOICE)
    page = browser.get(at("check", question))
    assert page.status_code == 409
    assert "check who you are" in page.content.decode()


def test_the_90_days_are_offered_only_where_they_end_sooner(
    browser: Client, question: ConsentRequest
) -> None:
    assert "For 90 days" in browser.get(at("choose", question)).content.decode()
    ConsentRequest.objects.update(share_until=timezone.localdate() + timedelta(days=40))
    assert "For 90 days" not in browser.get(at("choose", question)).content.decode()

"""/choices, /choices/<id> and /choices/<id>/stop."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent import services
from consent.models import Consent, ConsentRequest
from gateway.keyholder.client import Keyholder
from ledger.errors import KeyholderUnavailable
from tests.questions import commit, grant, in_force

pytestmark = pytest.mark.django_db(transaction=True)


def stop(browser: Client, consent: Consent) -> Any:
    return browser.post(reverse("stop", args=[consent.id]))


def page(browser: Client, consent: Consent) -> str:
    return browser.get(reverse("choice", args=[consent.id])).content.decode()


def test_stop_is_one_post_and_tells_the_keyholder_at_once(
    browser: Client, question: ConsentRequest, monkeypatch: Any
) -> None:
    consent, told = in_force(question), []
    monkeypatch.setattr(Keyholder, "stop", lambda self, *, consent: told.append(consent))
    assert "Stop sharing" in browser.get("/choices").content.decode()
    assert stop(browser, consent)["Location"] == reverse("choice", args=[consent.id])
    assert told == [consent.id]
    text = page(browser, consent)
    assert "Stopped. Waiting to be sealed" in text
    assert "From then on we open nothing more" in text
    assert "may still exist" in text
    commit(consent, "ConsentRevoked")
    assert "It was sealed" in page(browser, consent)
    assert "Stop sharing" not in browser.get("/choices").content.decode()


def test_stop_works_without_the_keyholder(
    browser: Client, question: ConsentRequest, monkeypatch: Any
) -> None:
    def unavailable(self: Keyholder, *, consent: str) -> None:
        raise KeyholderUnavailable("It cannot be reached.")

    monkeypatch.setattr(Keyholder, "stop", unavailable)
    consent = in_force(question)
    assert stop(browser, consent).status_code == 302
    consent.refresh_from_db()
    assert consent.stopped_at is not None


def test_the_same_stop_twice_is_one_stop(browser: Client, question: ConsentRequest) -> None:
    consent = in_force(question)
    stop(browser, consent)
    consent.refresh_from_db()
    when = consent.stopped_at
    assert stop(browser, consent).status_code == 302
    consent.refresh_from_db()
    assert consent.stopped_at == when


def test_a_look_at_the_address_stops_nothing(browser: Client, question: ConsentRequest) -> None:
    consent = in_force(question)
    browser.get(reverse("stop", args=[consent.id]))
    consent.refresh_from_db()
    assert consent.stopped_at is None


def test_what_waits_to_be_sealed_can_be_stopped(browser: Client, question: ConsentRequest) -> None:
    consent = grant(question)
    assert "Waiting to be sealed" in browser.get("/choices").content.decode()
    stop(browser, consent)
    consent.refresh_from_db()
    assert consent.stopped_at is not None


def test_every_end_is_told_apart(browser: Client, alice: Any, question: ConsentRequest) -> None:
    consent = in_force(question)
    newer = services.replace(consent=consent, patient=alice, kinds=["Condition"], duration="until")
    commit(newer, "ConsentReplaced")
    assert "Replaced by a newer choice" in page(browser, consent)
    assert newer.id in page(browser, consent)
    Consent.objects.filter(pk=newer.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "Ended" in page(browser, newer)
    Consent.objects.filter(pk=newer.pk).update(ledger_state="refused")
    assert "Not saved. Nothing is shared" in page(browser, newer)


def test_a_patient_who_never_chose_is_told_so(browser: Client) -> None:
    assert "You have not chosen anything yet" in browser.get("/choices").content.decode()

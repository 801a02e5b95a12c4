"""Yes and stop on a real ledger through a real keyholder: what a page says is what the ledger holds."""

import json
from contextlib import suppress
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from consent.models import Consent, ConsentRequest
from consent.state import State, state_of
from gateway.demo.pages import say_yes
from gateway.keyholder.client import Keyholder
from gateway.relay import HANDLERS, Relay
from ledger import outbox
from ledger.channels import HOME, Channels
from ledger.client import Ledger, connect, trust
from ledger.errors import LedgerError
from ledger.models import LedgerTransaction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ledger(no_keyholder: None, installation: Any, alice: Any) -> Any:
    Keyholder(settings.KEYHOLDER_SOCKET).enrol(patient=alice.id)
    ledger = connect(settings.LEDGER_URL, identity="gateway")
    yield ledger
    ledger.close()


def relay(ledger: Ledger) -> None:
    """One round of what the relay does all day."""
    rounds = Relay({HOME: settings.LEDGER_URL}, settings.KEYHOLDER_SOCKET)
    rounds._send(Channels.single(ledger, trust(settings.LEDGER_URL)).home)
    outbox.follow(ledger, listener="test", handlers=HANDLERS, wait=0.5)


def on_ledger(ledger: Ledger, key: str) -> Any:
    (value,) = ledger.evaluate([key])
    return None if value is None else json.loads(value)


def test_yes_then_stop(browser: Client, question: ConsentRequest, ledger: Ledger) -> None:
    choice = {"kinds": ["Observation"], "sensitive": ["PSY"], "duration": "90_days"}
    say_yes(browser, question.id, choice)
    consent = Consent.objects.get()
    assert on_ledger(ledger, f"consent/{consent.id}") is None

    relay(ledger)
    consent.refresh_from_db()
    assert state_of(consent) == State.PARTLY
    held = on_ledger(ledger, f"consent/{consent.id}")
    assert held["state"] == "active"
    assert consent.expires_at is not None
    assert 0 <= held["expires"] - consent.expires_at.timestamp() <= 86_400

    browser.post(reverse("stop", args=[consent.id]))
    relay(ledger)
    consent.refresh_from_db()
    assert state_of(consent) == State.STOPPED
    (org,) = held["marks"]
    assert on_ledger(ledger, f"revoked/{consent.id}/{org}")["set"] is True


def test_stopped_before_it_was_sealed_is_never_in_force(
    browser: Client, question: ConsentRequest, ledger: Ledger
) -> None:
    say_yes(browser, question.id, {"kinds": ["Observation"], "duration": "until"})
    consent = Consent.objects.get()
    browser.post(reverse("stop", args=[consent.id]))
    relay(ledger)
    relay(ledger)
    consent.refresh_from_db()
    assert state_of(consent) in (State.STOPPED, State.NOT_SEALED)
    held = on_ledger(ledger, f"consent/{consent.id}")
    if held is not None:
        (org,) = held["marks"]
        assert on_ledger(ledger, f"revoked/{consent.id}/{org}")["set"] is True


def test_with_the_ledger_out_of_reach_a_choice_is_kept_and_lands_later(
    no_keyholder: None, own_installation: Any, browser: Client, question: ConsentRequest, alice: Any
) -> None:
    Keyholder(settings.KEYHOLDER_SOCKET).enrol(patient=alice.id)
    ledger = connect(settings.LEDGER_URL, identity="gateway")
    own_installation.processes.stop("ledger")
    assert browser.get(reverse("choose", args=[question.id])).status_code == 200
    say_yes(browser, question.id, {"kinds": ["Observation"], "duration": "until"})
    consent = Consent.objects.get()
    for page in (
        reverse("choices"),
        reverse("done", args=[question.id]),
        reverse("choice", args=[consent.id]),
    ):
        assert "Waiting to be sealed" in browser.get(page).content.decode()
    with suppress(LedgerError):
        relay(ledger)
    consent.refresh_from_db()
    assert state_of(consent) == State.PENDING
    own_installation.processes.restart("ledger")
    LedgerTransaction.objects.update(not_before=None)
    relay(ledger)
    consent.refresh_from_db()
    assert state_of(consent) == State.PARTLY
    assert on_ledger(ledger, f"consent/{consent.id}")["state"] == "active"
    ledger.close()

"""A real browser signs a yes with a passkey of its own: from the question to the grant on the ledger."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse

from consent.models import Consent
from consent.teach_back import ITEMS
from gateway.keyholder.client import Keyholder
from ledger.client import connect
from tests.browser.visit import IN_A_BROWSER, Visit
from tests.conftest import start_installation
from tests.portal.test_sealed import on_ledger, relay
from tests.questions import ask

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

ABLE = {
    "protocol": "ctap2", "transport": "internal", "automaticPresenceSimulation": True,
    "hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True,
}  # fmt: skip


@pytest.fixture
def house(no_keyholder: None, settings: Any, live_server: Any, alice: Any) -> Iterator[Any]:
    """A ledger and a keyholder that take what is signed on this very server."""
    found = start_installation(origin=live_server.url)
    settings.LEDGER_URL, settings.KEYHOLDER_SOCKET = found.ledger_url, found.keyholder_socket
    settings.PUBLIC_URL = live_server.url
    Keyholder(found.keyholder_socket).enrol(patient=alice.id)
    yield found
    found.processes.stop_all()
    shutil.rmtree(found.home, ignore_errors=True)


class Signer:
    """The browser's own authenticator, by the DevTools protocol."""

    def __init__(self, page: Any) -> None:
        self._tools = page.context.new_cdp_session(page)
        self._tools.send("WebAuthn.enable")
        self._id = self._tools.send("WebAuthn.addVirtualAuthenticator", {"options": ABLE})["authenticatorId"]

    def verifies(self, who: bool) -> None:
        """Whether the finger that touches it is its owner's."""
        self._tools.send("WebAuthn.setUserVerified", {"authenticatorId": self._id, "isUserVerified": who})

    def forget(self) -> None:
        self._tools.send("WebAuthn.clearCredentials", {"authenticatorId": self._id})


def sign_in(visit: Visit, person: Any) -> None:
    visit.open(reverse("account_login"))
    visit.page.get_by_label("Email").fill(person.email)
    visit.page.get_by_label("Password").fill("correct horse battery")
    visit.press("Sign in")
    visit.page.get_by_role("heading", name="Hello").wait_for()


def add_passkey(visit: Visit, name: str) -> None:
    visit.open(reverse("mfa_add_webauthn"))
    if "reauthenticate" in visit.page.url:
        visit.page.get_by_label("Password").fill("correct horse battery")
        visit.press("Confirm")
    visit.page.get_by_label("Name").fill(name)
    visit.press("Add this passkey")
    visit.page.get_by_role("heading", name="Spare codes").wait_for()


def choose(visit: Visit, question: Any) -> None:
    visit.open(reverse("choose", args=[question.id]))
    visit.page.get_by_label("Test results").check()
    visit.page.get_by_label("For 90 days").check()
    visit.press("Yes, check my answers")
    for item in ITEMS.values():
        visit.page.locator(f"input[value={item.right}]").check()
        visit.press("Continue")
    visit.page.get_by_role("heading", name="Check your answers").wait_for()


@pytest.mark.parametrize("width", [1280, 320])
def test_from_the_question_to_the_grant_on_the_ledger(
    chromium: Any, live_server: Any, house: Any, alice: Any, helix: Any, width: int
) -> None:
    question = ask(helix, alice, signature_required=True)
    ledger = connect(house.ledger_url, identity="gateway")
    visit = Visit(chromium, live_server.url, width, True)
    page, signer = visit.page, Signer(visit.page)
    sign_in(visit, alice.user)
    choose(visit, question)
    visit.look("sign-needs-a-passkey")
    add_passkey(visit, "My phone")

    # The prompt is cancelled: nothing is sent, and the page says so.
    visit.open(reverse("check", args=[question.id]))
    visit.look("sign")
    signer.verifies(False)
    visit.press("Agree and share")
    page.get_by_text("Your passkey did not sign").wait_for()
    visit.look("sign-cancelled")
    assert not Consent.objects.exists()

    signer.verifies(True)
    page.get_by_role("button", name="Agree and share").dblclick()
    page.get_by_role("heading", name="You said yes").wait_for()
    visit.look("sign-done")
    consent = Consent.objects.get()
    relay(ledger)
    consent.refresh_from_db()
    assert consent.ledger_state == Consent.LedgerState.IN_FORCE
    signed = Keyholder(house.keyholder_socket).signed_consent(consent=consent.id, patient=alice.id)
    assert on_ledger(ledger, f"consent/{consent.id}")["commitment"] == signed["commitment"]
    assert signed["signature"]["credential"] == consent.signature["credential"]
    assert signed["signature"]["origin"] == live_server.url
    visit.open(reverse("choice", args=[consent.id]))
    visit.look("choice-signed")

    # From now on nothing else says yes for her: a device without the passkey is told so.
    signer.forget()
    other = ask(helix, alice)
    choose(visit, other)
    assert page.get_by_text("I cannot use my passkey now").count() == 0
    visit.press("Agree and share")
    page.get_by_text("Your passkey did not sign").wait_for()
    visit.press("No, do not share")
    page.get_by_role("heading", name="You said no").wait_for()
    ledger.close()


@pytest.mark.parametrize("scripts", [True, False], ids=["js", "nojs"])
@pytest.mark.parametrize("width", [1280, 320])
def test_without_a_passkey(
    chromium: Any, live_server: Any, house: Any, alice: Any, helix: Any, width: int, scripts: bool
) -> None:
    question = ask(helix, alice)
    visit = Visit(chromium, live_server.url, width, scripts)
    page = visit.page
    sign_in(visit, alice.user)
    choose(visit, question)
    visit.look("show-again")
    page.get_by_role("button", name="Show that it is you").click()
    visit.look("show-again-password")
    page.get_by_label("Password").fill("correct horse battery")
    visit.press("Confirm")
    page.get_by_text("without a passkey").wait_for()
    visit.look("agree")
    visit.press("Agree and share")
    page.get_by_role("heading", name="You said yes").wait_for()
    visit.look("done-unsigned")
    visit.open(reverse("choice", args=[Consent.objects.get().id]))
    visit.look("choice-unsigned")

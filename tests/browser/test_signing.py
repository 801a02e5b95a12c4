"""A real browser signs a yes with a passkey of its own: from the question to the grant on the ledger."""

import shutil
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.models import Group
from django.core import mail
from django.core.cache import cache
from django.urls import reverse

from consent.models import Consent, Patient
from consent.teach_back import ITEMS
from gateway.accounts.roles import make_groups
from gateway.emergency.models import Emergency
from gateway.keyholder.client import Keyholder
from ledger.client import connect
from tests.browser.visit import EACH_WIDTH, IN_A_BROWSER, Visit
from tests.conftest import start_installation
from tests.passkeys import Passkey, register
from tests.portal.test_addresses import link_in
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
    visit.press("Yes, go on")
    for item in ITEMS.values():
        visit.page.locator(f"input[value={item.right}]").check()
        visit.press("Continue")
    visit.page.get_by_role("heading", name="Check your answers").wait_for()


@pytest.mark.parametrize("width", EACH_WIDTH)
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


def test_without_a_passkey(chromium: Any, live_server: Any, house: Any, alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    visit = Visit(chromium, live_server.url, 320)
    page = visit.page
    sign_in(visit, alice.user)
    choose(visit, question)
    visit.look("show-again")
    visit.press("Show that it is you")
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


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_a_second_passkey_and_a_lost_one(
    chromium: Any, live_server: Any, house: Any, alice: Any, helix: Any, member: Any, width: int
) -> None:
    """Two passkeys on one device stand for two devices: the first vouches, both sign, one goes, then all."""
    visit = Visit(chromium, live_server.url, width)
    page, _ = visit.page, Signer(visit.page)
    sign_in(visit, alice.user)
    add_passkey(visit, "My phone")
    visit.open(reverse("mfa_list_webauthn"))
    visit.look("passkeys-first")
    choose(visit, ask(helix, alice))
    visit.press("Agree and share")
    page.get_by_role("heading", name="You said yes").wait_for()

    # A device of its own, as the browser would not make a second passkey on one that has one.
    other = Passkey()
    register(alice.user, other, "My tablet")
    visit.open(reverse("mfa_list_webauthn"))
    visit.look("passkeys-one-signs")
    visit.follow("Let it sign")
    visit.look("passkey-vouch")
    visit.press("Use my other passkey")
    page.get_by_text("This passkey signs your choices now").wait_for()
    visit.look("passkeys-both-sign")
    assert len(Keyholder(house.keyholder_socket).signers(patient=alice.id)["signing"]) == 2

    visit.follow("Remove My tablet")
    visit.press("Remove this passkey")
    page.get_by_role("heading", name="My passkeys").wait_for()
    visit.follow("Remove My phone")
    visit.expect_status(409)
    visit.press("Remove this passkey")
    page.get_by_text("Only this passkey signs your choices").wait_for()
    visit.look("passkey-last")

    staff = Visit(chromium, live_server.url, width)
    staff._add_cookie("sessionid", member("clinician").cookies["sessionid"].value)
    staff.open(reverse("staff_patient", args=[alice.pk]))
    staff.look("staff-patient")
    staff.follow("Lost passkeys")
    staff.look("staff-passkeys")
    staff.press("Remove all their passkeys")
    staff.look("staff-passkeys-error")
    staff.page.get_by_label("They came with a photo ID").check()
    staff.page.get_by_label("I told them").check()
    staff.press("Remove all their passkeys")
    staff.page.get_by_text("can say yes again").wait_for()
    staff.look("staff-passkeys-done")

    visit.open("/home")  # she was signed out
    page.get_by_role("heading", name="Sign in").wait_for()
    sign_in(visit, alice.user)
    choose(visit, ask(helix, alice))
    visit.look("sign-wait")
    visit.open(reverse("mfa_list_webauthn"))
    visit.look("passkeys-wait")


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_every_page_of_getting_in(chromium: Any, live_server: Any, alice: Any, width: int) -> None:
    """What the other ways do not pass, each in our skin."""
    cache.clear()  # which counts letters to an address
    visit = Visit(chromium, live_server.url, width)
    page = visit.page
    for name in ("account_reset_password", "account_reset_password_done", "account_signup"):
        visit.open(reverse(name))
        visit.look(name)
    for name in ("account_inactive", "account_email_verification_sent"):
        visit.open(reverse(name))
        visit.look(name)
    visit.open(reverse("account_reset_password_from_key", args=["1", "wrong-key"]))
    visit.look("account_reset_password_from_key")
    visit.open(reverse("account_reset_password_from_key_done"))
    visit.look("account_reset_password_from_key_done")
    sign_in(visit, alice.user)
    visit.open(reverse("account_confirm_email", args=["wrong"]), status=404)
    visit.look("account_confirm_email-wrong")
    EmailAddress.objects.all().delete()  # as after a sign-up: nothing is confirmed
    visit.open("/home")
    visit.look("home-unconfirmed")
    for name in ("account_email", "account_change_password", "mfa_activate_totp"):
        visit.open(reverse(name))
        if "reauthenticate" in page.url:
            page.get_by_label("Password").fill("correct horse battery")
            visit.press("Confirm")
        visit.look(name)
    visit.open(reverse("account_email"))
    visit.press("Send me a new link")
    page.get_by_text("We sent a link to alice@example.org").wait_for()
    visit.open(link_in(mail.outbox[-1]))
    visit.look("account_confirm_email")
    visit.press("Yes, it is mine")
    page.get_by_text("This email is confirmed").wait_for()
    page.get_by_label("New email").fill("a-much-longer-address-of-alice@hospital.example.org")
    visit.press("Send a link there")
    page.get_by_text("A new email waits").wait_for()
    visit.look("account_email-waits")


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_too_many_tries(chromium: Any, live_server: Any, alice: Any, settings: Any, width: int) -> None:
    settings.AXES_FAILURE_LIMIT = 2
    visit = Visit(chromium, live_server.url, width)
    visit.open(reverse("account_login"))
    visit.expect_status(429)
    for _ in range(2):
        visit.page.get_by_label("Email").fill(alice.user.email)
        visit.page.get_by_label("Password").fill("wrong")
        visit.press("Sign in")
    visit.page.get_by_role("heading", name="Too many tries").wait_for()
    visit.look("locked-out")


@pytest.mark.parametrize("width", [1280, 320])
def test_a_clinician_signs_an_emergency(
    chromium: Any, live_server: Any, house: Any, alice: Any, bob: Any, width: int
) -> None:
    Patient.objects.filter(pk=alice.pk).update(birth_date=date(1960, 5, 4))
    make_groups()
    bob.groups.set(Group.objects.filter(name="clinician"))
    visit = Visit(chromium, live_server.url, width)
    page, signer = visit.page, Signer(visit.page)
    visit.open(reverse("account_login"))
    page.get_by_label("Email").fill(bob.email)
    page.get_by_label("Password").fill("correct horse battery")
    visit.expect_status(403)  # without a second factor the staff site stays closed
    visit.press("Sign in")
    add_passkey(visit, "My phone")
    visit.open(reverse("mfa_list_webauthn"))
    page.get_by_text("It will confirm your emergencies from the next one on.").wait_for()

    visit.open(reverse("staff_emergency_who", args=[alice.pk]))
    page.get_by_label("Record number").fill("alice-1")
    page.get_by_label("Date of birth").fill("1960-05-04")
    visit.press("Continue")
    page.get_by_label("Emergency treatment").check()
    page.get_by_label("What happened?").fill("Found unconscious, no relatives here")
    visit.press("Open the records for 60 minutes")
    page.get_by_text("Nothing is open yet").wait_for()
    visit.look("emergency-sign")
    signer.verifies(False)
    visit.press("Sign and open the records")
    page.get_by_text("Your passkey did not sign").wait_for()
    visit.look("emergency-sign-cancelled")
    signer.verifies(True)
    page.get_by_role("button", name="Sign and open the records").dblclick()
    page.get_by_role("button", name="End now").wait_for()
    visit.look("emergency-signed")
    found = Emergency.objects.get()
    assert (found.state, found.confirmed) == ("recorded", "passkey")
    visit.open(reverse("mfa_list_webauthn"))
    page.get_by_text("It confirms your emergencies.").wait_for()
    visit.look("passkeys-emergencies")

"""The whole way of a patient in a real browser: sign in, choose, agree, look, stop.

At two widths, with JavaScript and without. What no page may do: tests/browser/visit.py.
"""

from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import transaction
from django.urls import reverse

from consent.teach_back import ITEMS
from ledger.audit.log import Actor, record
from tests.browser.visit import FIRST_VIEW, IN_A_BROWSER, WIDTHS, Visit
from tests.questions import ask, commit

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("scripts", [True, False], ids=["js", "nojs"])
@pytest.mark.parametrize("width", WIDTHS)
def test_from_signing_in_to_stop(
    chromium: Any, live_server: Any, alice: Any, helix: Any, width: int, scripts: bool
) -> None:
    question, other = ask(helix, alice), ask(helix, alice)
    with transaction.atomic():
        for kind in ("job.released", "job.denied", "job.stopped"):
            details = {"requester": str(helix.pk), "request": question.id}
            details["subject_id"] = ("bb" if kind == "job.denied" else "aa") * 32
            record(kind=kind, actor=Actor.system("worker"), subject=alice.pseudonym, **details)
        record(kind="access.emergency", actor=Actor.staff(1), subject=alice.pseudonym)
    visit = Visit(chromium, live_server.url, width, scripts)
    page = visit.page

    visit.open("/")
    visit.look("start")
    visit.press("Start now")
    visit.look("sign-in")
    visit.press("Sign in")
    visit.look("sign-in-error")
    page.get_by_label("Email").fill(alice.user.email)
    page.get_by_label("Password").fill("correct horse battery")
    visit.press("Sign in")
    visit.look("home")
    visit.open(reverse("requests"))
    visit.look("requests")
    visit.follow("Helix AI asks to use your records")
    visit.open(reverse("question", args=[question.id]))
    visit.look("question")
    page.get_by_text("What can go wrong").click()
    assert page.get_by_text("8 out of every 100").is_visible()
    visit.look("question-open")
    visit.press("Yes, choose what to share")
    visit.look("choose")
    visit.press("Yes, go on")
    visit.look("choose-error")
    page.get_by_label("Test results").check()
    page.get_by_label("Mental health").check()
    page.get_by_label("For 90 days").check()
    visit.press("Yes, go on")
    visit.look("understand")
    for item in ITEMS.values():
        page.get_by_label(str(item.answers[item.right])).check()
        visit.press("Continue")
    visit.look("check")
    visit.press("Show that it is you")
    page.get_by_label("Password").fill("correct horse battery")
    visit.press("Confirm")
    visit.press("Agree and share")
    assert page.get_by_text("Waiting to be sealed").is_visible()
    visit.look("done")
    consent = question.consents.get()
    assert (consent.kinds, consent.sensitive) == (["Observation"], ["PSY"])
    commit(consent)

    visit.open(reverse("question", args=[other.id]))
    visit.press("No, do not share")
    assert page.get_by_role("heading", name="You said no").is_visible()
    visit.look("no")

    visit.open(reverse("choice", args=[consent.id]))
    visit.look("choice")
    visit.follow("Change this choice")
    visit.look("change")
    page.get_by_label("For 90 days").check()
    visit.press("Yes, go on")
    assert page.get_by_text("holds until this is sealed").is_visible()
    visit.look("change-check")

    visit.open(reverse("choices"))
    visit.look("choices")
    visit.press("Stop sharing")
    assert page.get_by_text("From then on we open nothing more").is_visible()
    visit.look("stopped")
    consent.refresh_from_db()
    assert consent.stopped_at is not None

    for name in ("access", "help", "mfa_index", "mfa_activate_totp", "account_change_password"):
        visit.open(reverse(name))
        if page.get_by_label("Password").count() == 1 and "reauthenticate" in page.url:
            page.get_by_label("Password").fill("correct horse battery")
            page.locator("main").get_by_role("button").first.click()
        if name == "access":
            page.get_by_text("2 steps").click()
        visit.look(name)
    visit.open(reverse("notice", args=[question.notice.digest]))
    visit.look("notice")
    visit.open(reverse("account_logout"))
    visit.look("sign-out")
    visit.press("Sign out")
    assert urlsplit(page.url).path == "/"


@pytest.mark.parametrize("width", WIDTHS)
def test_from_the_invitation_to_a_passkey_and_spare_codes(
    chromium: Any, live_server: Any, own_installation: Any, width: int
) -> None:
    """With an authenticator of the browser's own, so that the passkey is a real one."""
    from consent import services

    _, code = services.invite(name="Ada", by=Actor.staff(1))
    visit = Visit(chromium, live_server.url, width, True)
    page = visit.page
    tools = page.context.new_cdp_session(page)
    tools.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "automaticPresenceSimulation": True}
    able = {"hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True}
    tools.send("WebAuthn.addVirtualAuthenticator", {"options": {**options, **able}})

    visit.open(reverse("invitation", args=[code]))
    visit.look("invitation")
    visit.press("Set up an account")
    visit.look("sign-up")
    page.get_by_label("Email").fill("ada@example.org")
    page.get_by_label("Password", exact=True).fill("correct horse battery")
    page.get_by_label("Password (again)").fill("correct horse battery")
    visit.press("Set up my account")
    page.get_by_role("heading", name="Hello, Ada").wait_for()

    visit.open(reverse("mfa_list_webauthn"))
    visit.look("passkeys-none")
    visit.press("Add a passkey")
    visit.look("show-that-it-is-you")
    page.get_by_label("Password").fill("correct horse battery")
    visit.press("Confirm")
    visit.look("passkey-add")
    page.get_by_label("Name").fill("My phone")
    page.get_by_label("Sign in with it alone").check()
    visit.press("Add this passkey")
    page.get_by_role("heading", name="Spare codes").wait_for()
    visit.look("spare-codes")
    assert page.locator(".gw-codes li").count() == 10
    visit.open(reverse("mfa_generate_recovery_codes"))
    visit.look("spare-codes-new")
    visit.open(reverse("mfa_list_webauthn"))
    assert page.get_by_text("My phone").first.is_visible()
    visit.look("passkeys")
    visit.follow("Rename")
    visit.look("passkey-rename")
    visit.open(reverse("mfa_index"))
    visit.look("mfa")

    visit.open(reverse("account_logout"))
    visit.press("Sign out")
    visit.open(reverse("account_login"))
    visit.press("Sign in with a passkey")
    page.get_by_role("heading", name="Hello, Ada").wait_for()
    visit.open(reverse("mfa_list_webauthn"))
    visit.follow("Remove")
    visit.look("show-that-it-is-you-again")
    visit.press("Use a security key")
    visit.look("show-it-with-a-passkey")
    visit.press("Use a security key")
    page.get_by_role("heading", name="Remove a passkey").wait_for()
    visit.look("passkey-remove")
    visit.press("Remove this passkey")
    page.get_by_text("You have no passkey").wait_for()
    visit.look("passkey-removed")
    # Who signed in before opens an invitation that was used.
    visit.open(reverse("invitation", args=[code]), 409)
    visit.look("invitation-used")


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_that_say_no(chromium: Any, live_server: Any, user: Any, width: int) -> None:
    visit = Visit(chromium, live_server.url, width)
    visit.open("/no-such-page", 404)
    visit.look("404")
    visit.sign_in(user("eve"))
    visit.open("/home", 403)
    visit.look("403-no-records")
    visit.open(reverse("mfa_download_recovery_codes"), 404)
    visit.look("404-signed-in")
    # A form that was open too long: its token is not ours any more.
    visit.open(reverse("account_logout"))
    visit.context.clear_cookies()
    visit.expect_status(403)
    visit.press("Sign out")
    visit.page.get_by_role("heading", name="open too long").wait_for()
    visit.look("403-csrf")


def test_the_first_view_is_light(chromium: Any, live_server: Any) -> None:
    visit = Visit(chromium, live_server.url, 320)
    assert visit.weigh("/") <= FIRST_VIEW

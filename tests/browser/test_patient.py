"""A patient sets up an account with a passkey, and the pages that say no, in a real browser at two widths.

What no page may do: tests/browser/visit.py. Every other journey: tests/browser/test_ways.py.
"""

from typing import Any

import pytest
from django.urls import reverse

from ledger.audit.log import Actor
from tests.browser.visit import EACH_WIDTH, FIRST_VIEW, IN_A_BROWSER, Visit

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("width", EACH_WIDTH)
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
    visit.press("Use a passkey")
    visit.look("show-it-with-a-passkey")
    visit.press("Use a passkey")
    page.get_by_role("heading", name="Remove a passkey").wait_for()
    visit.look("passkey-remove")
    visit.press("Remove this passkey")
    page.get_by_text("You have no passkey").wait_for()
    visit.look("passkey-removed")
    # Who signed in before opens an invitation that was used.
    visit.open(reverse("invitation", args=[code]), 409)
    visit.look("invitation-used")


@pytest.mark.parametrize("width", EACH_WIDTH)
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

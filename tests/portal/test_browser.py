"""The whole way of a patient in a real browser: sign in, choose, agree, look, stop.

At two widths, with JavaScript and without. On every page: no axe violation, no breach of the content
policy, no request to another host, nothing wider than the screen, no target too small to hit.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import transaction
from django.urls import reverse

from ledger.audit.log import Actor, record
from tests.questions import ask, commit

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Where pictures of every page go, for people to look at.
PICTURES = os.environ.get("SCREENSHOTS")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]

TOO_SMALL = """() => [...document.querySelectorAll('a[href], button, input, select, summary')]
  .filter(e => e.checkVisibility() && !e.classList.contains('govuk-skip-link'))
  .map(e => [e, e.getBoundingClientRect()])
  .filter(([e, box]) => box.width && box.height < (e.matches('button') ? 44 : 24))
  .filter(([e]) => !e.closest('p, li, dd, dt'))
  .map(([e, box]) => e.outerHTML.slice(0, 80) + ' ' + box.height)"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    # Playwright keeps an event loop in this thread, which Django would take for an async view.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


class Visit:
    """One browser window, and everything that it must never do."""

    def __init__(self, chromium: Any, url: str, width: int, scripts: bool) -> None:
        self.url, self.width, self.scripts = url, width, scripts
        self.problems: list[str] = []
        self.expected = ""
        context = chromium.new_context(viewport={"width": width, "height": 800}, java_script_enabled=scripts)
        self.page = context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("request", self._on_request)
        self.page.on("console", lambda message: self._on_console(message.type, message.text))
        self.page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))

    def _on_request(self, request: Any) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.problems.append(f"request to another host: {urlsplit(request.url).netloc}")

    def _on_console(self, kind: str, text: str) -> None:
        if self.expected and self.expected in text:
            self.expected = ""
        elif kind == "error" or "Content Security Policy" in text:
            self.problems.append(text)

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def refused(self, path: str, status: int) -> None:
        """Open a page that answers with this status, which the browser reports as a problem."""
        self.expect_status(status)
        answer = self.page.goto(self.url + path)
        assert answer.status == status

    def expect_status(self, status: int) -> None:
        self.expected = f"status of {status}"

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name).first.click()

    def look(self, name: str) -> None:
        """Check the page that is open, whatever it is."""
        if PICTURES:
            how = "js" if self.scripts else "nojs"
            self.page.screenshot(path=Path(PICTURES) / f"{name}-{self.width}-{how}.png", full_page=True)
        assert self.problems == []
        if not self.scripts:
            return
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.width, f"{name} is too wide"
        assert self.page.evaluate(TOO_SMALL) == [], name


@pytest.mark.parametrize("scripts", [True, False], ids=["js", "nojs"])
@pytest.mark.parametrize("width", [1280, 320])
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
    page.get_by_role("button", name="Start now").click()
    visit.look("sign-in")
    visit.press("Sign in")
    visit.look("sign-in-error")
    page.get_by_label("Email").fill(alice.user.email)
    page.get_by_label("Password").fill("correct horse battery")
    visit.press("Sign in")
    visit.look("home")
    visit.open(reverse("requests"))
    visit.look("requests")
    page.get_by_role("link", name="Helix AI asks to use your records").first.click()
    visit.open(reverse("question", args=[question.id]))
    visit.look("question")
    page.get_by_text("What can go wrong").click()
    assert page.get_by_text("8 out of every 100").is_visible()
    visit.look("question-open")
    visit.press("Yes, choose what to share")
    visit.look("choose")
    visit.press("Yes, check my answers")
    visit.look("choose-error")
    page.get_by_label("Test results").check()
    page.get_by_label("Mental health").check()
    page.get_by_label("For 90 days").check()
    visit.press("Yes, check my answers")
    visit.look("check")
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
    page.get_by_role("link", name="Change this choice").click()
    visit.look("change")
    page.get_by_label("For 90 days").check()
    visit.press("Yes, check my answers")
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
            page.get_by_role("button").first.click()
        if name == "access":
            page.get_by_text("2 steps").click()
        visit.look(name)
    visit.open(reverse("notice", args=[question.notice.digest]))
    visit.look("notice")
    visit.open(reverse("account_logout"))
    visit.look("sign-out")
    visit.press("Sign out")
    assert urlsplit(page.url).path == "/"


@pytest.mark.parametrize("width", [1280, 320])
def test_from_the_invitation_to_a_passkey_and_spare_codes(
    chromium: Any, live_server: Any, width: int
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
    page.get_by_role("button", name="Set up an account").click()
    visit.look("sign-up")
    page.get_by_label("Email").fill("ada@example.org")
    page.get_by_label("Password", exact=True).fill("correct horse battery")
    page.get_by_label("Password (again)").fill("correct horse battery")
    visit.press("Set up my account")
    page.get_by_role("heading", name="Hello, Ada").wait_for()

    visit.open(reverse("mfa_list_webauthn"))
    visit.look("passkeys-none")
    page.get_by_role("button", name="Add a passkey").click()
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
    page.get_by_role("link", name="Rename").click()
    visit.look("passkey-rename")
    visit.open(reverse("mfa_index"))
    visit.look("mfa")

    visit.open(reverse("account_logout"))
    visit.press("Sign out")
    visit.open(reverse("account_login"))
    visit.press("Sign in with a passkey")
    page.get_by_role("heading", name="Hello, Ada").wait_for()
    visit.open(reverse("mfa_list_webauthn"))
    page.get_by_role("link", name="Remove").click()
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
    visit.refused(reverse("invitation", args=[code]), 409)
    visit.look("invitation-used")


@pytest.mark.parametrize("width", [1280, 320])
def test_pages_that_say_no(chromium: Any, live_server: Any, user: Any, width: int) -> None:
    from django.test import Client

    client = Client()
    client.force_login(user("eve"), backend="django.contrib.auth.backends.ModelBackend")
    visit = Visit(chromium, live_server.url, width, True)
    visit.refused("/no-such-page", 404)
    visit.look("404")
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}
    visit.page.context.add_cookies([cookie])
    visit.refused("/home", 403)
    visit.look("403-no-records")
    visit.refused(reverse("mfa_download_recovery_codes"), 404)
    visit.look("404-signed-in")
    # A form that was open too long: its token is not ours any more.
    visit.open(reverse("account_logout"))
    visit.page.context.clear_cookies()
    visit.expect_status(403)
    visit.press("Sign out")
    visit.page.get_by_role("heading", name="open too long").wait_for()
    visit.look("403-csrf")


def test_the_first_view_is_light(chromium: Any, live_server: Any) -> None:
    """At most 60 KB, as a server that compresses static files sends it."""
    import gzip

    answers: list[Any] = []
    visit = Visit(chromium, live_server.url, 320, True)
    # Playwright marks its handlers, and a method of a list cannot be marked.
    visit.page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108
    visit.open("/")
    visit.page.wait_for_load_state("networkidle")
    assert {".css", ".js"} <= {Path(urlsplit(answer.url).path).suffix for answer in answers}
    assert sum(len(gzip.compress(answer.body())) for answer in answers) <= 60_000

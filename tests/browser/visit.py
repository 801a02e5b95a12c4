"""One visit to the site in a real browser, and everything that no page of it may ever do.

Whoever tests a page in a browser does so through `Visit`: it counts as a problem what the browser would
report to nobody, and `look` judges the page that is open.
"""

import gzip
import os
import shutil
import time
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.staticfiles import finders
from django.test import Client

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Where pictures of every page go, for people to look at.
PICTURES = os.environ.get("SCREENSHOTS")
WIDTHS = (1280, 320)
EACH_WIDTH = [pytest.param(1280, marks=pytest.mark.exhaustive), 320]  # in `make test` the narrow one
FIRST_VIEW = 60_000  # bytes on the wire

IN_A_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]

# WCAG 2.5.8: what stands in a sentence or a list may be as high as its line.
TOO_SMALL = """() => [...document.querySelectorAll('a[href], button, input, select, summary')]
  .filter(e => e.checkVisibility() && !e.classList.contains('govuk-skip-link'))
  .map(e => [e, e.getBoundingClientRect()])
  .filter(([e, box]) => box.width && box.height < (e.matches('button.govuk-button') ? 44 : 24))
  .filter(([e]) => !e.closest('p, li, dd, dt'))
  .map(([e, box]) => e.outerHTML.slice(0, 80) + ' ' + box.height)"""

# Text that a box of its own hides: wider or higher than the box, which does not scroll.
CUT_OFF = """() => [...document.querySelectorAll('main *, header *, footer *')]
  .filter(e => e.checkVisibility() && !e.closest('.govuk-visually-hidden, svg, thead, input, select'))
  .filter(e => ['hidden', 'clip'].includes(getComputedStyle(e).overflowX))
  .filter(e => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1)
  .map(e => e.outerHTML.slice(0, 80))"""


def signed_in(who: AbstractBaseUser, *, again: bool = False) -> Client:
    """Somebody who is signed in, and with `again` has shown a moment ago that it is still them."""
    client = Client()
    client.force_login(who, backend="django.contrib.auth.backends.ModelBackend")
    session = client.session
    shown = {"method": "password", "at": time.time()}
    session["account_authentication_methods"] = [shown | {"reauthenticated": True} if again else shown]
    session["account_authentication_methods_user"] = str(who.pk)
    session.save()
    return client


class Visit:
    """One browser window. `text` is the size of text in per cent, `language` a code of LANGUAGES."""

    def __init__(
        self,
        chromium: Any,
        url: str,
        width: int = 1280,
        scripts: bool = True,
        *,
        language: str = "",
        text: int = 100,
        who: AbstractBaseUser | None = None,
        again: bool = False,
    ) -> None:
        self.url, self.width, self.scripts = url, width, scripts
        self.problems: list[str] = []
        self.expected = ""
        self.other_hosts: set[str] = set()  # where this visit is meant to go besides
        self.context = chromium.new_context(
            viewport={"width": width, "height": 800}, java_script_enabled=scripts
        )
        if language:
            self._add_cookie(settings.LANGUAGE_COOKIE_NAME, language)
        if who is not None:
            self.sign_in(who, again=again)
        self.page = self.new_tab()
        if text != 100:
            sizes = {"standard": 16 * text // 100, "fixed": 13 * text // 100}
            tools = self.context.new_cdp_session(self.page)
            tools.send("Page.setFontSizes", {"fontSizes": sizes})

    def close(self) -> None:
        self.context.close()

    def new_tab(self) -> Any:
        """Another tab of the same person's browser, watched as the first one is."""
        page = self.context.new_page()
        page.set_default_timeout(10_000)
        page.on("request", self._on_request)
        page.on("console", lambda message: self._on_console(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        return page

    def sign_in(self, who: AbstractBaseUser, *, again: bool = False) -> None:
        """As if `who` had signed in; the way through the sign-in page has tests of its own."""
        client = signed_in(who, again=again)
        self._add_cookie(settings.SESSION_COOKIE_NAME, client.cookies[settings.SESSION_COOKIE_NAME].value)

    def sign_out_elsewhere(self) -> None:
        """The session ends without a word to the page that is open."""
        self.context.clear_cookies(name=settings.SESSION_COOKIE_NAME)

    def _add_cookie(self, name: str, value: str) -> None:
        self.context.add_cookies([{"name": name, "value": value, "url": self.url}])

    def _on_request(self, request: Any) -> None:
        if urlsplit(request.url).netloc not in {urlsplit(self.url).netloc, *self.other_hosts}:
            self.problems.append(f"request to another host: {urlsplit(request.url).netloc}")

    def _on_console(self, kind: str, text: str) -> None:
        if self.expected and self.expected in text:
            self.expected = ""
        elif kind == "error" or "Content Security Policy" in text:
            self.problems.append(text)

    @property
    def path(self) -> str:
        return urlsplit(self.page.url).path

    def open(self, path: str, status: int = 200) -> None:
        """Open a page; one that answers with a failure is expected to, as the browser reports it."""
        if status >= 400:
            self.expect_status(status)
        answer = self.page.goto(self.url + path)
        assert answer is not None
        assert answer.status == status, f"{path} answered {answer.status}"

    def expect_status(self, status: int) -> None:
        self.expected = f"status of {status}"

    def press(self, name: str) -> None:
        """Press a button; the page that it leads to, if it leads to one, is there afterwards."""
        self.page.get_by_role("button", name=name).first.click()
        self.page.wait_for_load_state()

    def follow(self, name: str) -> None:
        """Follow a link; the page that it leads to is there afterwards."""
        self.page.get_by_role("link", name=name).first.click()
        self.page.wait_for_load_state()

    def back(self) -> None:
        # Chromium has no history to go back in while one page takes the other's place.
        self.page.wait_for_load_state()
        self.page.go_back()

    def look(self, name: str) -> None:
        """Check the page that is open, whatever it is."""
        self.page.wait_for_load_state()
        if PICTURES:
            how = "js" if self.scripts else "nojs"
            self.page.screenshot(path=Path(PICTURES) / f"{name}-{self.width}-{how}.png", full_page=True)
        assert self.problems == []
        if not self.scripts:
            return
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        self.fits(name)
        assert self.page.evaluate(TOO_SMALL) == [], name

    def fits(self, name: str) -> None:
        """Nothing is wider than the screen, and no text is cut off."""
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.width, f"{name} is too wide"
        assert self.page.evaluate(CUT_OFF) == [], name

    def weigh(self, path: str) -> int:
        """Bytes of a first view: the page as it is sent, its static files as a server compresses them."""
        answers: list[Any] = []
        # Playwright marks its handlers, and a method of a list cannot be marked.
        keep = lambda answer: answers.append(answer)  # noqa: E731, PLW0108
        self.page.on("response", keep)
        self.open(path)
        self.page.wait_for_load_state("networkidle")
        self.page.remove_listener("response", keep)
        files = {urlsplit(answer.url).path for answer in answers}
        static = {file for file in files if file.startswith(settings.STATIC_URL)}
        assert {".css", ".js"} <= {Path(file).suffix for file in static}
        page = sum(len(answer.body()) for answer in answers if urlsplit(answer.url).path not in static)
        return page + sum(compressed(file.removeprefix(settings.STATIC_URL)) for file in static)


@cache
def compressed(name: str) -> int:
    """Bytes of a static file as a server sends it."""
    found = finders.find(name)
    assert isinstance(found, str), name
    return len(gzip.compress(Path(found).read_bytes()))

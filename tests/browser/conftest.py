"""Chromium, started once, the cast of both sites, and how somebody goes through them."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection

from gateway.accounts.models import User
from gateway.accounts.roles import make_groups
from tests.browser import pseudo
from tests.browser.visit import CHROMIUM, FLAGS
from tests.browser.ways import Walk
from tests.staff.conftest import add_factor, member, model, no_keyholder, unread

__all__ = ["member", "model", "no_keyholder", "unread"]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    # Playwright keeps an event loop in this thread, which Django would take for an async view.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="session", autouse=True)
def one_request_at_a_time() -> Iterator[None]:
    """On SQLite the server's threads share the one connection to a database in memory: a request would see
    another's transaction, as none does in life. On PostgreSQL each has its own.
    """
    lock, answer = threading.RLock(), WSGIHandler.__call__

    def alone(self: WSGIHandler, environ: dict[str, Any], start_response: Any) -> Any:
        with lock:
            return answer(self, environ, start_response)

    with pytest.MonkeyPatch.context() as patch:
        if connection.vendor == "sqlite":
            patch.setattr(WSGIHandler, "__call__", alone)
        yield


@pytest.fixture(scope="session")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue of the language that is written from right to left."""
    folder = tmp_path_factory.mktemp("languages")
    pseudo.write(folder)
    return folder


@pytest.fixture
def colleague(user: Callable[..., User]) -> Callable[[str], User]:
    """A second person of a role, for what nobody does alone."""

    def make(role: str) -> User:
        make_groups()
        person = user(f"second-{role}", is_staff=True)
        person.groups.set(Group.objects.filter(name=role))
        add_factor(person)
        return person

    return make


@pytest.fixture
def walk(
    chromium: Any, live_server: Any, way: dict[str, Any], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Walk]]:
    """Begins a visit that goes `way` (tests/browser/ways.py); `who` is signed in, or nobody."""
    with ExitStack() as stack:
        if way.get("language") == pseudo.CODE:
            stack.enter_context(pseudo.spoken(request.getfixturevalue("mirrored")))

        def begin(who: Any = None) -> Walk:
            return stack.enter_context(closing(Walk(chromium, live_server.url, who=who, **way)))

        yield begin

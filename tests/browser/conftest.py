"""Chromium, started once, and the cast of both sites."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.visit import CHROMIUM, FLAGS
from tests.staff.conftest import member, model, no_keyholder, unread

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

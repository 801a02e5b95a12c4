"""A patient's way through the portal's own pages, as a browser would go it."""

import re
from collections.abc import Mapping
from typing import Any

from django.test import Client
from django.urls import reverse

from consent.teach_back import ITEMS


def say_yes(browser: Client, question: str, choice: Mapping[str, Any]) -> Any:
    """Choose, understand, check, agree: the answer to the last POST. `browser` is signed in."""
    to_check(browser, question, choice)
    return agree(browser, reverse("check", args=[question]))


def to_check(browser: Client, question: str, choice: Mapping[str, Any]) -> None:
    """Choose, and answer the teach-back questions right: the check page is next."""
    browser.post(reverse("choose", args=[question]), dict(choice))
    for number, item in enumerate(ITEMS.values(), start=1):
        browser.post(reverse("understand_one", args=[question, number]), {"answer": item.right})


def agree(browser: Client, check: str) -> Any:
    """Agree to what the page at `check` shows."""
    shown = re.search(r'name="shown" value="([0-9a-f]{64})"', browser.get(check).content.decode())
    return browser.post(check, {"shown": shown[1] if shown else ""})

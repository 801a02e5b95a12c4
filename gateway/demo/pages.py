"""A patient's way through the portal's own pages, as a browser would go it."""

import re
from collections.abc import Mapping
from typing import Any

from allauth.account.internal.flows.reauthentication import reauthenticate_by_password
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest
from django.test import Client
from django.urls import reverse

from consent.teach_back import ITEMS
from gateway.accounts.models import User


def say_yes(browser: Client, question: str, choice: Mapping[str, Any]) -> Any:
    """Choose, understand, check, agree: the answer to the last POST. `browser` is signed in."""
    to_check(browser, question, choice)
    return agree(browser, reverse("check", args=[question]))


def to_check(browser: Client, question: str, choice: Mapping[str, Any]) -> None:
    """Choose, and answer the teach-back questions right: the check page is next."""
    browser.post(reverse("choose", args=[question]), dict(choice))
    for number, item in enumerate(ITEMS.values(), start=1):
        browser.post(reverse("understand_one", args=[question, number]), {"answer": item.right})


def show_again(browser: Client) -> None:
    """As the page that asks for the password again leaves the session; nobody's password is known here."""
    request = HttpRequest()
    request.session = browser.session
    request.user = User.objects.get(pk=request.session[SESSION_KEY])
    reauthenticate_by_password(request)
    request.session.save()


def agree(browser: Client, check: str) -> Any:
    """Show that it is you, and agree to what the page at `check` shows."""
    show_again(browser)
    shown = re.search(r'name="shown" value="([0-9a-f]{64})"', browser.get(check).content.decode())
    return browser.post(check, {"shown": shown[1] if shown else ""})

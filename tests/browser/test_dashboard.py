"""The dashboard in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.test import Client
from django.urls import reverse

from tests.browser.visit import EACH_WIDTH, IN_A_BROWSER, Visit
from tests.questions import ask
from tests.staff.test_dashboard import say, use

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

# Text of a drawing that is smaller than 12 px as the browser shows it.
SMALL_TEXT = """() => [...document.querySelectorAll('svg text')].filter(e => e.checkVisibility())
  .filter(e => e.getBoundingClientRect().height < 12).map(e => e.textContent)"""


@pytest.mark.parametrize("width", [*EACH_WIDTH, pytest.param(800, marks=pytest.mark.exhaustive)])
def test_the_dashboard(
    chromium: Any,
    live_server: Any,
    member: Callable[..., Client],
    alice: Any,
    helix: Any,
    model: Any,
    width: int,
) -> None:
    say(ask(helix, alice), yes=60, no=22, stopped=12)
    for purpose, used in (("TREAT", 41), ("HRESCH", 17), ("PUBHLTH", 3), ("HPAYMT", 8)):
        use(model, purpose, used, refused=9)
    visit = Visit(chromium, live_server.url, width, who=get_user(member("compliance")))
    visit.open(reverse("staff_dashboard"))
    visit.look("staff-dashboard")
    assert visit.page.evaluate(SMALL_TEXT) == []
    assert visit.page.get_by_role("img").count() == 4  # the others have nothing to show yet
    visit.page.get_by_text("Choices over time: the numbers").click()
    visit.look("staff-dashboard-table")
    visit.page.evaluate("document.querySelectorAll('.gw-numbers td').forEach(e => e.textContent = 'hidden')")
    visit.fits("a table that hides all its numbers")

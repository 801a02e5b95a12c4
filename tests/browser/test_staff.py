"""What the table of pages does not show of a review: a question that asks for more than its model reads."""

from typing import Any

import pytest
from django.contrib.auth import get_user
from django.urls import reverse

from tests.browser.visit import EACH_WIDTH, IN_A_BROWSER, Visit
from tests.questions import ask_unread

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_more_than_the_model_reads(
    chromium: Any, live_server: Any, member: Any, alice: Any, helix: Any, model: Any, width: int
) -> None:
    beyond = ask_unread(helix, alice, model=model.digest, kinds=["Observation", "Claim"])
    visit = Visit(chromium, live_server.url, width, who=get_user(member("reviewer")))
    visit.open(reverse("staff_request", args=[beyond.id]))
    visit.look("staff-request-beyond")
    visit.close()

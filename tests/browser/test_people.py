"""Who acts for whom, in a real browser: every page that says so, two tabs, disagreement, coming of age."""

from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from consent import services
from consent.answers import How
from consent.models import Representative
from tests.browser.visit import EACH_WIDTH, IN_A_BROWSER, Visit
from tests.questions import ask, grant, in_force
from tests.representing import minor, of_age_in, represent

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_acting_for_somebody(
    chromium: Any, live_server: Any, alice: Any, helix: Any, user: Any, width: int
) -> None:
    ana = user("ana")
    represent(alice, ana)
    question, consent = ask(helix, alice), in_force(ask(helix, alice, model="cd" * 32))
    visit = Visit(chromium, live_server.url, width, who=ana)
    visit.open(reverse("people"))
    visit.press("Act for Alice Example")
    for name, args in (
        ("home", []),
        ("question", [question.id]),
        ("choose", [question.id]),
        ("choices", []),
        ("choice", [consent.id]),
        ("access", []),
        ("people", []),
    ):
        visit.open(reverse(name, args=args))
        assert visit.page.get_by_text("You act for Alice Example.").is_visible(), name
        visit.look(f"people-acting-{name}")
    visit.open(reverse("news"), 403)
    visit.look("people-own")
    visit.open(reverse("choice", args=[consent.id]))
    # In another tab she chooses herself; then the first tab's page is out of date.
    other = visit.new_tab()
    other.goto(live_server.url + reverse("people"))
    other.get_by_role("button", name="Act for nobody now").click()
    other.wait_for_load_state()
    visit.expect_status(409)
    visit.press("Stop sharing")
    visit.look("people-another")
    visit.open(reverse("people"))
    visit.press("Act for Alice Example")
    Representative.objects.update(ended_at=timezone.now())
    visit.open(reverse("home"), 403)
    visit.look("people-over")
    visit.close()


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_what_the_patient_reads(
    chromium: Any, live_server: Any, alice: Any, helix: Any, user: Any, width: int
) -> None:
    minor(alice, days=50)
    ana, leo = user("ana"), user("leo")
    parent = represent(alice, ana, role="parent", sensitive=["PSY"])
    represent(alice, leo, role="guardian", scope="stop", name="Leo")
    services.refuse(request=ask(helix, alice), patient=alice)
    held = grant(ask(helix, alice), how=How.by(parent))
    visit = Visit(chromium, live_server.url, width, who=alice.user)
    visit.open(reverse("people"))
    visit.look("people-for-me")
    visit.open(reverse("choice", args=[held.id]))
    assert visit.page.get_by_text("Not agreed. Nothing is shared").is_visible()
    visit.look("people-held")
    visit.open(reverse("question", args=[held.request_id]))
    visit.look("people-held-question")
    of_age_in(alice, days=0)
    visit.open(reverse("home"))
    visit.look("people-of-age-home")
    visit.open(reverse("people"))
    visit.look("people-of-age")
    visit.close()

"""What used one record, as an officer and the patient herself look it up: its name is in no address."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.accounts.models import User
from tests.browser.visit import EACH_WIDTH, IN_A_BROWSER, Visit
from tests.compliance.test_trace import Ward, play, ward
from tests.staff.conftest import member

__all__ = ["member", "play", "ward"]  # fixtures

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_what_used_one_record(
    chromium: Any, live_server: Any, ward: Ward, user: Any, member: Callable[..., Any], width: int
) -> None:
    ward.version(1)
    ward.read()
    ward.patient.user = user("alma")
    ward.patient.save()
    member("compliance")
    officer = User.objects.get(username="compliance")
    visit = Visit(chromium, live_server.url, width, who=officer)
    visit.open("/staff/trace")
    visit.page.get_by_label("A record’s type and id", exact=True).check()
    visit.page.get_by_label("Its number, digest, or type and id").fill("Observation/nobody")
    visit.expect_status(400)
    visit.press("Show what used it")
    visit.look("trace-no-record")
    visit.page.get_by_label("Its number, digest, or type and id").fill(ward.reference(1))
    visit.press("Show what used it")
    assert visit.page.get_by_text("The record was in them").is_visible()
    assert visit.path == "/staff/trace"
    visit.look("trace-record")
    visit.close()

    visit = Visit(chromium, live_server.url, width, who=ward.patient.user)
    visit.open("/models/record")
    visit.page.get_by_label("The name of the record").fill("Observation/nobody")
    visit.expect_status(400)
    visit.press("Show what used it")
    visit.look("record-none")
    visit.page.get_by_label("The name of the record").fill(ward.reference())
    visit.press("Show what used it")
    assert visit.page.get_by_text("A person, in an emergency").is_visible()
    assert visit.path == "/models/record"
    visit.look("record")
    visit.close()

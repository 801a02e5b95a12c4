"""Break-glass in a real browser, at two widths, with JavaScript and without."""

from datetime import date
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse

from consent.models import Patient
from gateway.emergency.models import Emergency
from tests.emergency.conftest import WORDS
from tests.emergency.test_pages import signed_in
from tests.portal.test_browser import CHROMIUM, Visit, chromium  # noqa: F401 (a fixture)
from tests.staff.test_browser import sign_in

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]


@pytest.mark.parametrize(("width", "scripts"), [(1280, True), (320, True), (320, False)])
def test_from_the_patients_page_to_the_review(
    chromium: Any,  # noqa: F811
    live_server: Any,
    records: None,
    alice: Any,
    ward: Any,
    dana: Any,
    width: int,
    scripts: bool,
) -> None:
    Patient.objects.filter(pk=alice.pk).update(birth_date=date(1960, 5, 4))
    visit = Visit(chromium, live_server.url, width, scripts)
    page = visit.page
    sign_in(visit, signed_in(ward, "clinician"))
    visit.open(reverse("staff_patient", args=[alice.pk]))
    page.get_by_role("link", name="Emergency access to the records").click()
    visit.look("emergency")
    page.get_by_role("button", name="This is an emergency").click()
    visit.press("Continue")
    visit.look("emergency-who-error")
    page.get_by_label("Record number").fill("alice-1")
    page.get_by_label("Date of birth").fill("1960-05-04")
    visit.press("Continue")
    visit.look("emergency-why")
    page.get_by_label("Emergency treatment").check()
    page.get_by_label("What happened?").fill(WORDS)
    visit.press("Open the records for 60 minutes")
    page.get_by_text("Open for 60 more minutes").wait_for()
    visit.look("emergency-open")
    assert "alice-1" not in page.url
    page.get_by_role("link", name="Test results").click()
    page.get_by_text("5.9 mmol/L").wait_for()
    visit.look("emergency-records")
    visit.press("End now")
    page.get_by_text("This access is over").wait_for()
    visit.look("emergency-over")
    page.go_back()

    assert Group.objects.filter(name="compliance").exists()
    visit = Visit(chromium, live_server.url, width, scripts)
    page = visit.page
    sign_in(visit, signed_in(dana, "compliance"))
    visit.open(reverse("staff_queue") + "?show=emergency")
    visit.look("emergency-queue")
    visit.open(reverse("staff_emergency_review", args=[Emergency.objects.get().pk]))
    visit.look("emergency-review")
    page.get_by_label("Justified", exact=True).check()
    page.get_by_label("Why?").fill("The ward's notes say the same")
    visit.press("Save the review")
    page.get_by_text("The patient is told").wait_for()
    visit.look("emergency-reviewed")

"""Break-glass in a real browser, at two widths, with JavaScript and without."""

from datetime import date
from typing import Any

import pytest
from django.urls import reverse

from consent.models import Patient
from gateway.emergency.models import Emergency
from tests.browser.visit import IN_A_BROWSER, Visit
from tests.emergency.conftest import WORDS, records, seal, ward
from tests.emergency.test_pages import signed_in

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

__all__ = ["records", "seal", "ward"]  # fixtures


@pytest.mark.parametrize(("width", "scripts"), [(1280, True), (320, True), (320, False)])
def test_from_the_patients_page_to_the_review(
    chromium: Any,
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
    signed_in(ward, "clinician")
    visit.sign_in(ward)
    visit.open(reverse("staff_patient", args=[alice.pk]))
    visit.follow("Emergency access to the records")
    visit.look("emergency")
    visit.press("This is an emergency")
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
    visit.follow("Test results")
    page.get_by_text("5.9 mmol/L").wait_for()
    visit.look("emergency-records")
    visit.press("End now")
    page.get_by_text("This access is over").wait_for()
    visit.look("emergency-over")
    visit.close()

    visit = Visit(chromium, live_server.url, width, scripts)
    page = visit.page
    signed_in(dana, "compliance")
    visit.sign_in(dana)
    visit.open(reverse("staff_queue") + "?show=emergency")
    visit.look("emergency-queue")
    visit.open(reverse("staff_emergency_review", args=[Emergency.objects.get().pk]))
    visit.look("emergency-review")
    page.get_by_label("Justified", exact=True).check()
    page.get_by_label("Why?").fill("The ward's notes say the same")
    visit.press("Save the review")
    page.get_by_text("The patient is told").wait_for()
    visit.look("emergency-reviewed")
    visit.close()

    visit = Visit(chromium, live_server.url, width, scripts, who=alice.user)
    visit.open(reverse("use", args=[Emergency.objects.get().pk]))
    visit.page.get_by_text("this was right").wait_for()
    visit.look("emergency-for-the-patient")

"""Every page of the staff site in a real browser: axe, the content policy, overflow, targets."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.test import Client
from django.urls import reverse

from consent import recorded, review
from consent.models import Patient
from tests.browser.visit import IN_A_BROWSER, WIDTHS, Visit
from tests.questions import ask, ask_unread, reviewer

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page(
    chromium: Any,
    live_server: Any,
    member: Callable[..., Client],
    alice: Any,
    helix: Any,
    model: Any,
    unread: Any,
    width: int,
) -> None:
    Patient.objects.filter(pk=alice.pk).update(birth_date=date(1960, 5, 4))
    beyond = ask_unread(helix, alice, model=model.digest, kinds=["Observation", "Claim"])
    back = ask_unread(helix, alice)
    review.send_back(request=back, by=reviewer(), reasons=["hard_to_read"])
    waiting = ask(helix, alice)
    rita, bob, dana, amal = (member(r) for r in ("reviewer", "clinician", "compliance", "administrator"))
    no = recorded.record_answer(
        request=ask(helix, alice),
        by=reviewer(),
        given_by="phone",
        authority="patient",
        kinds=[],
        read_back=True,
    )

    def visit_as(client: Client) -> Visit:
        visit = Visit(chromium, live_server.url, width)
        visit.sign_in(get_user(client))
        return visit

    visit = visit_as(rita)
    for name, url in {
        "queue": reverse("staff_queue"),
        "queue-information": reverse("staff_queue") + "?show=information",
        "queue-empty": reverse("staff_queue") + "?show=mine",
        "request": reverse("staff_request", args=[unread.id]),
        "request-beyond": reverse("staff_request", args=[beyond.id]),
        "request-back": reverse("staff_request", args=[back.id]),
        "requesters": reverse("staff_requesters"),
        "requester": reverse("staff_requester", args=[helix.pk]),
    }.items():
        visit.open(url)
        visit.look(f"staff-{name}")
    visit = visit_as(amal)
    for name, url in {
        "new-requester": reverse("staff_new_requester"),
        "requester-admin": reverse("staff_requester", args=[helix.pk]),
        "requester-change": reverse("staff_change_requester", args=[helix.pk]),
    }.items():
        visit.open(url)
        visit.look(f"staff-{name}")
    visit = visit_as(dana)
    visit.open(reverse("staff_answer", args=[no.id]))
    visit.look("staff-answer-dana")
    visit = visit_as(bob)
    page = visit.page
    for name, url in {
        "answers": reverse("staff_answers"),
        "patients": reverse("staff_patients"),
        "new-patient": reverse("staff_new_patient"),
        "patient": reverse("staff_patient", args=[alice.pk]),
    }.items():
        visit.open(url)
        visit.look(f"staff-{name}")
    visit.open(reverse("staff_patients"))
    page.get_by_label("Name or record number").fill("Alice")
    visit.press("Find")
    visit.look("staff-patients-found")
    visit.open(reverse("staff_new_answer"))
    visit.look("staff-step-who")
    visit.press("Continue")
    visit.look("staff-step-who-error")
    page.get_by_label("Record number").fill("alice-1")
    page.get_by_label("Date of birth").fill("1960-05-04")
    visit.press("Continue")
    visit.look("staff-step-question")
    page.locator(f'input[value="{waiting.id}"]').check()
    visit.press("Continue")
    visit.look("staff-step-how")
    page.get_by_label("On paper").check()
    visit.press("Continue")
    visit.look("staff-step-authority")
    page.get_by_label("The patient", exact=True).check()
    visit.press("Continue")
    visit.look("staff-step-decision")
    for name in ("kind_Observation", "kind_Condition", "kind_MedicationRequest", "sensitive_PSY"):
        page.locator(f'input[name="{name}"][value="{"yes" if name == "kind_Observation" else "no"}"]').check()
    page.locator('input[name="duration"][value="until"]').check()
    visit.press("Continue")
    visit.look("staff-step-scan")
    scan = {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7 signed"}
    page.locator('input[type="file"]').set_input_files([scan])
    visit.press("Continue")
    visit.look("staff-step-read-back")
    page.get_by_label("I read this out").check()
    visit.press("Continue")
    visit.look("staff-check")
    visit.press("Save this yes")
    page.get_by_text("written down by clinician").wait_for()
    visit.look("staff-answer")

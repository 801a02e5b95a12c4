"""Each journey of the clinic's staff in the six ways of tests/browser/ways.py: a review, an alarm, an
answer on paper and by phone, an emergency and its review, who acts for a patient, a disagreement, a result.
"""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.urls import reverse
from django.utils import timezone

from consent import services
from consent.answers import How
from consent.models import Conflict, Consent, ConsentRequest, Patient, Representative
from gateway.analysis.models import ResultReview
from gateway.compliance.models import Alarm
from gateway.emergency.models import Emergency
from gateway.keyholder.client import Keyholder
from tests.browser.visit import IN_A_BROWSER
from tests.browser.ways import FORWARD, Walk, each_way
from tests.emergency.conftest import WORDS, records, seal, ward
from tests.emergency.test_pages import signed_in
from tests.questions import ask, grant
from tests.representing import PAPER, represent
from tests.staff.test_results import BUNDLE, deliver

__all__ = ["records", "seal", "ward"]  # fixtures

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

Begin = Callable[..., Walk]
BORN = date(1960, 5, 4)


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    file = tmp_path / "signed.pdf"
    file.write_bytes(PAPER)
    return file


@pytest.fixture
def born(alice: Any) -> None:
    """The clinic knows alice's day of birth, which identifies her."""
    Patient.objects.filter(pk=alice.pk).update(birth_date=BORN)


def identify(visit: Walk) -> None:
    visit.type('input[name="record_id"]', "alice-1")
    visit.type('input[name="birth_date"]', BORN.isoformat())
    visit.use(FORWARD)


@each_way("320 px")
def test_a_reviewer_approves(walk: Begin, unread: ConsentRequest, member: Any) -> None:
    visit = walk(get_user(member("reviewer")))
    visit.open(reverse("staff_queue"))
    visit.look("way-queue")
    visit.go("staff_request", unread.id)
    visit.look("way-review")
    visit.send("staff_approve", unread.id)
    assert visit.is_at("staff_request", unread.id)
    unread.refresh_from_db()
    assert unread.state == ConsentRequest.State.PENDING


@each_way("large text")
def test_a_look_is_judged(walk: Begin, alice: Any, bob: Any, member: Any) -> None:
    today, now = timezone.localdate(), timezone.now()
    alarm = Alarm.objects.create(kind="night", by=bob, patient=alice, day=today, seen_at=now, leaf=1)
    visit = walk(get_user(member("compliance")))
    visit.open(reverse("staff_alarms"))
    visit.go("staff_alarm", alarm.pk)
    visit.look("way-alarm")
    visit.use('input[name="outcome"][value="explained"]')
    visit.type('textarea[name="reason"]', "He was on duty that night.")
    visit.send("staff_alarm_settle", alarm.pk)
    visit.look("way-alarm-judged")
    alarm.refresh_from_db()
    assert alarm.outcome == Alarm.Outcome.EXPLAINED


@each_way("keyboard")
def test_a_yes_on_paper_that_she_takes_back(
    walk: Begin, born: None, member: Any, alice: Any, helix: Any, paper: Path
) -> None:
    question = ask(helix, alice)
    visit = walk(get_user(member("clinician")))
    visit.open(reverse("staff_answers"))
    visit.go("staff_new_answer")
    visit.use(FORWARD)
    visit.look("way-answer-who-error")
    identify(visit)
    visit.use(f'input[name="question"][value="{question.id}"]')
    visit.look("way-answer-question")
    visit.use(FORWARD)
    visit.use('input[name="given_by"][value="paper"]')
    visit.use(FORWARD)
    visit.look("way-answer-authority")
    visit.use('input[name="authority"][value="patient"]')
    visit.use(FORWARD)
    for name in ("kind_Observation", "kind_Condition", "kind_MedicationRequest", "sensitive_PSY"):
        answer = "yes" if name == "kind_Observation" else "no"
        visit.use(f'input[name="{name}"][value="{answer}"]')
    visit.use('input[name="duration"][value="until"]')
    visit.look("way-answer-decision")
    visit.use(FORWARD)
    visit.attach('input[name="scan"]', paper)
    visit.look("way-answer-scan")
    visit.use(FORWARD)
    visit.use('input[name="read_back"]')
    visit.look("way-answer-read-back")
    visit.use(FORWARD)
    visit.look("way-answer-check")
    visit.use(FORWARD)
    consent = question.consents.get()
    assert visit.is_at("staff_answer", consent.id)
    assert (consent.given_by, consent.kinds) == (Consent.GivenBy.PAPER, ["Observation"])
    visit.look("way-answer")

    visit = walk(alice.user)
    visit.open(reverse("choices"))
    visit.go("choice", consent.id)
    visit.look("way-written-down")
    visit.send("undo", consent.id)
    visit.look("way-taken-back")
    consent.refresh_from_db()
    assert consent.invalid_at is not None


@each_way("no scripts")
def test_a_yes_and_a_stop_by_phone(walk: Begin, born: None, member: Any, alice: Any, helix: Any) -> None:
    question = ask(helix, alice, kinds=["Observation"], sensitive=[])
    visit = walk(get_user(member("clinician")))
    visit.open(reverse("staff_new_answer_step", args=["who"]))
    identify(visit)
    for name, value in (
        ("question", question.id),
        ("given_by", "phone"),
        ("authority", "patient"),
        ("kind_Observation", "yes"),
    ):
        visit.use(f'input[name="{name}"][value="{value}"]')
        if name == "kind_Observation":
            visit.use('input[name="duration"][value="once"]')
        visit.use(FORWARD)
    visit.use('input[name="read_back"]')
    visit.use(FORWARD)
    visit.use(FORWARD)
    consent = question.consents.get()
    assert consent.given_by == Consent.GivenBy.PHONE
    visit.choose('select[name="given_by"]', "phone")
    visit.send("staff_withdraw", consent.id)
    visit.look("way-answer-stopped")
    consent.refresh_from_db()
    assert consent.stopped_at is not None


@each_way("keyboard")
def test_an_emergency_and_its_review(
    walk: Begin, records: None, born: None, alice: Any, ward: Any, dana: Any
) -> None:
    signed_in(ward, "clinician")
    visit = walk(ward)
    visit.open(reverse("staff_patient", args=[alice.pk]))
    visit.go("staff_emergency", alice.pk)
    visit.look("way-emergency")
    visit.go("staff_emergency_who", alice.pk)
    visit.use(FORWARD)
    visit.look("way-emergency-who-error")
    identify(visit)
    assert visit.is_at("staff_emergency_why", alice.pk)
    visit.use('input[name="reason"][value="ETREAT"]')
    visit.type('textarea[name="explanation"]', WORDS)
    visit.look("way-emergency-why")
    visit.use(FORWARD)
    emergency = Emergency.objects.get()
    assert visit.is_at("staff_emergency_open", emergency.pk)
    visit.look("way-emergency-open")
    visit.go("staff_emergency_records", emergency.pk, "Observation")
    assert visit.page.get_by_text("5.9 mmol/L").is_visible()
    visit.look("way-emergency-records")
    assert "alice-1" not in visit.page.url
    visit.send("staff_emergency_end", emergency.pk)
    visit.look("way-emergency-over")

    signed_in(dana, "compliance")
    visit = walk(dana)
    visit.open(reverse("staff_queue") + "?show=emergency")
    visit.look("way-emergency-queue")
    visit.go("staff_emergency_review", emergency.pk)
    visit.look("way-emergency-review")
    visit.use('input[name="outcome"][value="justified"]')
    visit.type('textarea[name="reason"]', "The ward's notes say the same")
    visit.send("staff_emergency_judge", emergency.pk)
    visit.look("way-emergency-reviewed")

    visit = walk(alice.user)
    visit.open(reverse("access"))
    visit.go("use", emergency.pk)
    visit.look("way-emergency-use")
    for words in (WORDS, "The ward's notes say the same"):
        assert visit.page.get_by_text(words).is_visible()


@each_way("320 px")
def test_a_representative_is_registered(
    walk: Begin, born: None, member: Any, alice: Any, paper: Path
) -> None:
    visit = walk(get_user(member("clinician")))
    visit.open(reverse("staff_patient", args=[alice.pk]))
    visit.go("staff_representatives", alice.pk)
    visit.go("staff_new_representative", alice.pk)
    visit.use(FORWARD)
    visit.look("way-representative-error")
    visit.type('input[name="name"]', "Ana")
    for name, value in (("role", "attorney"), ("scope", "answer"), ("kinds", "Observation")):
        visit.use(f'input[name="{name}"][value="{value}"]')
    visit.attach('input[name="scan"]', paper)
    visit.use('input[name="seen"]')
    visit.look("way-representative")
    visit.use(FORWARD)
    visit.look("way-representative-invited")
    made = Representative.objects.get()
    assert (made.role, made.kinds) == ("attorney", ["Observation"])
    visit.go("staff_representatives", alice.pk)
    visit.send("staff_end_representative", made.pk)
    visit.look("way-representative-ended")
    made.refresh_from_db()
    assert made.ended_at is not None


@each_way("mouse")
def test_a_disagreement_is_settled(walk: Begin, member: Any, alice: Any, helix: Any, user: Any) -> None:
    ana = represent(alice, user("ana"))
    services.refuse(request=ask(helix, alice), patient=alice)
    grant(ask(helix, alice), how=How.by(ana))
    conflict = Conflict.objects.get()
    visit = walk(get_user(member("reviewer")))
    visit.open(reverse("staff_conflicts"))
    visit.look("way-conflicts")
    visit.go("staff_conflict", conflict.pk)
    visit.look("way-conflict")
    visit.use('input[name="outcome"][value="ask_anew"]')
    visit.type('input[name="reason"]', "Both were heard on the phone.")
    visit.use(FORWARD)
    visit.look("way-conflict-settled")
    conflict.refresh_from_db()
    assert conflict.outcome == Conflict.Outcome.ASK_ANEW


@each_way("keyboard")
def test_a_result_is_accepted_and_withdrawn(
    walk: Begin, member: Any, alice: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keyholder, "open_output", lambda *_, **__: json.dumps(BUNDLE).encode())
    (subject,) = deliver(model, alice)
    visit = walk(get_user(member("clinician")))
    visit.open(reverse("staff_results"))
    visit.look("way-results")
    visit.go("staff_result", subject.pk)
    visit.look("way-result")
    visit.send("staff_decide_result", subject.pk)
    visit.look("way-result-accepted")
    visit.choose('select[name="reason"]', "implausible")
    visit.send("staff_decide_result", subject.pk)
    visit.look("way-result-withdrawn")
    assert ResultReview.objects.get().state == ResultReview.State.WITHDRAWN

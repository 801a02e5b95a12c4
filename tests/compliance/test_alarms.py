"""Alarms: each rule, each look judged once, each alarm judged by somebody else."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from consent.models import Patient
from gateway.compliance import alarms
from gateway.compliance.models import Alarm, Look, Watched
from gateway.emergency.models import Emergency
from ledger.audit import sealing
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput, RefusedTransition

pytestmark = pytest.mark.django_db

NOON = timezone.make_aware(datetime(2026, 11, 27, 12))
Saw = Callable[..., Emergency]


@pytest.fixture
def saw(bob: Any) -> Saw:
    """bob opens a patient's records in an emergency, and the log is sealed."""

    def make(patient: Patient, at: datetime = NOON, by: Any = bob, steps: int = 1) -> Emergency:
        found = Emergency.objects.create(
            patient=patient, opened_by=by, reason="ETREAT", opened_at=at, expires_at=at, review_by=at
        )
        with transaction.atomic():
            for kind in ("access.emergency", *["emergency.read"] * (steps - 1)):
                actor = Actor.staff(by.pk)
                record(kind=kind, actor=actor, subject=patient.pseudonym, at=at, access=found.pk)
        sealing.seal()
        return found

    return make


def kinds() -> list[str]:
    return sorted(Alarm.objects.values_list("kind", flat=True))


@pytest.mark.parametrize(
    ("hour", "expected"), [(21, []), (22, ["night"]), (3, ["night"]), (5, ["night"]), (6, []), (12, [])]
)
def test_at_night(alice: Any, saw: Saw, hour: int, expected: list[str]) -> None:
    saw(alice, NOON.replace(hour=hour))
    assert alarms.watch() == len(expected)
    assert kinds() == expected


@pytest.mark.parametrize(
    ("last_name", "expected"),
    [("Example", ["surname"]), ("EXAMPLE", ["surname"]), ("Other", []), ("", [])],
)
def test_the_same_surname(alice: Any, bob: Any, saw: Saw, last_name: str, expected: list[str]) -> None:
    bob.last_name = last_name
    bob.save()
    saw(alice)
    alarms.watch()
    assert kinds() == expected


def test_their_own_record(alice: Any, bob: Any, saw: Saw) -> None:
    Patient.objects.filter(pk=alice.pk).update(user=bob)
    saw(alice)
    alarms.watch()
    assert kinds() == ["own"]


def test_many_patients_within_an_hour(saw: Saw) -> None:
    for number in range(alarms.MANY + 1):
        patient = Patient.objects.create(name=f"Patient {number}", record_id=f"p-{number}")
        saw(patient, NOON + timedelta(minutes=number), steps=2)
    alarms.watch()
    assert kinds() == ["volume"]


def test_many_patients_over_a_day(saw: Saw) -> None:
    for number in range(alarms.MANY):
        patient = Patient.objects.create(name=f"Patient {number}", record_id=f"p-{number}")
        saw(patient, NOON - timedelta(minutes=10 * number - 100))
    alarms.watch()
    assert kinds() == []


def test_a_patient_whom_many_know(alice: Any, saw: Saw, member: Any) -> None:
    clinician = member("clinician")
    page = clinician.get(f"/staff/patients/{alice.pk}").content.decode()
    assert "Many know this patient" in page
    for _ in range(2):
        clinician.post(f"/staff/patients/{alice.pk}/well-known", {"so": "yes"})
    saw(alice)
    alarms.watch()
    assert kinds() == ["well_known"]
    assert AuditRow.objects.filter(kind="patient.marked", subject=alice.pseudonym).count() == 1
    clinician.post(f"/staff/patients/{alice.pk}/well-known", {"so": "no"})
    saw(alice, NOON + timedelta(days=1))
    assert alarms.watch() == 0
    assert member("auditor").post(f"/staff/patients/{alice.pk}/well-known").status_code == 403


def test_each_look_is_judged_once(alice: Any, saw: Saw) -> None:
    saw(alice, NOON.replace(hour=23), steps=4)
    assert alarms.watch() == 1  # one a day for each person and patient
    assert alarms.watch() == 0
    assert Watched.objects.get().leaf == 4
    row = AuditRow.objects.get(kind="alarm.opened")
    assert row.subject == alice.pseudonym
    saw(alice, NOON.replace(hour=2) + timedelta(days=1))
    assert alarms.watch() == 1


def test_what_is_not_sealed_yet_waits(alice: Any, bob: Any) -> None:
    with transaction.atomic():
        record(kind="access.emergency", actor=Actor.staff(bob.pk), subject=alice.pseudonym, access="ab" * 32)
    assert alarms.watch() == 0
    assert not Watched.objects.exclude(leaf=0).exists()


def test_a_program_s_reading_is_no_look(alice: Any, helix: Any) -> None:
    with transaction.atomic():
        record(
            kind="result.read", actor=Actor.client(helix.pk), subject=alice.pseudonym, subject_id="ab" * 32
        )
    sealing.seal()
    assert alarms.watch() == 0
    assert not Look.objects.exists()


@pytest.fixture
def alarm(alice: Any, saw: Saw) -> Alarm:
    saw(alice, NOON.replace(hour=23))
    alarms.watch()
    return Alarm.objects.get()


def test_a_second_person_judges(alarm: Alarm, dana: Any, bob: Any) -> None:
    alarms.take(alarm=alarm, by=dana)
    with pytest.raises(RefusedTransition) as caught:
        alarms.settle(alarm=alarm, by=bob, outcome="explained", reason="I was on call that night.")
    assert caught.value.code == "own_alarm"
    with pytest.raises(InvalidInput):
        alarms.settle(alarm=alarm, by=dana, outcome="explained", reason="fine")
    alarms.settle(alarm=alarm, by=dana, outcome="explained", reason="On call that night, as the plan says.")
    alarm.refresh_from_db()
    assert (alarm.outcome, alarm.settled_by, alarm.owner) == ("explained", dana, dana)
    assert AuditRow.objects.filter(kind="alarm.settled").count() == 1
    with pytest.raises(RefusedTransition):
        alarms.settle(alarm=alarm, by=dana, outcome="misuse", reason="On second thoughts, it was not.")


def test_the_pages(alarm: Alarm, member: Any, alice: Any) -> None:
    officer, auditor = member("compliance"), member("auditor")
    assert "At night" in auditor.get("/staff/alarms").content.decode()
    page = auditor.get(f"/staff/alarms/{alarm.pk}").content.decode()
    assert alice.name not in page
    assert "Save" not in page
    assert auditor.post(f"/staff/alarms/{alarm.pk}/settle").status_code == 403
    assert alice.name in officer.get(f"/staff/alarms/{alarm.pk}").content.decode()
    officer.post(f"/staff/alarms/{alarm.pk}/own")
    alarm.refresh_from_db()
    assert alarm.owner is not None
    assert officer.post(f"/staff/alarms/{alarm.pk}/settle", {"outcome": "misuse"}).status_code == 400
    officer.post(
        f"/staff/alarms/{alarm.pk}/settle",
        {"outcome": "misuse", "reason": "Nobody of this name was in care."},
    )
    assert "Misuse" in officer.get(f"/staff/alarms/{alarm.pk}").content.decode()
    assert "(0)" in officer.get("/staff/alarms").content.decode()
    assert member("clinician").get("/staff/alarms").status_code == 403

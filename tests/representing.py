"""Somebody who acts for a patient, for the tests of the consent, portal and staff rooms."""

from datetime import date, timedelta
from typing import Any

from django.utils import timezone

from consent import representatives, scans
from consent.models import Patient, Representative
from tests.questions import reviewer

PAPER = b"%PDF-1.7 a court's paper"
GROWN_UP = date(1960, 5, 4)
KINDS = ["Observation", "MedicationRequest", "Condition"]


def represent(patient: Patient, user: Any, **changes: Any) -> Representative:
    """Ana acts for `patient`, a grown-up, with power of attorney; accepted and in force unless changed."""
    if patient.birth_date is None:
        Patient.objects.filter(pk=patient.pk).update(birth_date=GROWN_UP)
        patient.birth_date = GROWN_UP
    fields: dict[str, Any] = {
        "name": "Ana",
        "role": "attorney",
        "scope": "answer",
        "kinds": KINDS if changes.get("scope", "answer") == "answer" else [],
        "evidence": scans.keep(patient=patient, content=PAPER),
        "by": reviewer(),
    }
    made, code = representatives.register(patient=patient, **{**fields, **changes})
    return made if user is None else representatives.accept(code=code, user=user)


def minor(patient: Patient, *, days: int = 1) -> date:
    """Make the patient come of age in so many days; the day on which she does."""
    of_age = timezone.localdate() + timedelta(days=days)
    patient.birth_date = born_18_before(of_age)
    patient.save(update_fields=["birth_date"])
    return of_age


def born_18_before(day: date) -> date:
    try:
        return day.replace(year=day.year - 18)
    except ValueError:
        return date(day.year - 18, 3, 1)


def of_age_in(patient: Patient, *, days: int) -> None:
    """As `minor`, for who was registered while she was one: the row stays, the day moves."""
    birth = born_18_before(timezone.localdate() + timedelta(days=days))
    Patient.objects.filter(pk=patient.pk).update(birth_date=birth)

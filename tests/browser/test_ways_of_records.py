"""What the clinic's staff do about records, in the six ways of tests/browser/ways.py: a label that one adds
and two lift, and an import that is looked at.
"""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.core.management import call_command
from django.urls import reverse

from consent.models import Patient
from gateway.keyholder.client import Keyholder
from gateway.records.keeping import confirm_pending
from gateway.records.models import ImportRun, LabelChange
from tests.browser.visit import IN_A_BROWSER
from tests.browser.ways import Walk, each_way
from tests.conftest import Installation
from tests.records.conftest import alice_id, observation, patient, write
from tests.staff.test_labels import carla, keyholder

__all__ = ["alice_id", "carla", "keyholder", "write"]  # fixtures

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

Begin = Callable[..., Walk]
CHANGE = "main form:not([action]) button"


def say(visit: Walk, of: Patient, act: str) -> LabelChange:
    visit.use(f'input[name="act"][value="{act}"]')
    visit.choose('select[name="label"]', "HIV")
    visit.type('input[name="resource"]', f"Observation/1-{of.record_id}")
    visit.type('input[name="reason"]', "The letter of the ward says so.")
    visit.use(CHANGE)
    return LabelChange.objects.latest("asked_at")


@each_way("keyboard")
def test_one_adds_a_label_and_two_lift_it(
    walk: Begin,
    member: Callable[..., Any],
    colleague: Callable[[str], Any],
    keyholder: Keyholder,
    carla: Patient,
) -> None:
    visit = walk(get_user(member("clinician")))
    visit.open(reverse("staff_patient", args=[carla.pk]))
    visit.go("staff_labels", carla.pk)
    visit.use(CHANGE)
    visit.look("way-labels-error")
    added = say(visit, carla, "add")
    visit.look("way-label-added")
    confirm_pending(keyholder)
    added.refresh_from_db()
    assert added.state == LabelChange.State.DONE
    lifted = say(visit, carla, "lift")
    visit.look("way-label-to-lift")
    confirm_pending(keyholder)
    lifted.refresh_from_db()
    assert lifted.state == LabelChange.State.ASKED

    visit = walk(colleague("clinician"))
    visit.open(reverse("staff_labels", args=[carla.pk]))
    visit.look("way-label-to-agree")
    visit.send("staff_agree_label", lifted.pk)
    visit.look("way-label-agreed")
    confirm_pending(keyholder)
    lifted.refresh_from_db()
    assert lifted.state == LabelChange.State.DONE


@each_way("320 px")
def test_an_import_is_looked_at(
    walk: Begin,
    member: Callable[..., Any],
    installation: Installation,
    write: Callable[..., Path],
    alice_id: str,
) -> None:
    write("1.ndjson", patient(alice_id))
    bad = write(
        "2.ndjson", observation("a", f"Patient/{alice_id}"), {"resourceType": "Observation", "id": "x"}
    )
    with pytest.raises(SystemExit):
        call_command("ingest", str(bad.parent), stdout=StringIO())
    run = ImportRun.objects.get()
    visit = walk(get_user(member("administrator")))
    visit.open(reverse("staff_imports"))
    visit.look("way-imports")
    visit.go("staff_import", run.pk)
    visit.look("way-import")
    assert visit.page.get_by_text("Observation.status").is_visible()

"""/staff/patients/<id>/labels: a clinician adds a label, and it counts at once; two lift one."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from consent.models import Patient
from gateway.keyholder.client import Keyholder
from gateway.records.clinical_labels import told
from gateway.records.ingest import ingest
from gateway.records.keeping import confirm_pending
from gateway.records.models import Chunk, LabelChange
from ledger.audit.models import AuditRow
from tests.conftest import Installation
from tests.records.conftest import observation, patient, write  # noqa: F401 (a fixture)
from tests.staff.conftest import add_factor

pytestmark = pytest.mark.django_db

Member = Callable[..., Client]


@pytest.fixture
def keyholder(no_keyholder: None, installation: Installation, settings: Any) -> Iterator[Keyholder]:
    settings.KEYHOLDER_SOCKET = installation.keyholder_socket
    made = Keyholder(installation.keyholder_socket)
    yield made
    made.close()


@pytest.fixture
def carla(keyholder: Keyholder, write: Any) -> Patient:  # noqa: F811
    """A patient with two Observations in one chunk."""
    id = f"carla-{secrets.token_hex(8)}"
    of = f"Patient/{id}"
    report = ingest([write("c.ndjson", patient(id), observation(f"1-{id}", of), observation(f"2-{id}", of))])
    assert report.refused == []
    return Patient.objects.get(record_id=id)


@pytest.fixture
def second(user: Any) -> Client:
    """Another clinician."""
    person = user("erik", is_staff=True)
    person.groups.set(Group.objects.filter(name="clinician"))
    add_factor(person)
    client = Client()
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


def say(browser: Client, of: Patient, *, act: str = "add", **said: str) -> Any:
    form = {
        "act": act,
        "label": "HIV",
        "resource": f"Observation/1-{of.record_id}",
        "reason": "Read it in the letter",
        **said,
    }
    return browser.post(reverse("staff_labels", args=[of.pk]), form, follow=True)


def counts(keyholder: Keyholder, of: Patient) -> dict[tuple[str, ...], int]:
    return {
        tuple(one["labels"]): one["count"]
        for one in keyholder.index(patient=of.pk)
        if one["resource_type"] == "Observation"
    }


def test_an_added_label_counts_for_the_next_opening(
    member: Member, keyholder: Keyholder, carla: Patient
) -> None:
    answer = say(member("clinician"), carla)
    assert "The label is on the record from now on" in answer.content.decode()
    # at once for all of its chunk, and for the record alone when the relay has been there
    assert counts(keyholder, carla) == {("HIV", "R"): 2}
    assert "HIV, Restricted" in answer.content.decode()
    assert "Is being carried out" in answer.content.decode()
    confirm_pending(keyholder)
    assert counts(keyholder, carla) == {("HIV", "R"): 1, ("N",): 1}
    change = LabelChange.objects.get()
    assert (change.state, told(change).reason) == ("done", "Read it in the letter")
    rows = AuditRow.objects.filter(kind__startswith="labels.").values_list("kind", flat=True)
    assert sorted(rows) == ["labels.asked", "labels.changed"]
    lines = [bytes(one) for one in AuditRow.objects.values_list("line", flat=True)]
    for kept in (bytes(change.sealed), *lines):
        assert b"HIV" not in kept
        assert b"letter" not in kept


def test_a_newer_version_keeps_the_label(
    member: Member,
    keyholder: Keyholder,
    carla: Patient,
    write: Any,  # noqa: F811
) -> None:
    say(member("clinician"), carla)
    confirm_pending(keyholder)
    newer = observation(
        f"1-{carla.record_id}",
        f"Patient/{carla.record_id}",
        meta={"lastUpdated": "2030-01-01T00:00:00Z"},
    )
    ingest([write("newer.ndjson", newer)])
    assert counts(keyholder, carla) == {("HIV", "R"): 1, ("N",): 1}


def test_what_refers_to_the_record_keeps_its_own_label(
    member: Member,
    keyholder: Keyholder,
    carla: Patient,
    write: Any,  # noqa: F811
) -> None:
    """A clinician's label is on the record that it names: docs/labels.md says so, and to label the others."""
    encounter = {
        "resourceType": "Encounter",
        "id": f"e-{carla.record_id}",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": f"Patient/{carla.record_id}"},
    }
    there = observation(
        f"3-{carla.record_id}",
        f"Patient/{carla.record_id}",
        encounter={"reference": f"Encounter/{encounter['id']}"},
    )
    ingest([write("e.ndjson", encounter, there)])
    say(member("clinician"), carla, resource=f"Encounter/{encounter['id']}")
    confirm_pending(keyholder)
    assert counts(keyholder, carla) == {("N",): 3}
    found = [
        one["labels"] for one in keyholder.index(patient=carla.pk) if one["resource_type"] == "Encounter"
    ]
    assert found == [["HIV", "R"]]


def test_two_lift_a_label(member: Member, second: Client, keyholder: Keyholder, carla: Patient) -> None:
    first = member("clinician")
    say(first, carla)
    confirm_pending(keyholder)
    answer = say(first, carla, act="lift").content.decode()
    assert "A second clinician has to agree" in answer
    assert "Somebody else has to agree." in answer
    change = LabelChange.objects.get(act="lift")
    agree = reverse("staff_agree_label", args=[change.pk])
    assert first.post(agree).status_code == 409
    confirm_pending(keyholder)
    assert counts(keyholder, carla) == {("HIV", "R"): 1, ("N",): 1}
    assert "Agreed" in second.post(agree, follow=True).content.decode()
    confirm_pending(keyholder)
    assert counts(keyholder, carla) == {("N",): 2}
    assert second.post(agree, follow=True).status_code == 200  # a second click changes nothing
    assert AuditRow.objects.filter(kind="labels.agreed").count() == 1


def test_one_refuses(member: Member, second: Client, keyholder: Keyholder, carla: Patient) -> None:
    say(member("clinician"), carla, act="lift")
    change = LabelChange.objects.get()
    answer = second.post(reverse("staff_refuse_label", args=[change.pk]), follow=True).content.decode()
    assert "The label stays" in answer
    confirm_pending(keyholder)
    assert LabelChange.objects.get().state == "refused"
    assert not Chunk.objects.filter(patient=carla, retired_at__isnull=False).exists()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"resource": "Observation/none"}, "no such record"),
        ({"resource": "what she said"}, "named by its type and id"),
        ({"reason": ""}, "required"),
        ({"label": "UFO"}, "not one of the available choices"),
    ],
)
def test_what_is_refused_changes_nothing(
    said: dict[str, str], words: str, member: Member, keyholder: Keyholder, carla: Patient
) -> None:
    answer = say(member("clinician"), carla, **said)
    assert words in answer.content.decode()
    assert not LabelChange.objects.exists()
    assert counts(keyholder, carla) == {("N",): 2}


def test_another_patients_record_is_not_found(
    member: Member, keyholder: Keyholder, carla: Patient, alice: Any
) -> None:
    answer = say(member("clinician"), carla, resource=f"Patient/{alice.record_id}")
    assert "no such record" in answer.content.decode()


def test_the_page_is_the_clinicians(member: Member, carla: Patient) -> None:
    for role in ("reviewer", "compliance", "auditor", "administrator"):
        assert member(role).get(reverse("staff_labels", args=[carla.pk])).status_code == 403


def test_without_the_keyholder_the_page_says_so(
    member: Member, carla: Patient, settings: Any, tmp_path: Any
) -> None:
    browser = member("clinician")
    settings.KEYHOLDER_SOCKET = str(tmp_path / "nobody.sock")
    assert "does not answer" in browser.get(reverse("staff_labels", args=[carla.pk])).content.decode()
    assert say(browser, carla).status_code == 503

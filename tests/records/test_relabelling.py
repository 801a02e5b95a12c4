"""Stored records under newer rules: no file comes again, and what is in doubt is in no opening meanwhile."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from consent.models import Patient
from gateway.compliance.reconcile import _of_openings
from gateway.keyholder.client import Keyholder
from gateway.labels import labelling
from gateway.labels.rules import ACT_CODE, LOINC, RXNORM, SNOMED, VERSION
from gateway.records import arriving, clinical_labels, relabelling, sealing, settling
from gateway.records import ingest as ingesting
from gateway.records.ingest import ingest
from gateway.records.keeping import confirm_pending
from gateway.records.models import Chunk, Regrouping, ResourceVersion, Unsettled
from gateway.records.relabelling import relabel
from ledger.audit.models import AuditRow
from ledger.errors import KeyholderUnavailable, RefusedTransition
from tests.records.conftest import observation, patient
from tests.records.test_ingest import opened

Write = Callable[..., Path]
pytestmark = pytest.mark.django_db

HIV, PLAIN, DEPRESSION, OPIOID = "7917-8", "8480-6", "35489007", "1819"


@contextmanager
def older_rules() -> Iterator[None]:
    """The loader labels by rules that know none of these codes; the keyholder has today's."""
    with pytest.MonkeyPatch.context() as patch:
        for coded in ((LOINC, HIV), (SNOMED, DEPRESSION), (RXNORM, OPIOID)):
            patch.delitem(labelling._EXACT, coded)
        patch.setattr(ingesting, "VERSION", "2020.1")
        patch.setattr(arriving, "VERSION", "2020.1")
        patch.setattr(sealing, "RULES_VERSION", "2020.1")
        patch.setattr(settling, "VERSION", "2020.1")
        yield


def concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def records(of: str) -> list[dict[str, Any]]:
    subject = {"subject": {"reference": f"Patient/{of}"}}
    return [
        patient(of),
        observation(f"h-{of}", f"Patient/{of}", code=concept(LOINC, HIV)),
        observation(f"p-{of}", f"Patient/{of}", code=concept(LOINC, PLAIN)),
        {
            "resourceType": "Condition",
            "id": f"c-{of}",
            "clinicalStatus": concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active"),
            "code": concept(SNOMED, DEPRESSION),
            **subject,
        },
        {
            "resourceType": "Encounter",
            "id": f"e-{of}",
            "status": "finished",
            "class": {"system": ACT_CODE, "code": "AMB"},
            "diagnosis": [{"condition": {"reference": f"Condition/c-{of}"}}],
            **subject,
        },
        {"resourceType": "Medication", "id": f"m-{of}", "code": concept(RXNORM, OPIOID)},
        {
            "resourceType": "MedicationRequest",
            "id": f"r-{of}",
            "status": "active",
            "intent": "order",
            "medicationReference": {"reference": f"Medication/m-{of}"},
            **subject,
        },
    ]


TODAY = {
    "Condition": ["PSY", "R"],
    "Encounter": ["PSY", "R"],
    "MedicationRequest": ["ETH", "OPIOIDUD", "R"],
    "Patient": ["N"],
}


@pytest.fixture
def whose(write: Write, keyholder: Keyholder, alice_id: str) -> str:
    """Alice, whose records came in under older rules."""
    with older_rules():
        # Medications first, as `in_order` has it among files
        order = sorted(records(alice_id), key=lambda one: one["resourceType"] != "Medication")
        report = ingest([write("first.ndjson", *order)])
    assert report.refused == []
    found = Patient.objects.get(record_id=alice_id).pk
    assert {tuple(one["labels"]) for one in keyholder.index(patient=found)} == {("N",)}
    return found


def by_type(keyholder: Keyholder, whose: str) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for one in keyholder.index(patient=whose):
        found.setdefault(one["resource_type"], []).append(one["labels"])
    return found


def assert_labelled(keyholder: Keyholder, whose: str) -> None:
    found = by_type(keyholder, whose)
    assert found.pop("Observation") == [["HIV", "R"], ["N"]]
    assert found == {kind: [labels] for kind, labels in TODAY.items()}
    assert set(ResourceVersion.objects.values_list("rules", flat=True)) == {VERSION}


def test_stored_records_are_brought_under_todays_rules(
    keyholder: Keyholder, whose: str, alice_id: str
) -> None:
    before = {raw for raw, _ in opened(keyholder, whose)}
    out = StringIO()
    call_command("relabel", "--json", stdout=out)
    said = json.loads(out.getvalue())
    assert (said["rules"], said["patients"], said["failed"]) == (
        VERSION,
        2,
        0,
    )  # alice, and nobody's Medication
    assert said["opened"] == said["looked"] == 6
    assert said["sealed"] == 7  # the Observations are told apart
    assert_labelled(keyholder, whose)
    # the very bytes as received, once each
    after = [raw for raw, _ in opened(keyholder, whose)]
    assert len(after) == len(set(after)) == 6
    assert set(after) == before
    assert not Chunk.objects.filter(confirmed_at=None).exists()
    # each act is in the log of openings, in the audit log and in the database; reconciliation knows it
    acts = set(Regrouping.objects.values_list("pk", flat=True))
    assert AuditRow.objects.filter(kind="records.relabelled").count() == len(acts) == 2
    last = keyholder.log_page(after=0, limit=1)["last"]
    entries = [
        one for one in keyholder.log_page(after=max(0, last - 20))["entries"] if one["reference"] in acts
    ]
    assert {one["ground"] for one in entries} == {"relabel"}
    nowhere: Any = None
    assert list(_of_openings(nowhere, entries)) == []
    Regrouping.objects.all().delete()
    assert {one.code for one in _of_openings(nowhere, entries)} == {"regrouping_unknown"}


def test_a_second_run_finds_nothing_to_do(keyholder: Keyholder, whose: str) -> None:
    relabel(keyholder)
    told: list[tuple[str, int, int]] = []
    again = relabel(keyholder, progress=lambda *said: told.append(said))
    assert (again.patients, again.looked, again.opened, told) == (0, 0, 0, [])


def test_what_no_newer_rule_concerns_is_not_opened(
    keyholder: Keyholder, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    relabel(keyholder)
    ResourceVersion.objects.update(rules="")  # as if by older rules: what is noted says that it is not so

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is to be opened")

    monkeypatch.setattr(Keyholder, "relabel", never)
    outcome = relabel(keyholder)
    assert (outcome.looked, outcome.opened) == (7, 0)
    assert_labelled(keyholder, whose)


@pytest.mark.parametrize("lost", ["relabel", "replace_chunks"])
def test_an_interrupted_run_goes_on_and_withholds_meanwhile(
    lost: str, keyholder: Keyholder, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise KeyholderUnavailable("It is away.")

    with monkeypatch.context() as patch:
        patch.setattr(Keyholder, lost, away)
        with pytest.raises(CommandError, match="Run it again"):
            call_command("relabel")
    assert {tuple(one["labels"]) for one in keyholder.index(patient=whose)} == {("R", "unlabelled")}
    confirm_pending(keyholder)  # the relay's round brings nothing out that no rule has looked at
    assert {tuple(one["labels"]) for one in keyholder.index(patient=whose)} == {("R", "unlabelled")}
    assert relabel(keyholder).failed == 0
    assert_labelled(keyholder, whose)
    assert len(opened(keyholder, whose)) == 6


def test_what_follows_a_chunk_that_is_opened_later_waits_for_it(
    keyholder: Keyholder, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chunk is opened by itself, followers first: none takes the labels of before."""
    ranks = relabelling._look

    def backwards(*said: Any, **more: Any) -> Any:
        look = ranks(*said, **more)
        look.ranks = {chunk: -rank for chunk, rank in look.ranks.items()}
        return look

    monkeypatch.setattr(relabelling, "MOST_BLOBS", 1)
    monkeypatch.setattr(relabelling, "_look", backwards)
    assert relabel(keyholder).failed == 0
    assert_labelled(keyholder, whose)
    assert len(opened(keyholder, whose)) == 6


def test_one_look_serves_all_chunks_of_a_round(
    keyholder: Keyholder, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few of them are opened at once."""
    real, looked = Keyholder.survey, []

    def noted(self: Keyholder, **said: Any) -> Any:
        looked.append(said["patient"])
        return real(self, **said)

    monkeypatch.setattr(Keyholder, "survey", noted)
    monkeypatch.setattr(relabelling, "MOST_BLOBS", 1)
    outcome = relabel(keyholder)
    assert (outcome.failed, outcome.opened) == (0, 6)
    assert looked.count(whose) == 2  # before anything is opened, and for the order
    assert_labelled(keyholder, whose)


def test_what_follows_others_waits_while_those_cannot_be_labelled(
    keyholder: Keyholder, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of no patient is the Medication: where its chunk is spoiled, the request for it stays withheld."""
    real = Keyholder.relabel

    def spoiled(self: Keyholder, **said: Any) -> Any:
        if said["patient"] != whose:
            raise RefusedTransition("It is gone.", code="chunk_unknown")
        return real(self, **said)

    with monkeypatch.context() as patch:
        patch.setattr(Keyholder, "relabel", spoiled)
        assert relabel(keyholder).failed == 2
    assert by_type(keyholder, whose)["MedicationRequest"] == [["R", "unlabelled"]]
    assert by_type(keyholder, whose)["Encounter"] == [TODAY["Encounter"]]
    assert relabel(keyholder).failed == 0
    assert_labelled(keyholder, whose)


def test_a_clinicians_word_that_waits_is_kept_first(
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    django_user_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of this patient, however many others are due: no relay has to run."""
    monkeypatch.setattr(relabelling, "settle_due", lambda _: 0)
    bob = django_user_model.objects.create_user(username="bob", email="bob@example.org")
    clinical_labels.ask(
        patient=Patient.objects.get(pk=whose),
        resource=f"Observation/p-{alice_id}",
        act="add",
        label="SDV",
        reason="She said so.",
        by=bob,
        keyholder=keyholder,
    )
    assert relabel(keyholder).failed == 0
    assert by_type(keyholder, whose)["Observation"] == [["HIV", "R"], ["R", "SDV"]]
    assert not Unsettled.objects.exists()


def test_one_patient_that_fails_keeps_nobody_waiting(
    write: Write, keyholder: Keyholder, whose: str, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob_id = f"bob-{alice_id}"
    with older_rules():
        ingest([write("bob.ndjson", patient(bob_id), observation(f"b-{bob_id}", f"Patient/{bob_id}"))])
    bob = Patient.objects.get(record_id=bob_id).pk
    real = Keyholder.relabel

    def spoiled(self: Keyholder, **said: Any) -> Any:
        if said["patient"] == whose:
            raise RefusedTransition("It is gone.", code="chunk_unknown")
        return real(self, **said)

    with monkeypatch.context() as patch:
        patch.setattr(Keyholder, "relabel", spoiled)
        out = StringIO()
        with pytest.raises(SystemExit):
            call_command("relabel", stdout=out)
    assert "1  patients not done" in out.getvalue()
    assert by_type(keyholder, bob) == {"Observation": [["N"]], "Patient": [["N"]]}
    assert {tuple(one["labels"]) for one in keyholder.index(patient=whose)} == {("R", "unlabelled")}
    assert relabel(keyholder).failed == 0
    assert_labelled(keyholder, whose)


def test_what_a_record_must_follow_may_have_come_before(
    write: Write, keyholder: Keyholder, alice_id: str
) -> None:
    """In another run, or before an interruption: it is looked for among what is sealed."""
    found = {one["resourceType"]: one for one in records(alice_id)}
    ingest([write("1.ndjson", found["Patient"], found["Medication"])])
    ingest([write("2.ndjson", found["MedicationRequest"])])
    whose = Patient.objects.get(record_id=alice_id).pk
    assert by_type(keyholder, whose)["MedicationRequest"] == [TODAY["MedicationRequest"]]
    assert set(ResourceVersion.objects.values_list("rules", flat=True)) == {VERSION}


def test_what_must_be_followed_and_never_came_is_withheld(
    write: Write, keyholder: Keyholder, alice_id: str
) -> None:
    found = {one["resourceType"]: one for one in records(alice_id)}
    report = ingest([write("1.ndjson", found["Patient"], found["MedicationRequest"])])
    assert report.files[0].withheld == 1
    whose = Patient.objects.get(record_id=alice_id).pk
    assert by_type(keyholder, whose)["MedicationRequest"] == [["unlabelled"]]
    assert relabel(keyholder).patients == 0  # it is not looked for again and again


def test_a_file_that_comes_again_settles_its_own_records(
    write: Write, keyholder: Keyholder, whose: str, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of a chunk that is in doubt stays withheld, although the chunk is sealed anew."""

    def away(*_: Any, **__: Any) -> None:
        raise KeyholderUnavailable("It is away.")

    with monkeypatch.context() as patch:
        patch.setattr(Keyholder, "relabel", away)
        with pytest.raises(KeyholderUnavailable):
            relabel(keyholder)
    ingest([write("again.ndjson", records(alice_id)[2])])
    assert by_type(keyholder, whose)["Observation"] == [["N"], ["R", "unlabelled"]]
    relabel(keyholder)
    assert_labelled(keyholder, whose)

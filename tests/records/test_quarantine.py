"""A lenient ingest: faulty resources are set aside, sealed, and come in once they are mended."""

import io
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from consent.models import Patient
from gateway.keyholder.client import Keyholder
from gateway.records import arriving, mending
from gateway.records.ingest import ingest
from gateway.records.models import Chunk, IngestedFile, Quarantined
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput
from tests.conftest import Installation
from tests.records.conftest import bundle, entry, observation, patient
from tests.records.test_ingest import opened

Write = Callable[..., Path]
pytestmark = pytest.mark.django_db


@pytest.fixture
def keyholder(installation: Installation) -> Iterator[Keyholder]:
    made = Keyholder(installation.keyholder_socket)
    yield made
    made.close()


@pytest.fixture
def alice_id() -> str:
    return f"alice-{secrets.token_hex(8)}"


def say(*arguments: str) -> str:
    said = io.StringIO()
    call_command("quarantine", *arguments, stdout=said)
    return said.getvalue()


def audited() -> list[str]:
    return list(AuditRow.objects.order_by("pk").values_list("kind", flat=True))


def bodies(keyholder: Keyholder) -> list[dict[str, Any]]:
    return [body for _, body in opened(keyholder, Patient.objects.get().id)]


def test_the_faulty_are_set_aside_and_the_rest_goes_in(
    keyholder: Keyholder, write: Write, alice_id: str
) -> None:
    of = f"Patient/{alice_id}"
    secret = secrets.token_hex(40)
    path = write(
        "all.ndjson",
        patient(alice_id),
        observation("o1", of),
        observation("o2", of, status=secret),
        b"{" + secret.encode(),
        observation("o3", "Patient/nobody"),
    )
    report = ingest([path], lenient=True)
    assert [one.state for one in report.files] == ["taken"]
    assert (report.files[0].aside, report.sealed) == (3, 2)
    assert IngestedFile.objects.count() == 1
    held = list(Quarantined.objects.order_by("line"))
    assert [(one.line, one.kind, one.faults[0]["code"]) for one in held] == [
        (3, "Observation", "value_set"),
        (4, "", "malformed_json"),
        (5, "Observation", "unknown_patient"),
    ]
    assert all(secret not in json.dumps(one.faults) for one in held)
    assert all(secret.encode() not in bytes(one.blob) for one in held)
    assert sorted(body["id"] for body in bodies(keyholder)) == sorted([alice_id, "o1"])
    listed = say("list")
    assert "Observation.status must be one of" in listed
    assert "3 in quarantine" in listed
    assert secret not in listed


def test_strictly_the_whole_file_is_refused(keyholder: Keyholder, write: Write, alice_id: str) -> None:
    path = write("all.ndjson", patient(alice_id), observation("o2", f"Patient/{alice_id}", status="done"))
    assert [one.state for one in ingest([path]).files] == ["refused"]
    assert not Quarantined.objects.exists()
    assert not Chunk.objects.exists()


def test_one_is_read_mended_and_taken_in(keyholder: Keyholder, write: Write, alice_id: str) -> None:
    """Out of a Bundle: what it refers to within it still resolves."""
    spoiled = observation("o1", f"urn:uuid:{alice_id}", status="done")
    ingest([write("b.json", bundle(entry(patient(alice_id)), entry(spoiled)))], lenient=True)
    row = Quarantined.objects.get()
    assert row.entry == "Bundle.entry[1]"
    assert json.loads(say("show", row.id[:8])) == spoiled
    mended = write("o1.json", {**spoiled, "status": "final"})
    assert "taken in" in say("mend", row.id[:8], str(mended))
    assert not Quarantined.objects.exists()
    assert sorted(body["id"] for body in bodies(keyholder)) == sorted([alice_id, "o1"])
    assert audited() == ["records.ingested", "quarantine.read", "quarantine.released"]


def test_what_is_still_faulty_stays(
    keyholder: Keyholder, write: Write, alice_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoiled = observation("o1", f"Patient/{alice_id}", status="done")
    ingest([write("a.ndjson", patient(alice_id), spoiled)], lenient=True)
    row = Quarantined.objects.get()
    report = mending.mend(row.id, json.dumps({**spoiled, "status": "over"}).encode(), keyholder=keyholder)
    assert report.state == "refused"
    with pytest.raises(InvalidInput, match="another resource"):
        mending.mend(row.id, json.dumps(observation("o2")).encode(), keyholder=keyholder)
    with pytest.raises(SystemExit):
        call_command("quarantine", "release")
    assert "0 taken in, 1 stay" in capsys.readouterr().out
    assert Quarantined.objects.count() == 1
    assert audited() == ["records.ingested"]


def test_a_patient_who_comes_in_later_releases_what_is_theirs(
    keyholder: Keyholder, write: Write, alice_id: str
) -> None:
    of = f"Patient/{alice_id}"
    ingest([write("o.ndjson", observation("o1", of), observation("o2", of))], lenient=True)
    assert Quarantined.objects.count() == 2
    ingest([write("p.ndjson", patient(alice_id))])
    assert "2 taken in, 0 stay" in say("release")
    assert sorted(body["id"] for body in bodies(keyholder)) == sorted([alice_id, "o1", "o2"])


def test_one_is_dropped_with_a_reason(keyholder: Keyholder, write: Write, alice_id: str) -> None:
    ingest([write("a.ndjson", patient(alice_id), b"{")], lenient=True)
    id = Quarantined.objects.get().id
    with pytest.raises(CommandError):
        say("drop", id, "--reason", "because")
    assert "dropped" in say("drop", id, "--reason", "cannot_be_mended")
    assert not Quarantined.objects.exists()
    assert audited()[-1] == "quarantine.dropped"
    with pytest.raises(CommandError, match="not_in_quarantine"):
        say("show", id)


def test_a_file_that_is_mostly_faulty_is_refused(
    keyholder: Keyholder, write: Write, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "MAX_ASIDE", 2)
    report = ingest([write("a.ndjson", patient(alice_id), b"{", b"{", b"{")], lenient=True)
    assert report.files[0].state == "refused"
    assert report.refused[-1].code == "too_many_faults"
    assert not Quarantined.objects.exists()
    assert not Patient.objects.exists()


def test_what_cannot_be_cut_into_resources_is_refused(keyholder: Keyholder, write: Write) -> None:
    report = ingest([write("b.json", b'{"resourceType": "Bundle", "entry": [')], lenient=True)
    assert report.files[0].state == "refused"


def test_a_dry_run_only_counts(write: Write, alice_id: str) -> None:
    path = write("a.ndjson", patient(alice_id), observation("o1", f"Patient/{alice_id}", status="done"))
    report = ingest([path], lenient=True, dry_run=True)
    assert (report.files[0].state, report.files[0].aside, report.refusals) == ("checked", 1, 1)
    assert not Quarantined.objects.exists()

"""Taking files in, with a real keyholder: no file with a fault, once, and selectable only when confirmed."""

import hashlib
import hmac
import json
import resource
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from consent.models import Patient
from gateway.keyholder.client import Keyholder
from gateway.keyholder.regrouping import CUSTODIAN
from gateway.records import arriving
from gateway.records import ingest as ingesting
from gateway.records.ingest import IngestError, ingest
from gateway.records.keeping import confirm_pending
from gateway.records.lines import resources
from gateway.records.models import Chunk, IngestedFile, Quarantined, ResourceVersion
from gateway.records.reports import Report
from gateway.records.sources import Source
from ledger.audit.models import AuditRow
from ledger.errors import KeyholderUnavailable
from tests.conftest import Installation
from tests.records.conftest import bundle, entry, observation, patient

Write = Callable[..., Path]
pytestmark = pytest.mark.django_db


def nothing_is_kept() -> bool:
    return not any(
        kind.objects.exists() for kind in (Patient, Chunk, ResourceVersion, IngestedFile, AuditRow)
    )


def opened(keyholder: Keyholder, patient: str) -> list[tuple[bytes, dict[str, Any]]]:
    """What the patient's own copy says, through the ledger."""
    access, expires = secrets.token_hex(32), int(time.time()) + 3600
    assert keyholder.own_copy(access=access, patient=patient, expires=expires)["state"] == "committed"
    chunks = [one["chunk"] for one in keyholder.own_copy_index(access=access)]
    sealed = {one.pk: bytes(one.blob) for one in Chunk.objects.filter(pk__in=chunks)}
    assert len(sealed) == len(chunks)
    records = keyholder.read_own_copy(access=access, sealed=sealed)
    return [one for lines in records.values() for one in resources(lines)]


# What goes in


def test_a_bundle_is_sealed_as_received(keyholder: Keyholder, write: Write, alice_id: str) -> None:
    raw = json.dumps(observation(of=f"urn:uuid:{alice_id}"), indent=1).replace("13.5", "13.50").encode()
    whole = json.dumps(bundle(entry(patient(alice_id)), entry({"id": "X"}))).encode()
    report = ingest([write("b.json", whole.replace(b'{"id": "X"}', raw))])
    assert report.refused == []
    assert (report.resources, report.sealed) == (2, 2)
    alice = Patient.objects.get(record_id=alice_id)
    assert (alice.name, str(alice.birth_date), alice.user) == ("Alice Example", "1970-01-31", None)
    assert {one for one, _ in opened(keyholder, alice.id)} == {raw, json.dumps(patient(alice_id)).encode()}
    assert AuditRow.objects.get().kind == "records.ingested"
    assert all(alice.name.encode() not in bytes(one.line) for one in AuditRow.objects.all())


def test_a_chunk_is_one_patient_one_type_one_set_of_labels(
    keyholder: Keyholder, write: Write, alice_id: str
) -> None:
    of = f"Patient/{alice_id}"
    hiv = {"coding": [{"system": "http://loinc.org", "code": "7917-8"}]}
    path = write(
        "all.ndjson",
        patient(alice_id),
        observation("o1", of),
        observation("o2", of),
        observation("o3", of, code=hiv),
        observation("o4", of, code={"text": "free text"}),
        {"resourceType": "Organization", "id": f"org-{alice_id}", "name": "Riverside"},
    )
    report = ingest([path])
    assert report.refused == []
    alice = Patient.objects.get(record_id=alice_id)
    assert keyholder.index(patient=alice.id) == [
        {"resource_type": "Observation", "labels": ["HIV", "R"], "count": 1},
        {"resource_type": "Observation", "labels": ["N"], "count": 2},
        {"resource_type": "Observation", "labels": ["unlabelled"], "count": 1},
        {"resource_type": "Patient", "labels": ["N"], "count": 1},
    ]
    assert Chunk.objects.filter(patient=alice).count() == 4
    assert Chunk.objects.filter(patient=None).count() == 1
    assert any(one["resource_type"] == "Organization" for one in keyholder.index(patient=CUSTODIAN))


def test_the_order_of_files_does_not_matter(
    keyholder: Keyholder, write: Write, tmp_path: Path, alice_id: str
) -> None:
    write("1.ndjson", observation(of=f"Patient/{alice_id}"))
    write("2.ndjson", patient(alice_id))
    write("README.md", b"not a record")
    report = ingest([tmp_path])
    assert report.refused == []
    assert [Path(one.path).name for one in report.files] == ["2.ndjson", "1.ndjson"]


def test_a_known_patient_is_not_made_again(keyholder: Keyholder, write: Write, alice: Patient) -> None:
    report = ingest([write("b.json", bundle(entry(patient("alice-1", birthDate="1971"))))])
    assert report.refused == []
    assert Patient.objects.get() == alice
    assert Patient.objects.get().birth_date is None


def test_a_file_larger_than_what_is_held_at_once(
    keyholder: Keyholder, write: Write, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "MAX_HELD_BYTES", 2000)
    lines = [observation(f"o{index}", f"Patient/{alice_id}") for index in range(50)]
    report = ingest([write("o.ndjson", patient(alice_id), *lines, lines[0])])
    assert report.refused == []
    assert report.sealed == 51
    found = opened(keyholder, Patient.objects.get().id)
    assert Counter(body["id"] for _, body in found) == Counter([alice_id, *(one["id"] for one in lines)])


# A large one, in sections


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sections of a few lines; the list fills with what is kept, by its digest."""
    monkeypatch.setattr(ingesting, "SECTION_BYTES", 1500)
    kept: list[str] = []
    real = ingesting.keep

    def keep(section: Any, *args: Any, **named: Any) -> None:
        real(section, *args, **named)
        kept.append(section.source.sha256)

    monkeypatch.setattr(ingesting, "keep", keep)
    return kept


def large(of: str, *more: Any) -> list[Any]:
    return [patient(of), *(observation(f"o{index}-{of}", f"Patient/{of}") for index in range(30)), *more]


def test_a_large_file_is_kept_in_sections(
    sections: list[str], keyholder: Keyholder, write: Write, alice_id: str
) -> None:
    lines = large(alice_id)
    path = write("o.ndjson", *lines, lines[1])
    report = ingest([path])
    assert (report.refused, report.resources, report.sealed) == ([], 32, 31)
    assert report.files[0].state == "taken"
    assert len(sections) > 3
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(IngestedFile.objects.values_list("pk", flat=True)) == {digest, *sections}
    found = opened(keyholder, Patient.objects.get().id)
    assert sorted(raw for raw, _ in found) == sorted(json.dumps(one).encode() for one in lines)
    assert [one.state for one in ingest([path]).files] == ["repeated"]


def test_a_fault_at_the_end_of_a_large_file_keeps_all_of_it_out(
    sections: list[str], keyholder: Keyholder, write: Write, alice_id: str
) -> None:
    path, told = write("o.ndjson", *large(alice_id, b"{")), list[int]()
    report = ingest([path], progress=told.append)
    assert [(one.line, one.code) for one in report.refused] == [(32, "malformed_json")]
    assert sum(told) == path.stat().st_size
    assert report.files[0].state == "refused"
    assert nothing_is_kept()


def test_a_large_file_makes_progress_while_it_is_only_checked(
    sections: list[str], keyholder: Keyholder, write: Write, alice_id: str
) -> None:
    path, told = write("o.ndjson", *large(alice_id)), list[tuple[int, bool]]()
    ingest([path], progress=lambda done: told.append((done, bool(sections))))
    size = path.stat().st_size
    assert sum(done for done, _kept in told) == size
    assert sum(done for done, kept in told if not kept) >= size // 2
    assert max(done for done, _kept in told) < size // 10


def test_an_interrupted_run_goes_on_inside_a_file(
    sections: list[str],
    keyholder: Keyholder,
    write: Write,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write("o.ndjson", *large(alice_id))
    seal = arriving.seal

    def failing(*args: Any) -> None:
        if len(sections) == 2:
            raise KeyholderUnavailable("It is away.")
        seal(*args)

    with monkeypatch.context() as patch:
        patch.setattr(arriving, "seal", failing)
        with pytest.raises(KeyholderUnavailable):
            ingest([path])
    before = list(sections)
    assert len(before) == 2
    told: list[int] = []
    report = ingest([path], progress=told.append)
    assert report.files[0].state == "taken"
    assert not set(sections[2:]) & set(before)  # what was kept is passed over
    assert sum(told) == path.stat().st_size
    assert len(opened(keyholder, Patient.objects.get().id)) == 31


def test_what_is_kept_of_a_large_file_is_what_was_checked(
    sections: list[str], keyholder: Keyholder, write: Write, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("o.ndjson", *large(alice_id))
    real = ingesting.take_source

    def meddled(*args: Any, **named: Any) -> None:
        path.write_bytes(path.read_bytes().replace(b'"final"', b'"wrong"'))
        real(*args, **named)

    monkeypatch.setattr(ingesting, "take_source", meddled)
    report = ingest([path])
    assert [one.code for one in report.refused] == ["file_changed"]
    assert nothing_is_kept()


@pytest.mark.parametrize("limit", [1500, 10**9])
def test_a_file_that_changes_after_its_digest_is_not_noted_as_taken(
    limit: int, keyholder: Keyholder, write: Write, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingesting, "SECTION_BYTES", limit)
    path = write("o.ndjson", *large(alice_id))
    before, real = path.read_bytes(), Source.digest
    digests: list[str] = []

    def meddled(self: Any) -> str:
        digests.append(real(self))
        path.write_bytes(before.replace(b'"final"', b'"amended"'))
        return digests[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Source, "digest", meddled)
        report = ingest([path])
    assert ([one.code for one in report.refused], report.files[0].state) == (["file_changed"], "refused")
    assert not IngestedFile.objects.filter(pk=digests[0]).exists()
    path.write_bytes(before)
    assert [one.state for one in ingest([path]).files] == ["taken"]


def test_a_fault_in_a_large_file_is_set_aside_with_its_line(
    sections: list[str], keyholder: Keyholder, write: Write, alice_id: str
) -> None:
    bad = observation("bad", f"Patient/{alice_id}", status="wrong")
    path = write("o.ndjson", *large(alice_id, bad, observation("last", f"Patient/{alice_id}")))
    report = ingest([path], lenient=True)
    assert (report.files[0].state, report.files[0].aside, report.sealed) == ("taken", 1, 32)
    row = Quarantined.objects.get()
    assert (row.line, row.file) == (32, hashlib.sha256(path.read_bytes()).hexdigest())


# Once


def test_the_same_file_twice_changes_nothing(keyholder: Keyholder, write: Write, alice_id: str) -> None:
    path = write("o.ndjson", patient(alice_id), observation(of=f"Patient/{alice_id}"))
    ingest([path])
    before = [list(kind.objects.values()) for kind in (Patient, Chunk, ResourceVersion, IngestedFile)]
    again = ingest([path])
    assert [one.state for one in again.files] == ["repeated"]
    assert again.sealed == 0
    after = [list(kind.objects.values()) for kind in (Patient, Chunk, ResourceVersion, IngestedFile)]
    assert after == before


def test_the_same_resource_in_another_file_is_sealed_once(
    keyholder: Keyholder, write: Write, alice_id: str
) -> None:
    lines = [patient(alice_id), observation(of=f"Patient/{alice_id}")]
    ingest([write("a.ndjson", *lines)])
    report = ingest([write("b.ndjson", *lines, lines[1], observation("o2", f"Patient/{alice_id}"))])
    assert (report.resources, report.sealed) == (4, 1)
    assert ResourceVersion.objects.count() == 3


def test_a_changed_resource_takes_the_place_of_what_was_there(
    keyholder: Keyholder, write: Write, alice_id: str
) -> None:
    of = f"Patient/{alice_id}"
    ingest([write("a.ndjson", patient(alice_id), observation(of=of, meta={"versionId": "1"}))])
    ingest([write("b.ndjson", observation(of=of, meta={"versionId": "1"}, status="amended"))])
    ingest([write("c.ndjson", observation(of=of, meta={"versionId": "2"}))])
    assert ResourceVersion.objects.count() == 2
    found = [body for _, body in opened(keyholder, Patient.objects.get().id)]
    assert [body["meta"]["versionId"] for body in found if body["id"] == "o1"] == ["2"]


def test_digests_of_versions_are_keyed(keyholder: Keyholder, write: Write, alice_id: str) -> None:
    """Who lacks the keyholder's key cannot test whether a resource is here."""
    path = write("p.ndjson", patient(alice_id))
    ingest([path])
    alice = Patient.objects.get()
    name = f"Patient/{alice_id}//".encode() + hashlib.sha256(path.read_bytes()).digest()
    index_key = keyholder.new_chunks(patient=alice.id, chunks=[])["index_key"]
    (digest,) = ResourceVersion.objects.values_list("digest", flat=True)
    assert digest == hmac.digest(index_key, name, "sha256").hex()
    assert digest != hashlib.sha256(name).hexdigest()


# Not at all


def test_a_bad_last_line_keeps_the_whole_file_out(keyholder: Keyholder, write: Write, alice_id: str) -> None:
    lines = [observation(f"o{index}", f"Patient/{alice_id}") for index in range(20)]
    path = write("o.ndjson", patient(alice_id), *lines, b'{"resourceType": "Observation"')
    good = write("p.ndjson", patient(f"other-{alice_id}"))
    report = ingest([path, good])
    assert [(one.line, one.code) for one in report.refused] == [(22, "malformed_json")]
    assert [one.state for one in report.files] == ["refused", "taken"]
    assert report.resources == 1
    assert Patient.objects.get().record_id == f"other-{alice_id}"
    assert Chunk.objects.count() == 1


def test_a_bad_line_after_some_were_sealed_keeps_the_whole_file_out(
    keyholder: Keyholder, write: Write, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "MAX_HELD_BYTES", 1000)
    lines = [observation(f"o{index}", f"Patient/{alice_id}") for index in range(20)]
    report = ingest([write("o.ndjson", patient(alice_id), *lines, b"{")])
    assert report.refusals == 1
    assert report.sealed == 0
    assert nothing_is_kept()


def test_an_unknown_patient_is_refused(keyholder: Keyholder, write: Write) -> None:
    report = ingest([write("o.ndjson", observation(of="Patient/nobody"))])
    assert [(one.code, one.line) for one in report.refused] == [("unknown_patient", 1)]
    assert nothing_is_kept()
    report = ingest([write("p.ndjson", patient("nobody"))], create_patients=False)
    assert [one.code for one in report.refused] == ["unknown_patient"]
    assert nothing_is_kept()


def test_a_dry_run_writes_nothing_and_needs_no_keyholder(write: Write, settings: Any, tmp_path: Path) -> None:
    settings.KEYHOLDER_SOCKET = str(tmp_path / "none.sock")
    write("Patient.ndjson", patient())
    write("Observation.ndjson", observation())
    report = ingest([tmp_path], dry_run=True)
    assert (report.refused, report.resources) == ([], 2)
    assert nothing_is_kept()


# Faults


def test_without_a_keyholder_nothing_is_kept(write: Write, settings: Any, tmp_path: Path) -> None:
    settings.KEYHOLDER_SOCKET = str(tmp_path / "none.sock")
    report = Report()
    with pytest.raises(KeyholderUnavailable):
        ingest([write("p.ndjson", patient())], report=report)
    assert [one.state for one in report.files] == ["failed"]
    assert nothing_is_kept()


def test_a_keyholder_that_dies_before_the_confirmation(
    own_installation: Installation, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blobs are kept, and nothing can be selected until the keyholder is back and was told."""
    keyholder = Keyholder(own_installation.keyholder_socket)
    confirm = Keyholder.confirm_chunks

    def die_first(self: Keyholder, *, chunks: Any) -> None:
        own_installation.processes.kill("keyholder")
        confirm(self, chunks=chunks)

    monkeypatch.setattr(Keyholder, "confirm_chunks", die_first)
    report = ingest([write("o.ndjson", patient(), observation())], keyholder=keyholder)
    monkeypatch.undo()
    assert [(one.state, one.confirmed) for one in report.files] == [("taken", False)]
    assert Chunk.objects.filter(confirmed_at=None).count() == 2
    with pytest.raises(KeyholderUnavailable):
        confirm_pending(keyholder)

    own_installation.processes.restart("keyholder")
    alice = Patient.objects.get()
    assert keyholder.index(patient=alice.id) == []
    assert confirm_pending(keyholder) == 2
    assert len(opened(keyholder, alice.id)) == 2
    assert confirm_pending(keyholder) == 0


def test_a_chunk_that_the_keyholder_does_not_know_does_not_hold_up_the_others(
    keyholder: Keyholder, write: Write, alice_id: str
) -> None:
    ingest([write("p.ndjson", patient(alice_id))])
    Chunk.objects.update(confirmed_at=None)
    stray = Chunk.objects.create(blob=b"stray")
    assert confirm_pending(keyholder) == 1
    stray.refresh_from_db()
    assert stray.confirmed_at is None


@pytest.mark.django_db(transaction=True)
def test_a_full_database_keeps_nothing_of_the_file(keyholder: Keyholder, write: Write, alice_id: str) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("max_page_count is SQLite's")
    notes = [secrets.token_hex(40_000) for _ in range(20)]
    lines = [observation(f"o{index}", f"Patient/{alice_id}", note=[{"text": text}])
             for index, text in enumerate(notes)]  # fmt: skip
    path = write("o.ndjson", patient(alice_id), *lines)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")  # pages that earlier tests left free would be room
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count = {pages + 20}")
    try:
        with pytest.raises(IngestError) as error:
            ingest([path])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA max_page_count = 1073741823")
    assert error.value.code == "database_failed"
    assert nothing_is_kept()
    assert ingest([path]).sealed == 21


# The command


def command(*args: str, **limits: int) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))

    return subprocess.run(
        [sys.executable, "manage.py", "ingest", *args],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        cwd=Path(__file__).parents[2],
        check=False,
    )


def test_the_command_tells_what_was_refused_and_exits_1(write: Write, tmp_path: Path) -> None:
    write("Patient.ndjson", patient())
    path = write("Observation.ndjson", observation(), b"{", observation("o2", status="final", colour="red"))
    done = command("--dry-run", str(tmp_path))
    assert done.returncode == 1
    assert f"refused: {path}:2: this is not JSON [malformed_json]" in done.stdout
    assert f"refused: {path}:3: Observation.colour is no element" in done.stdout
    done = command("--dry-run", "--json", str(tmp_path))
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert answer["types"] == {"Patient": 1}
    assert answer["refusals"] == 2
    assert {name: answer["refused"][1][name] for name in ("line", "element", "code")} == {
        "line": 3,
        "element": "Observation.colour",
        "code": "unknown_element",
    }


def test_the_command_finds_nothing_to_take(tmp_path: Path) -> None:
    done = command("--dry-run", str(tmp_path))
    assert done.returncode == 1
    assert "nothing_to_take" in done.stdout


def test_a_full_disk_is_told_and_leaves_nothing(
    keyholder: Keyholder, write: Write, alice_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is set aside on disk meets RLIMIT_FSIZE."""
    monkeypatch.setattr("gateway.records.sealing._IN_MEMORY_BYTES", 1)
    notes = [secrets.token_hex(40_000) for _ in range(5)]
    lines = [observation(f"o{index}", f"Patient/{alice_id}", note=[{"text": text}])
             for index, text in enumerate(notes)]  # fmt: skip
    path = write("o.ndjson", patient(alice_id), *lines)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(IngestError) as error:
            ingest([path])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.code == "disk_full"
    assert nothing_is_kept()


# The whole sample


def test_the_whole_sample_goes_in(keyholder: Keyholder, sample_data: Path) -> None:
    report = ingest([sample_data / "synthea-2019-bundles", sample_data / "carebundle-bulk"])
    assert report.refused == []
    # Ten Organizations and Practitioners come again in another Bundle, the same to the byte.
    assert (report.resources, report.sealed) == (4406, 4396)
    assert report.by_type["Observation"] == 2722
    assert Patient.objects.count() == 56
    assert ResourceVersion.objects.count() == 4396
    assert not Chunk.objects.filter(confirmed_at=None).exists()
    found = sum(
        one["count"]
        for pk in Patient.objects.values_list("pk", flat=True)
        for one in keyholder.index(patient=pk)
    )
    assert found == 4406 - report.by_type["Organization"] - report.by_type["Practitioner"]
    again = ingest([sample_data / "synthea-2019-bundles", sample_data / "carebundle-bulk"])
    assert {one.state for one in again.files} == {"repeated"}


def test_the_command_with_a_dry_run_over_the_sample(sample_data: Path) -> None:
    done = command("--dry-run", "--json", str(sample_data / "carebundle-bulk"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resources"] == 1803


def test_call_command_returns_on_success(
    keyholder: Keyholder, write: Write, alice_id: str, capsys: Any
) -> None:
    call_command("ingest", str(write("p.ndjson", patient(alice_id))))
    assert "1  Patient" in capsys.readouterr().out

"""Newer versions, deletions, labels that change: what was there before is in no later opening."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from consent.models import Patient
from gateway.compliance.reconcile import _of_openings
from gateway.keyholder.client import Keyholder
from gateway.labels import labelling
from gateway.labels.rules import LOINC, Rule
from gateway.records import arriving, keeping, sealing, settling
from gateway.records import ingest as ingesting
from gateway.records.ingest import ingest
from gateway.records.keeping import confirm_pending
from gateway.records.models import Chunk, Deletion, Gone, Regrouping, ResourceVersion, Unsettled
from ledger.audit.models import AuditRow
from ledger.errors import KeyholderUnavailable
from tests.records.conftest import bundle, entry, observation, patient
from tests.records.test_ingest import opened

Write = Callable[..., Path]
pytestmark = pytest.mark.django_db


def version(id: str, of: str, number: str, updated: str, **more: Any) -> dict[str, Any]:
    return observation(id, f"Patient/{of}", meta={"versionId": number, "lastUpdated": updated}, **more)


def values(keyholder: Keyholder, whose: str) -> dict[str, list[Any]]:
    """Of the patient's copy: the values of each Observation."""
    found: dict[str, list[Any]] = {}
    for _, body in opened(keyholder, whose):
        if body["resourceType"] == "Observation":
            found.setdefault(body["id"], []).append(body["valueQuantity"]["value"])
    return found


@pytest.fixture
def whose(write: Write, alice_id: str) -> str:
    """Alice with two Observations, in one chunk."""
    report = ingest(
        [
            write(
                "first.ndjson",
                patient(alice_id),
                version(f"a-{alice_id}", alice_id, "1", "2024-01-01T00:00:00Z"),
                version(f"b-{alice_id}", alice_id, "1", "2024-01-01T00:00:00Z"),
            )
        ]
    )
    assert report.refused == []
    return Patient.objects.get(record_id=alice_id).pk


def newer(of: str, value: float = 9.5, **more: Any) -> dict[str, Any]:
    return version(
        f"a-{of}", of, "2", "2024-02-01T00:00:00Z", valueQuantity={"value": value, "unit": "mmol/L"}, **more
    )


def deletion(*names: str) -> dict[str, Any]:
    asked = [{"request": {"method": "DELETE", "url": name}} for name in names]
    return {"resourceType": "Bundle", "type": "transaction", "entry": asked}


# Versions


def test_the_newest_version_stays(write: Write, keyholder: Keyholder, whose: str, alice_id: str) -> None:
    report = ingest([write("second.ndjson", newer(alice_id))])
    assert (report.refused, report.sealed, report.files[0].confirmed) == ([], 1, True)
    assert values(keyholder, whose) == {f"a-{alice_id}": [9.5], f"b-{alice_id}": [13.5]}
    assert Gone.objects.count() == 1
    assert not Unsettled.objects.exists()
    assert AuditRow.objects.filter(kind="records.regrouped").count() == Regrouping.objects.count() == 1


def test_an_older_version_that_comes_late_does_not_count(
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
) -> None:
    ingest([write("second.ndjson", newer(alice_id))])
    late = version(
        f"a-{alice_id}", alice_id, "0", "2023-01-01T00:00:00Z", valueQuantity={"value": 1, "unit": "mmol/L"}
    )
    ingest([write("late.ndjson", late)])
    assert values(keyholder, whose)[f"a-{alice_id}"] == [9.5]


def test_versions_of_one_file(write: Write, keyholder: Keyholder, alice_id: str) -> None:
    first = version(f"a-{alice_id}", alice_id, "1", "2024-01-01T00:00:00Z")
    ingest([write("all.ndjson", patient(alice_id), newer(alice_id), first)])
    whose = Patient.objects.get(record_id=alice_id).pk
    assert values(keyholder, whose) == {f"a-{alice_id}": [9.5]}


def test_without_a_date_what_came_last_counts(
    write: Write,
    keyholder: Keyholder,
    alice_id: str,
) -> None:
    of = f"Patient/{alice_id}"
    ingest([write("1.ndjson", patient(alice_id), observation(f"a-{alice_id}", of))])
    ingest([write("2.ndjson", observation(f"a-{alice_id}", of, valueQuantity={"value": 2}))])
    assert values(keyholder, Patient.objects.get(record_id=alice_id).pk) == {f"a-{alice_id}": [2]}


def test_what_was_replaced_is_not_taken_in_again(
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
) -> None:
    ingest([write("second.ndjson", newer(alice_id))])
    first = version(f"a-{alice_id}", alice_id, "1", "2024-01-01T00:00:00Z")
    report = ingest([write("again.ndjson", first, observation(f"c-{alice_id}", f"Patient/{alice_id}"))])
    assert report.sealed == 1
    assert values(keyholder, whose)[f"a-{alice_id}"] == [9.5]


# Deletions


@pytest.mark.parametrize("form", ["bulk", "bundle"])
def test_a_deleted_resource_is_in_no_later_opening(
    form: str,
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
) -> None:
    name = "deleted.ndjson" if form == "bulk" else "deleted.json"
    report = ingest([write(name, deletion(f"Observation/a-{alice_id}", "Observation/never-here"))])
    assert (report.refused, report.files[0].deleted) == ([], 2)
    assert values(keyholder, whose) == {f"b-{alice_id}": [13.5]}
    old = ResourceVersion.objects.filter(chunk__retired_at__isnull=False)
    assert not old.exists()
    # the same version does not come back; a newer one does
    first = version(f"a-{alice_id}", alice_id, "1", "2024-01-01T00:00:00Z")
    ingest([write("again.ndjson", first, version(f"a-{alice_id}", alice_id, "0", "2023-01-01T00:00:00Z"))])
    assert values(keyholder, whose) == {f"b-{alice_id}": [13.5]}
    ingest([write("new.ndjson", version(f"a-{alice_id}", alice_id, "7", "2099-01-01T00:00:00Z"))])
    assert values(keyholder, whose) == {f"a-{alice_id}": [13.5], f"b-{alice_id}": [13.5]}
    assert not Deletion.objects.filter(name__in=ResourceVersion.objects.values("name")).exists()


def test_the_last_record_of_a_kind_can_be_deleted(
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
) -> None:
    ingest([write("d.ndjson", deletion(*(f"Observation/{one}-{alice_id}" for one in "ab")))])
    assert values(keyholder, whose) == {}
    assert [one["resource_type"] for one in keyholder.index(patient=whose)] == ["Patient"]


def test_a_bundle_may_store_and_delete(
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
) -> None:
    stored = entry(newer(alice_id), request={"method": "PUT", "url": f"Observation/a-{alice_id}"})
    gone = deletion(f"Observation/b-{alice_id}")["entry"][0]
    report = ingest([write("both.json", bundle(stored, gone, kind="transaction"))])
    assert report.refused == []
    assert values(keyholder, whose) == {f"a-{alice_id}": [9.5]}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "collection", "entry": deletion("Observation/1")["entry"]}, ""),
        ({"type": "transaction", "entry": [{"request": {"method": "DELETE"}}]}, "deletion_unclear"),
        (
            {
                "type": "transaction",
                "entry": [{"request": {"method": "DELETE", "url": "Observation?code=1"}}],
            },
            "deletion_unclear",
        ),
        ({"type": "transaction", "entry": [{"request": {"method": "PATCH", "url": "A/1"}}]}, ""),
    ],
)
@pytest.mark.parametrize("name", ["d.ndjson", "d.json"])
def test_an_unclear_deletion_is_refused(
    name: str,
    body: dict[str, Any],
    code: str,
    write: Write,
    keyholder: Keyholder,
) -> None:
    report = ingest([write(name, {"resourceType": "Bundle", **body})])
    assert [one.state for one in report.files] == ["refused"]
    assert not code or report.refused[0].code == code
    assert not Deletion.objects.exists()


# A crash in the middle


def test_a_crash_before_the_keyholder_regroups(
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The new version is not selected beside the old one; the relay's round brings both to order."""

    def lost(*_: Any, **__: Any) -> None:
        raise KeyholderUnavailable("It is away.")

    with monkeypatch.context() as patch:
        patch.setattr(Keyholder, "regroup", lost)
        report = ingest([write("second.ndjson", newer(alice_id))])
        assert not report.files[0].confirmed
        assert values(keyholder, whose)[f"a-{alice_id}"] == [13.5]
        with pytest.raises(KeyholderUnavailable):
            confirm_pending(keyholder)
        assert values(keyholder, whose)[f"a-{alice_id}"] == [13.5]
    confirm_pending(keyholder)
    assert values(keyholder, whose) == {f"a-{alice_id}": [9.5], f"b-{alice_id}": [13.5]}
    assert not Unsettled.objects.exists()
    assert not Chunk.objects.filter(confirmed_at=None).exists()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_while_the_keyholder_is_told(
    when: str,
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kept here, and not (or not known to be) told there: old or new is opened, never both, never neither."""
    told = Keyholder.replace_chunks

    def lost(self: Keyholder, **params: Any) -> None:
        if when == "after":
            told(self, **params)
        raise KeyholderUnavailable("It is away.")

    with monkeypatch.context() as patch:
        patch.setattr(Keyholder, "replace_chunks", lost)
        assert not ingest([write("second.ndjson", newer(alice_id))]).files[0].confirmed
    assert values(keyholder, whose) in (
        {f"a-{alice_id}": [13.5], f"b-{alice_id}": [13.5]},
        {f"a-{alice_id}": [9.5], f"b-{alice_id}": [13.5]},
    )
    confirm_pending(keyholder)
    assert values(keyholder, whose) == {f"a-{alice_id}": [9.5], f"b-{alice_id}": [13.5]}
    confirm_pending(keyholder)
    assert not Chunk.objects.filter(confirmed_at=None).exists()


def test_a_crash_between_keyholder_and_database(
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the keyholder sealed was lost on its way: it is in no opening, and the next round seals anew."""

    def lost(*_: Any) -> None:
        raise KeyholderUnavailable("It is away.")

    with monkeypatch.context() as patch:
        patch.setattr(settling, "keep", lost)
        assert not ingest([write("second.ndjson", newer(alice_id))]).files[0].confirmed
    assert values(keyholder, whose)[f"a-{alice_id}"] == [13.5]
    confirm_pending(keyholder)
    assert values(keyholder, whose) == {f"a-{alice_id}": [9.5], f"b-{alice_id}": [13.5]}
    assert Regrouping.objects.count() == 2


def test_a_retired_chunk_goes_after_a_while(
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ingest([write("second.ndjson", newer(alice_id))])
    confirm_pending(keyholder)
    assert Chunk.objects.filter(retired_at__isnull=False).exists()
    monkeypatch.setattr(settling, "KEPT", -settling.KEPT)
    confirm_pending(keyholder)
    assert not Chunk.objects.filter(retired_at__isnull=False).exists()
    assert values(keyholder, whose) == {f"a-{alice_id}": [9.5], f"b-{alice_id}": [13.5]}


# Compaction


def test_many_small_chunks_become_few(
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(6):
        more = version(f"c{number}-{alice_id}", alice_id, "1", "2024-03-01T00:00:00Z")
        ingest([write(f"{number}.ndjson", more)])
    live = Chunk.objects.filter(patient=whose, retired_at=None)
    assert live.count() == 8
    before = opened(keyholder, whose)
    monkeypatch.setattr(settling, "MOST_CHUNKS", 4)
    ingest([write("last.ndjson", version(f"last-{alice_id}", alice_id, "1", "2024-03-01T00:00:00Z"))])
    assert live.count() == 2
    after = opened(keyholder, whose)
    assert len(after) == len(before) + 1
    assert ResourceVersion.objects.filter(chunk__patient=whose).count() == len(after)


def test_small_chunks_that_do_not_merge_are_not_sent_again_and_again(
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settling, "MOST_CHUNKS", 2)

    def one_more(number: int) -> int:
        more = version(f"d{number}-{alice_id}", alice_id, "1", "2024-03-01T00:00:00Z")
        ingest([write(f"{number}.ndjson", more)])
        return Regrouping.objects.count()

    # With two kinds, and at most four of each, nothing is to be sealed as one.
    assert one_more(0) == 1
    assert Chunk.objects.filter(patient=whose, retired_at=None, stays_small=True).count() == 3
    # Those are not asked about again; once as many others have come, all of a kind are sealed as one.
    assert [one_more(number) for number in (1, 2, 3)] == [1, 1, 2]
    assert Chunk.objects.filter(patient=whose, retired_at=None).count() == 2


def test_many_large_chunks_are_not_sent_to_be_sealed_as_one(
    write: Write,
    keyholder: Keyholder,
    whose: str,
    alice_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settling, "MOST_CHUNKS", 1)
    monkeypatch.setattr(keeping, "SMALL_BYTES", 0)
    asked: list[str] = []
    monkeypatch.setattr(keeping, "settle", lambda patient, **_: asked.append(patient))
    ingest([write("e.ndjson", version(f"e-{alice_id}", alice_id, "1", "2024-03-01T00:00:00Z"))])
    assert asked == []
    monkeypatch.setattr(keeping, "SMALL_BYTES", settling.SMALL_BYTES)
    ingest([write("f.ndjson", version(f"f-{alice_id}", alice_id, "1", "2024-03-01T00:00:00Z"))])
    assert asked == [whose]


# Rules that change


@pytest.fixture
def new_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cholesterol is sensitive from now on."""
    rule = Rule("cholesterol-loinc", LOINC, ("GDIS",), "a test", "2093-3")
    monkeypatch.setitem(labelling._EXACT, (LOINC, "2093-3"), rule)
    for module in (ingesting, arriving, sealing, settling, labelling):
        name = "RULES_VERSION" if module is sealing else "VERSION"
        monkeypatch.setattr(module, name, "2999.1")


def test_the_same_file_under_newer_rules_is_labelled_anew(
    write: Write,
    keyholder: Keyholder,
    alice_id: str,
    request: pytest.FixtureRequest,
) -> None:
    of = f"Patient/{alice_id}"
    path = write(
        "o.ndjson",
        patient(alice_id),
        observation("1", of),
        observation("2", of, code={"coding": [{"system": LOINC, "code": "8480-6"}]}),
    )
    ingest([path])
    whose = Patient.objects.get(record_id=alice_id).pk
    before = dict(Chunk.objects.filter(patient=whose).values_list("pk", "retired_at"))
    assert [one.state for one in ingest([path]).files] == ["repeated"]
    request.getfixturevalue("new_rules")
    report = ingest([path])
    assert (report.files[0].state, report.sealed, report.files[0].labelled) == ("taken", 0, 3)
    assert keyholder.index(patient=whose) == [
        {"resource_type": "Observation", "labels": ["GDIS", "R"], "count": 1},
        {"resource_type": "Observation", "labels": ["N"], "count": 1},
        {"resource_type": "Patient", "labels": ["N"], "count": 1},
    ]
    # only the chunk that holds such a code was opened: the Patient's stays as it was
    retired = Chunk.objects.filter(pk__in=before, retired_at__isnull=False)
    assert retired.count() == 1
    assert set(ResourceVersion.objects.values_list("rules", flat=True)) == {"2999.1"}
    assert len(opened(keyholder, whose)) == 3
    assert [one.state for one in ingest([path]).files] == ["repeated"]


def test_labels_command_counts_what_is_under_which_rules(keyholder: Keyholder, whose: str) -> None:
    out = StringIO()
    call_command("labels", "--stored", stdout=out)
    assert f"{sealing.RULES_VERSION:10} {3:>12,}\n" in out.getvalue()


def test_reconciliation_knows_each_regrouping_by_its_row(
    write: Write, keyholder: Keyholder, whose: str, alice_id: str
) -> None:
    ingest([write("second.ndjson", newer(alice_id))])
    act = Regrouping.objects.get().pk
    last = keyholder.log_page(after=0, limit=1)["last"]
    page = keyholder.log_page(after=max(0, last - 20))
    (entry,) = [one for one in page["entries"] if one["reference"] == act]
    assert entry["ground"] == "regroup"
    nowhere: Any = None  # no door is looked for
    assert list(_of_openings(nowhere, [entry])) == []
    Regrouping.objects.all().delete()
    assert [one.code for one in _of_openings(nowhere, [entry])] == ["regrouping_unknown"]

"""Chunks that are sealed anew: what moves, what is opened for it, and who may ask."""

from collections.abc import Sequence

import pytest

from gateway.keyholder import opening, regrouping
from gateway.keyholder.envelope import open_chunk, open_notes, seal_chunk, seal_notes
from gateway.keyholder.log import check_log
from gateway.keyholder.regrouping import Changes, Held, Note, notes_of
from gateway.keyholder.store import Header
from ledger.client import HOME
from ledger.errors import AccessDenied, EnvelopeError, InvalidInput, RefusedTransition
from tests.keyholder.house import Child, House, new_id


@pytest.fixture
def alice(house: House) -> str:
    """Enrolled, with no record yet."""
    patient = new_id()
    house.service.enrol(patient=patient)
    return patient


def keep(
    house: House,
    patient: str,
    lines: Sequence[bytes],
    notes: Sequence[Note] | None = None,
    *,
    kind: str = "Observation",
    labels: tuple[str, ...] = ("N",),
) -> tuple[str, Held]:
    """A confirmed chunk: its id, and what the database holds of it."""
    header = Header(new_id(), 1, kind, labels, len(lines), regrouping.new_key())
    keys, _ = house.service.new_chunks(patient=patient, chunks=[header])
    where = {"patient": patient, "chunk": header.chunk, "version": 1}
    blob = seal_chunk(keys[header.chunk], b"".join(one + b"\n" for one in lines), **where)  # type: ignore[arg-type]
    sealed = seal_notes(keys[header.chunk], notes_of(notes), **where) if notes else b""  # type: ignore[arg-type]
    house.service.confirm_chunks(chunks=[(header.chunk, 1)])
    house.blobs[header.chunk] = blob
    return header.chunk, Held(1, blob, sealed)


def labelled(*labels: str, **more: str) -> Note:
    return Note(labels or ("N",), ("no-rule",), "2026.1", **more)  # type: ignore[arg-type]


def inside(house: House, patient: str, found: regrouping.Regrouped) -> dict[tuple[str, ...], list[bytes]]:
    """The lines of the new chunks by their labels."""
    return {
        one.header.labels: open_chunk(
            one.header.dek, one.blob, patient=patient, chunk=one.header.chunk, version=1
        ).splitlines()
        for one in found.chunks
    }


def test_a_line_moves_and_the_rest_stays_together(house: House, alice: str) -> None:
    chunk, held = keep(house, alice, [b"1", b"2", b"3"], [labelled()] * 3)
    changes = Changes(label=[((chunk, 1), ("HIV", "R"), ("hiv-loinc",), "2026.2", ())])
    found = house.service.regroup(act=new_id(), patient=alice, chunks={chunk: held}, changes=changes)
    assert inside(house, alice, found) == {("HIV", "R"): [b"2"], ("N",): [b"1", b"3"]}
    assert [one.lines for one in found.chunks] == [[(chunk, 1)], [(chunk, 0), (chunk, 2)]]
    # not selected until the database has them; then the old one is not, and its key is gone
    assert [one.chunk for one in house.store.headers(alice)] == [chunk]
    for _ in range(2):
        house.service.replace_chunks(
            patient=alice, confirm=[(one.header.chunk, 1) for one in found.chunks], retire=[(chunk, 1)]
        )
    assert {one.chunk for one in house.store.headers(alice)} == {one.header.chunk for one in found.chunks}
    with pytest.raises(RefusedTransition):
        house.store.header(alice, chunk, 1)


def test_labels_that_stay_open_nothing(house: House, alice: str) -> None:
    """The basis and the rules' version change in the notes alone: a blob that cannot be opened proves it."""
    chunk, held = keep(house, alice, [b"1"], [labelled()])
    spoiled = Held(1, b"not the blob", held.notes)
    changes = Changes(label=[((chunk, 0), ("N",), ("source",), "2026.2", ())])
    found = house.service.regroup(act=new_id(), patient=alice, chunks={chunk: spoiled}, changes=changes)
    assert (found.chunks, found.retired) == ([], [])
    dek = house.store.header(alice, chunk, 1).dek
    notes = open_notes(dek, found.notes[chunk], patient=alice, chunk=chunk, version=1)
    assert b"2026.2" in notes
    changes = Changes(label=[((chunk, 0), ("HIV", "R"), (), "2026.2", ())])
    with pytest.raises(EnvelopeError):
        house.service.regroup(act=new_id(), patient=alice, chunks={chunk: spoiled}, changes=changes)


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        ({"updated": "2024-01-01T00:00:00Z"}, {"updated": "2024-01-02T00:00:00Z"}, b"2"),
        ({"updated": "2024-01-02T00:00:00Z"}, {"updated": "2024-01-01T00:00:00Z"}, b"1"),
        ({"updated": "2024-01-01T00:00:00.2Z"}, {"updated": "2024-01-01T00:00:00.1Z"}, b"1"),
        ({"updated": "2024-01-01T02:00:00+02:00"}, {"updated": "2024-01-01T00:00:00Z", "version": "1"}, b"2"),
        ({"version": "10"}, {"version": "9"}, b"1"),
        ({}, {}, b"2"),
        ({"updated": "2024-01-01T00:00:00Z"}, {}, b"1"),
    ],
)
def test_the_newest_version_stays(
    first: dict[str, str], second: dict[str, str], stays: bytes, house: House, alice: str
) -> None:
    one, held = keep(house, alice, [b"1"], [labelled(**first)])
    two, other = keep(house, alice, [b"2"], [labelled(**second)])
    found = house.service.regroup(
        act=new_id(),
        patient=alice,
        chunks={one: held, two: other},
        changes=Changes(same=[[(one, 0), (two, 0)]]),
    )
    gone = two if stays == b"1" else one
    assert list(found.retired) == [gone]
    assert inside(house, alice, found) == {}


def test_a_deletion_spares_what_came_after_it(house: House, alice: str) -> None:
    notes = [labelled(updated="2024-01-01T00:00:00Z"), labelled(updated="2024-03-01T00:00:00Z"), labelled()]
    chunk, held = keep(house, alice, [b"old", b"new", b"undated"], notes)
    changes = Changes(drop=[((chunk, number), "2024-02-01T00:00:00+00:00") for number in range(3)])
    found = house.service.regroup(act=new_id(), patient=alice, chunks={chunk: held}, changes=changes)
    assert inside(house, alice, found) == {("N",): [b"new"]}


@pytest.mark.parametrize(
    ("note", "act", "expected"),
    [
        (labelled("N"), "add", ("HIV", "R")),
        (labelled("PSY", "R"), "add", ("HIV", "PSY", "R")),
        (labelled("V"), "add", ("HIV", "V")),
        (labelled("unlabelled"), "add", ("unlabelled",)),
        (labelled("HIV", "R"), "lift", ("N",)),
        (labelled("HIV", "PSY", "R"), "lift", ("PSY", "R")),
        (labelled("HIV", "V"), "lift", ("V",)),
        (Note(("HIV", "R"), ("source",)), "lift", ("R",)),
    ],
)
def test_what_a_clinician_says(
    note: Note, act: str, expected: tuple[str, ...], house: House, alice: str
) -> None:
    labels = note.labels
    chunk, held = keep(house, alice, [b"1"], [note], labels=labels)
    changes = Changes.read({act: [[[chunk, 0], "HIV", new_id()]]})
    found = house.service.regroup(act=new_id(), patient=alice, chunks={chunk: held}, changes=changes)
    assert list(inside(house, alice, found)) == ([] if expected == labels else [expected])


def test_a_clinicians_word_outlives_rules_and_versions(house: House, alice: str) -> None:
    one, held = keep(house, alice, [b"1"], [Note(("N",), added={"HIV": new_id()})], labels=("HIV", "R"))
    two, other = keep(house, alice, [b"2"], [labelled(updated="2024-01-01T00:00:00Z")])
    changes = Changes(same=[[(one, 0), (two, 0)]], label=[((two, 0), ("N",), (), "2026.2", ())])
    found = house.service.regroup(
        act=new_id(), patient=alice, chunks={one: held, two: other}, changes=changes
    )
    assert inside(house, alice, found) == {("HIV", "R"): [b"2"]}


def test_a_restricted_chunk_is_split_by_the_next_regrouping(house: House, alice: str) -> None:
    chunk, held = keep(house, alice, [b"1", b"2"], [labelled()] * 2)
    house.service.restrict_chunk(patient=alice, chunk=chunk, version=1, label="HIV")
    assert [one.labels for one in house.store.headers(alice)] == [("HIV", "R")]
    changes = Changes(add=[((chunk, 0), "HIV", new_id())])
    found = house.service.regroup(act=new_id(), patient=alice, chunks={chunk: held}, changes=changes)
    assert inside(house, alice, found) == {("HIV", "R"): [b"1"], ("N",): [b"2"]}


@pytest.mark.parametrize("what", ["regroup", "label_anew"])
def test_a_chunk_that_is_restricted_while_it_is_opened_is_not_sealed_anew(
    what: str, house: House, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would stand for it knows nothing of the word. What was opened is in the log."""
    house.service.enrol(patient=regrouping.CUSTODIAN)
    body = b'{"resourceType":"Observation","id":"1"}'
    chunk, held = keep(house, alice, [body, body], [labelled("PSY", "R")] * 2, labels=("PSY", "R"))
    real = getattr(opening, what)

    def restricted(*args: object, **more: object) -> object:
        house.service.restrict_chunk(patient=alice, chunk=chunk, version=1, label="SDV")
        return real(*args, **more)

    monkeypatch.setattr(opening, what, restricted)
    before = house.store.counts()["chunks"]
    act = new_id()
    said = {"changes": Changes(drop=[((chunk, 0), "")])} if what == "regroup" else {}
    asked = house.service.regroup if what == "regroup" else house.service.relabel
    with pytest.raises(RefusedTransition) as refused:
        asked(act=act, patient=alice, chunks={chunk: held}, **said)  # type: ignore[operator]
    assert refused.value.code == "regroup_conflict"
    assert house.store.counts()["chunks"] == before
    assert [one.labels for one in house.store.headers(alice)] == [("PSY", "R", "SDV")]
    (row,) = check_log(house.home / "keyholder", {HOME: house.trust})
    assert (row["reference"], row["opened"]) == (act, [f"{chunk}/1"])


def test_many_small_chunks_are_sealed_as_one(house: House, alice: str) -> None:
    kept = dict(keep(house, alice, [b"%d" % number], [labelled()]) for number in range(6))
    other, held = keep(house, alice, [b"x"], [labelled("PSY", "R")], labels=("PSY", "R"))
    found = house.service.regroup(
        act=new_id(),
        patient=alice,
        chunks={**kept, other: held},
        changes=Changes(merge=[*kept, other]),
    )
    assert sorted(found.retired) == sorted(kept)
    ((labels, lines),) = inside(house, alice, found).items()
    assert (labels, sorted(lines)) == (("N",), [b"%d" % number for number in range(6)])


def test_a_chunk_of_before_there_were_notes(house: House, alice: str) -> None:
    chunk, held = keep(house, alice, [b"1", b"2"], labels=("PSY", "R"))
    found = house.service.regroup(
        act=new_id(), patient=alice, chunks={chunk: held}, changes=Changes(drop=[((chunk, 0), "")])
    )
    assert inside(house, alice, found) == {("PSY", "R"): [b"2"]}


def test_what_is_not_there_is_refused(house: House, alice: str) -> None:
    chunk, held = keep(house, alice, [b"1"], [labelled()])
    for changes in (Changes(drop=[((chunk, 1), "")]), Changes(drop=[((new_id(), 0), "")])):
        with pytest.raises(InvalidInput):
            house.service.regroup(act=new_id(), patient=alice, chunks={chunk: held}, changes=changes)
    with pytest.raises(RefusedTransition):
        house.service.regroup(act=new_id(), patient=house.patient(), chunks={chunk: held}, changes=Changes())
    for malformed in ({"drop": [1]}, {"add": [[["a", -1], "b", "c"]]}, {"label": [["a", "b"]]}):
        with pytest.raises(InvalidInput):
            Changes.read(malformed)


def test_each_regrouping_is_in_the_log_and_the_log_verifies(house: House, alice: str) -> None:
    chunk, held = keep(house, alice, [b"1"], [labelled()])
    act = new_id()
    house.service.regroup(
        act=act, patient=alice, chunks={chunk: held}, changes=Changes(drop=[((chunk, 0), "")])
    )
    (row,) = check_log(house.home / "keyholder", {HOME: house.trust})
    assert (row["ground"], row["reference"], row["opened"]) == ("regroup", act, [f"{chunk}/1"])


def test_a_job_in_the_middle_begins_anew(house: House, alice: str) -> None:
    """Its next page would leave out or repeat what moved."""
    chunks = [keep(house, alice, [b"%d" % number], [labelled()]) for number in range(3)]
    house.grant(alice)
    subject = new_id()
    child, _ = house.release({subject: alice})
    first = house.open(child, subject, limit=1)
    assert first.more
    chunk, held = max(chunks)
    found = house.service.regroup(
        act=new_id(), patient=alice, chunks={chunk: held}, changes=Changes(drop=[((chunk, 0), "")])
    )
    house.service.replace_chunks(
        patient=alice, confirm=[(one.header.chunk, 1) for one in found.chunks], retire=[(chunk, 1)]
    )
    with pytest.raises(AccessDenied) as refused:
        house.open(child, subject, after=first.chunks[-1].header.chunk)
    assert refused.value.code == "records_changed"
    house.clock.ahead += 1
    again = Child(child.job, attempt=2)
    house.release({subject: alice}, child=again)
    assert len(house.open(again, subject).chunks) == 2

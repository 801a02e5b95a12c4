"""Records that newer rules label otherwise: what is told unopened, what is opened, what is withheld."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.keyholder.envelope import seal_notes
from gateway.keyholder.log import check_log
from gateway.keyholder.regrouping import CUSTODIAN, Changes, Held, Note, Regrouped, notes_of, resource_name
from gateway.keyholder.relabelling import PASSES
from gateway.labels import versions
from gateway.labels.labelling import FOLLOWS
from gateway.labels.rules import ACT_CODE, LOINC, SNOMED, VERSION
from ledger.client import HOME
from ledger.errors import EnvelopeError, RefusedTransition
from tests.keyholder.house import House, new_id
from tests.keyholder.test_regrouping import inside, keep

OLD = "2020.1"
HIV = ("loinc|7917-8",)  # a code that the older rules did not know
PLAIN = ("loinc|8480-6",)


@pytest.fixture(autouse=True)
def older_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Version OLD had every rule of today but one code, and HIV for a Condition."""
    table = json.loads(json.dumps(versions.tables()))
    for rule in table["rules"]:
        rule["codes"] = [one for one in rule["codes"] if one not in ("7917-8", "86406008")]
    (tmp_path / f"{OLD}.json").write_text(json.dumps(table))
    monkeypatch.setattr(versions, "HISTORY", tmp_path)
    versions.difference.cache_clear()
    yield
    versions.difference.cache_clear()


@pytest.fixture
def alice(house: House) -> str:
    patient = new_id()
    house.service.enrol(patient=patient)
    house.service.enrol(patient=CUSTODIAN)
    return patient


def noted(codes: tuple[str, ...] | None, *labels: str, **more: Any) -> Note:
    return Note(labels or ("N",), ("no-rule",), OLD, codes=codes, **more)


def observation(code: str, **more: Any) -> bytes:
    coded = {"coding": [{"system": LOINC, "code": code}]}
    return json.dumps({"resourceType": "Observation", "id": code, "code": coded, **more}).encode()


def encounter(*about: str) -> bytes:
    diagnosis = [{"condition": {"reference": one}} for one in about]
    coding = {"system": ACT_CODE, "code": "AMB"}
    return json.dumps(
        {"resourceType": "Encounter", "id": "e", "class": coding, "diagnosis": diagnosis}
    ).encode()


def condition(code: str) -> bytes:
    coded = {"coding": [{"system": SNOMED, "code": code}]}
    return json.dumps({"resourceType": "Condition", "id": "c", "code": coded}).encode()


def claim(id: str, about: str) -> bytes:
    diagnosis = [{"diagnosisReference": {"reference": about}}]
    item = [{"productOrService": {"coding": [{"system": SNOMED, "code": "1"}]}}]
    return json.dumps({"resourceType": "Claim", "id": id, "item": item, "diagnosis": diagnosis}).encode()


def without_blob(held: Held) -> Held:
    return Held(held.version, b"", held.notes, held.names)


def named(house: House, held: Held, *resources: str) -> Held:
    key = house.store.index_key(CUSTODIAN)
    names = [resource_name(key, one.encode()) for one in resources]
    return Held(held.version, held.blob, held.notes, names)


def labels_of(house: House, patient: str) -> dict[str, tuple[str, ...]]:
    return {one.chunk: one.labels for one in house.store.headers(patient)}


# What is in doubt


def test_a_chunk_is_in_doubt_by_what_is_noted_of_it(house: House, alice: str) -> None:
    """No record is opened to know it: the blobs are not even there."""
    plain, held = keep(house, alice, [b"1"], [noted(PLAIN)])
    codeless, other = keep(house, alice, [b"2"], [noted(())])
    sensitive, third = keep(house, alice, [b"3", b"4"], [noted(PLAIN), noted((*HIV, *PLAIN))])
    unnoted, fourth = keep(house, alice, [b"5"], [noted(None)])
    ancient, fifth = keep(house, alice, [b"6"])
    chunks = {plain: held, codeless: other, sensitive: third, unnoted: fourth, ancient: fifth}
    doubt = house.service.survey(
        patient=alice, chunks={one: without_blob(held) for one, held in chunks.items()}, followed=False
    )
    assert set(doubt.ranks) == {sensitive, unnoted, ancient}
    found = labels_of(house, alice)
    assert found[plain] == found[codeless] == ("N",)
    assert {found[one] for one in doubt.ranks} == {("R", "unlabelled")}
    # asked again it is the same: until they are labelled anew
    again = house.service.survey(
        patient=alice, chunks={one: without_blob(held) for one, held in chunks.items()}, followed=False
    )
    assert again == doubt


def test_what_is_known_is_withheld_also_beside_a_chunk_that_is_not(house: House, alice: str) -> None:
    """It is refused all the same: whoever asked looks again."""
    sensitive, held = keep(house, alice, [b"1"], [noted(HIV)])
    chunks = {new_id(): without_blob(held), sensitive: without_blob(held)}
    with pytest.raises(RefusedTransition) as refused:
        house.service.survey(patient=alice, chunks=chunks, followed=False)
    assert refused.value.code == "chunk_unknown"
    assert labels_of(house, alice) == {sensitive: ("R", "unlabelled")}


def test_what_is_in_doubt_is_in_no_job(house: House, alice: str) -> None:
    plain, _ = keep(house, alice, [b"1"], [noted(PLAIN)])
    sensitive, held = keep(house, alice, [b"2"], [noted(HIV)])
    house.grant(alice)
    house.service.survey(patient=alice, chunks={sensitive: without_blob(held)}, followed=False)
    subject = new_id()
    child, _ = house.release({subject: alice})
    assert [one.header.chunk for one in house.open(child, subject).chunks] == [plain]


def test_a_version_that_is_not_kept_puts_all_in_doubt(house: House, alice: str) -> None:
    unknown, held = keep(house, alice, [b"1"], [Note(("N",), (), "1999.1", codes=PLAIN)])
    today, other = keep(house, alice, [b"2"], [Note(("N",), (), VERSION, codes=HIV)])
    doubt = house.service.survey(patient=alice, chunks={unknown: held, today: other}, followed=False)
    assert set(doubt.ranks) == {unknown}


@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_follows_is_in_doubt_with_what_it_may_follow(elsewhere: bool, house: House, alice: str) -> None:
    follower, held = keep(house, alice, [b"1"], [noted(("act|AMB", FOLLOWS))], kind="Encounter")
    alone, third = keep(house, alice, [b"3"], [noted(("act|AMB",))], kind="Encounter")
    code = PLAIN if elsewhere else ("sct|86406008",)
    referred, other = keep(house, alice, [b"2"], [noted(code)], kind="Condition")
    chunks = {follower: held, referred: other, alone: third}
    doubt = house.service.survey(patient=alice, chunks=chunks, followed=elsewhere)
    assert doubt.followed
    assert set(doubt.ranks) == {follower} if elsewhere else {follower, referred}
    if not elsewhere:
        assert doubt.ranks[referred] < doubt.ranks[follower]


# Labelled anew


def relabelled(house: House, patient: str, chunks: dict[str, Held], **more: Any) -> Regrouped:
    house.service.survey(patient=patient, chunks=chunks, followed=True)
    return house.service.relabel(act=new_id(), patient=patient, chunks=chunks, **more)


def test_records_move_to_the_labels_of_today(house: House, alice: str) -> None:
    lines = [observation("8480-6"), observation("7917-8")]
    chunk, held = keep(house, alice, lines, [noted(PLAIN), noted(HIV)])
    found = relabelled(house, alice, {chunk: held})
    assert inside(house, alice, found) == {("HIV", "R"): [lines[1]], ("N",): [lines[0]]}
    assert (list(found.retired), found.wanted) == ([chunk], ())
    # what comes out is under today's rules: nothing of it is in doubt any more
    made = {one.header.chunk: Held(1, b"", one.notes) for one in found.chunks}
    house.service.replace_chunks(patient=alice, confirm=[(one, 1) for one in made], retire=[(chunk, 1)])
    assert house.service.survey(patient=alice, chunks=made, followed=False).ranks == {}
    (row,) = check_log(house.home / "keyholder", {HOME: house.trust})
    assert (row["ground"], row["opened"]) == ("relabel", [f"{chunk}/1"])


def test_a_label_that_fell_away_is_gone_and_a_clinicians_word_stays(house: House, alice: str) -> None:
    lines = [observation("8480-6"), observation("8462-4")]
    notes = [noted(None, "PSY", "R"), noted(None, "PSY", "R", added={"SDV": new_id()})]
    chunk, held = keep(house, alice, lines, notes, labels=("PSY", "R"))
    found = relabelled(house, alice, {chunk: held})
    assert inside(house, alice, found) == {("N",): [lines[0]], ("R", "SDV"): [lines[1]]}


def test_a_clinicians_word_that_only_the_header_has_is_not_lost(house: House, alice: str) -> None:
    """It counts at once, and its note comes a moment later: rules that speak in between take nothing away."""
    lines = [observation("8480-6"), observation("8462-4")]
    chunk, held = keep(house, alice, lines, [noted(None), noted(None, lifted={"HIV": new_id()})])
    house.service.restrict_chunk(patient=alice, chunk=chunk, version=1, label="HIV")
    found = relabelled(house, alice, {chunk: held})
    assert inside(house, alice, found) == {("HIV", "R"): [lines[0]], ("N",): [lines[1]]}
    # what then says of which line it was settles it
    (made,) = [one for one in found.chunks if one.header.labels == ("HIV", "R")]
    changes = Changes(lift=[((made.header.chunk, 0), "HIV", new_id())])
    sealed = {made.header.chunk: Held(1, made.blob, made.notes)}
    again = house.service.regroup(act=new_id(), patient=alice, chunks=sealed, changes=changes)
    assert inside(house, alice, again) == {("N",): [lines[0]]}


def test_a_regrouping_that_is_not_of_a_clinicians_word_keeps_it(house: House, alice: str) -> None:
    chunk, held = keep(house, alice, [b"1", b"2"], [noted(PLAIN)] * 2)
    house.service.restrict_chunk(patient=alice, chunk=chunk, version=1, label="HIV")
    changes = Changes(drop=[((chunk, 0), "")])
    found = house.service.regroup(act=new_id(), patient=alice, chunks={chunk: held}, changes=changes)
    assert inside(house, alice, found) == {("HIV", "R"): [b"2"]}
    changes = Changes(add=[((chunk, 1), "HIV", new_id())])
    found = house.service.regroup(act=new_id(), patient=alice, chunks={chunk: held}, changes=changes)
    assert inside(house, alice, found) == {("HIV", "R"): [b"2"], ("N",): [b"1"]}


def test_without_its_notes_a_chunk_keeps_its_sensitivities(house: House, alice: str) -> None:
    """Whoever can write the database can take the notes away, and with them no label."""
    lines = [observation("8480-6")]
    notes = [noted(PLAIN, added={"SDV": new_id()})]
    chunk, held = keep(house, alice, lines, notes, labels=("R", "SDV"))
    found = relabelled(house, alice, {chunk: Held(held.version, held.blob, b"")})
    (made,) = found.chunks
    assert made.header.labels == ("R", "SDV")
    again = relabelled(house, alice, {made.header.chunk: Held(1, made.blob, made.notes)})
    assert again.chunks == []  # it is where it belongs


def test_labels_pass_along_references(house: House, alice: str) -> None:
    first, held = keep(house, alice, [condition("86406008")], [noted(None)], kind="Condition")
    second, other = keep(house, alice, [encounter("Condition/c")], [noted(None)], kind="Encounter")
    # by the record's own id: what the caller names so does not count
    chunks = {second: named(house, other, "Condition/c"), first: named(house, held, "Condition/x")}
    found = relabelled(house, alice, chunks)
    assert [(one.header.resource_type, one.header.labels) for one in found.chunks] == [
        ("Condition", ("HIV", "R")),
        ("Encounter", ("HIV", "R")),
    ]


@pytest.mark.parametrize("reference", ["Condition/c", "urn:uuid:c"])
def test_what_is_referred_to_elsewhere_is_asked_for_and_stays_sealed(
    reference: str, house: House, alice: str
) -> None:
    note = Note(("N",), (), VERSION, added={"PSY": new_id()})  # by a clinician: it passes along too
    where, there = keep(house, alice, [b"not opened"], [note], kind="Condition")
    chunk, held = keep(house, alice, [encounter(reference)], [noted(None)], kind="Encounter")
    first = relabelled(house, alice, {chunk: held})
    assert (first.chunks, first.retired) == ((), ())
    there = without_blob(named(house, there, "Condition/c"))
    assert there.names
    assert set(there.names) <= set(first.wanted)
    found = relabelled(house, alice, {chunk: held}, neighbours={where: (alice, there)})
    assert list(inside(house, alice, found)) == [("PSY", "R")]
    # the log has both openings
    rows = list(check_log(house.home / "keyholder", {HOME: house.trust}))
    assert [row["opened"] for row in rows] == [[f"{chunk}/1"]] * 2


def test_what_is_not_at_hand_withholds_or_stays(house: House, alice: str) -> None:
    must, held = keep(house, alice, [claim("1", "Condition/x")], [noted(None)], kind="Claim")
    note = Note(("PSY", "R"), ("followed",), OLD)
    may, other = keep(house, alice, [encounter("Condition/x")], [note], kind="Encounter", labels=("PSY", "R"))
    found = relabelled(house, alice, {must: held, may: other}, neighbours={})
    assert {one.header.resource_type: one.header.labels for one in found.chunks} == {
        "Claim": ("unlabelled",),
        "Encounter": ("PSY", "R"),
    }


def test_a_neighbour_of_another_patient_says_nothing(house: House, alice: str) -> None:
    bob = house.patient({})
    where, there = keep(house, bob, [b"x"], [Note(("N",), (), VERSION)], kind="Condition")
    chunk, held = keep(house, alice, [claim("1", "Condition/x")], [noted(None)], kind="Claim")
    neighbours = {where: (bob, named(house, there, "Condition/x"))}
    found = relabelled(house, alice, {chunk: held}, neighbours=neighbours)
    assert list(inside(house, alice, found)) == [("unlabelled",)]


# In doubt still


def test_what_follows_something_in_doubt_waits_for_it(house: House, alice: str) -> None:
    """The old labels of what is in doubt pass to nobody: who follows, directly or not, stays withheld."""
    where, there = keep(house, alice, [condition("86406008")], [noted(None)], kind="Condition")
    lines = [encounter("Condition/c"), encounter()]
    chunk, held = keep(house, alice, lines, [noted(None)] * 2, kind="Encounter")
    house.service.survey(patient=alice, chunks={where: there}, followed=False)
    neighbours = {where: (alice, without_blob(named(house, there, "Condition/c")))}
    found = relabelled(house, alice, {chunk: held}, neighbours=neighbours)
    assert inside(house, alice, found) == {("N",): [lines[1]], ("R", "unlabelled"): [lines[0]]}
    assert found.waiting == [(chunk, 0)]
    # once that is told, so is this
    first = relabelled(house, alice, {where: there})
    (told,) = first.chunks
    neighbours = {told.header.chunk: (alice, named(house, Held(1, b"", told.notes), "Condition/c"))}
    (made,) = [one for one in found.chunks if "unlabelled" in one.header.labels]
    sealed = {made.header.chunk: Held(1, made.blob, made.notes)}
    house.service.replace_chunks(patient=alice, confirm=[(made.header.chunk, 1)], retire=[(chunk, 1)])
    again = relabelled(house, alice, sealed, neighbours=neighbours)
    assert inside(house, alice, again) == {("HIV", "R"): [lines[0]]}
    assert again.waiting == []


def test_what_follows_something_withheld_keeps_what_it_gave(house: House, alice: str) -> None:
    note = Note(("unlabelled",), (), VERSION, codes=())
    where, there = keep(house, alice, [b"x"], [note], kind="Condition", labels=("unlabelled",))
    note = Note(("PSY", "R"), ("followed",), OLD)
    lines = [encounter("Condition/c")]
    chunk, held = keep(house, alice, lines, [note], kind="Encounter", labels=("PSY", "R"))
    neighbours = {where: (alice, without_blob(named(house, there, "Condition/c")))}
    found = relabelled(house, alice, {chunk: held}, neighbours=neighbours)
    assert inside(house, alice, found) == {("PSY", "R"): lines}


def test_references_against_the_order_end(house: House, alice: str) -> None:
    """Of a chain that is longer than there are passes, what is not settled stays withheld."""
    count = 3 * PASSES
    lines = [claim(str(one), f"Claim/{one + 1}") for one in range(count - 1)]
    lines.append(json.dumps({**json.loads(claim(str(count - 1), "")), "diagnosis": []}).encode())
    notes = [Note(("unlabelled",), (), "", codes=None)] * count
    chunk, held = keep(house, alice, lines, notes, kind="Claim", labels=("unlabelled",))
    found = relabelled(house, alice, {chunk: held}, neighbours={})
    settled = count - len(found.waiting)
    assert 0 < settled <= PASSES
    assert inside(house, alice, found) == {("N",): lines[-settled:], ("unlabelled",): lines[:-settled]}


# In between


def test_a_regrouping_in_between_lets_nothing_out(house: House, alice: str) -> None:
    """A newer version, or a clinician's word, moves a line that is in doubt: it stays withheld."""
    chunk, held = keep(house, alice, [b"1", b"2"], [noted(HIV)] * 2)
    house.service.survey(patient=alice, chunks={chunk: held}, followed=False)
    changes = Changes(drop=[((chunk, 0), "")], add=[((chunk, 1), "SDV", new_id())])
    found = house.service.regroup(act=new_id(), patient=alice, chunks={chunk: held}, changes=changes)
    assert inside(house, alice, found) == {("R", "unlabelled"): [b"2"]}
    (made,) = found.chunks
    again = house.service.survey(
        patient=alice, chunks={made.header.chunk: Held(1, b"", made.notes)}, followed=False
    )
    assert set(again.ranks) == {made.header.chunk}


def test_what_was_tampered_with_stays_withheld(house: House, alice: str) -> None:
    chunk, held = keep(house, alice, [observation("7917-8")], [noted(HIV)])
    spoiled = Held(1, b"not the blob", held.notes)
    with pytest.raises(EnvelopeError):
        relabelled(house, alice, {chunk: spoiled})
    assert labels_of(house, alice) == {chunk: ("R", "unlabelled")}
    # what may have been opened before it broke off is in the log
    (row,) = check_log(house.home / "keyholder", {HOME: house.trust})
    assert (row["ground"], row["opened"]) == ("relabel", [f"{chunk}/1"])


def test_notes_say_that_codes_were_noted_also_where_there_are_none(house: House, alice: str) -> None:
    raw: Sequence[dict[str, Any]] = json.loads(notes_of([noted(()), noted(None)]))
    assert [one.get("codes") for one in raw] == [[], None]
    chunk, _ = keep(house, alice, [b"1"], [noted(())])
    header = house.store.header(alice, chunk, 1)
    sealed = seal_notes(header.dek, notes_of([noted(())] * 2), patient=alice, chunk=chunk, version=1)
    with pytest.raises(EnvelopeError):
        house.service.survey(patient=alice, chunks={chunk: Held(1, b"", sealed)}, followed=False)

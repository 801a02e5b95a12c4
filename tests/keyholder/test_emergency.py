"""An emergency: bounded, an hour long, ended at once, read without a key leaving."""

import time
from typing import Any

import pytest

from gateway.keyholder.log import check_log
from ledger.client import HOME
from ledger.embedded.blocks import ORG
from ledger.errors import AccessDenied, EnvelopeError, RefusedTransition
from tests.keyholder.house import House, new_id

DETAILS = {"clinician": "ab" * 32, "reason": "ETREAT", "words": "Found unconscious at home"}


@pytest.fixture
def ward(house: House) -> House:
    """A house where three emergencies may begin within an hour."""
    house.serve(house.ledger, emergencies=3)
    return house


def begin(house: House, patient: str, access: str | None = None, seconds: int = 3600) -> str:
    access = access or new_id()
    answer = house.service.emergency_access(
        access=access,
        patient=patient,
        details=DETAILS,
        expires=int(time.time() + house.clock.ahead) + seconds,
    )
    assert answer["state"] == "committed"
    return access


def blobs(house: House, access: str) -> dict[str, bytes]:
    return {one.chunk: house.blobs[one.chunk] for one in house.service.emergency_index(access=access)}


def refusal(call: Any) -> str:
    with pytest.raises((AccessDenied, RefusedTransition)) as found:
        call()
    return found.value.code


def test_records_are_read_and_each_reading_is_logged(ward: House) -> None:
    alice = ward.patient()
    access = begin(ward, alice)
    assert {(one.resource_type, one.count) for one in ward.service.emergency_index(access=access)} == {
        ("Observation", 1),
        ("Condition", 1),
    }
    found = ward.service.read_emergency(access=access, sealed=blobs(ward, access))
    assert sorted(found.values()) == [b'{"code":2}\n', b'{"value":1}\n']
    (recorded,) = ward.on_ledger(f"emergency/{ORG}")["open"]
    assert recorded["access"] == access
    assert alice not in str(recorded)
    (entry,) = check_log(ward.home / "keyholder", {HOME: ward.trust})
    assert (entry["ground"], len(entry["opened"])) == ("emergency", 2)
    assert ward.service.access_told(access=access)["details"] == DETAILS


def test_off_unless_the_start_says_how_many(house: House) -> None:
    alice = house.patient()
    assert refusal(lambda: begin(house, alice)) == "emergencies_off"


def test_only_so_many_begin_within_an_hour(ward: House) -> None:
    alice = ward.patient()
    first = begin(ward, alice)
    expires = int(ward.service.access_told(access=first)["expires"])
    for _ in range(2):
        begin(ward, alice)
    assert refusal(lambda: begin(ward, alice)) == "emergencies_too_many"
    # One that is known may be asked for again, and an ended one counts all the same.
    again = ward.service.emergency_access(access=first, patient=alice, details=DETAILS, expires=expires)
    assert again["state"] == "committed"
    ward.service.end_emergency(access=first)
    assert refusal(lambda: begin(ward, alice)) == "emergencies_too_many"
    ward.clock.ahead = ward.ledger_clock.ahead = 3700
    assert refusal(lambda: begin(ward, alice, seconds=60)) == "access_expiry"


@pytest.mark.parametrize("seconds", [60, 2 * 3600])
def test_it_lasts_one_hour(ward: House, seconds: int) -> None:
    alice = ward.patient()
    assert refusal(lambda: begin(ward, alice, seconds=seconds)) == "access_expiry"


def test_nothing_is_read_after_the_end(ward: House) -> None:
    access = begin(ward, ward.patient())
    sealed = blobs(ward, access)
    for _ in range(2):
        ward.service.end_emergency(access=access)
    assert refusal(lambda: ward.service.read_emergency(access=access, sealed=sealed)) == "access_ended"
    assert refusal(lambda: ward.service.emergency_index(access=access)) == "access_ended"


def test_nothing_is_read_after_the_hour(ward: House) -> None:
    access = begin(ward, ward.patient())
    sealed = blobs(ward, access)
    ward.clock.ahead = 3601
    assert refusal(lambda: ward.service.read_emergency(access=access, sealed=sealed)) == "access_expired"
    assert refusal(lambda: ward.service.emergency_index(access=access)) == "access_expired"


def test_another_patients_records_stay_closed(ward: House) -> None:
    alice, charlie = ward.patient(), ward.patient()
    access = begin(ward, alice)
    theirs = {one.chunk: ward.blobs[one.chunk] for one in ward.store.headers(charlie)}
    assert refusal(lambda: ward.service.read_emergency(access=access, sealed=theirs)) == "chunk_unknown"
    mine = blobs(ward, access)
    swapped = dict(zip(mine, reversed(mine.values()), strict=True))
    with pytest.raises(EnvelopeError):
        ward.service.read_emergency(access=access, sealed=swapped)
    assert not list(check_log(ward.home / "keyholder", {HOME: ward.trust}))


def test_a_subject_access_is_no_emergency(ward: House) -> None:
    ward.serve(ward.ledger, emergencies=3, copies=1)
    alice, access = ward.patient(), new_id()
    ward.service.own_copy(access=access, patient=alice, expires=int(time.time()) + 3600, voucher=None)
    sealed = {one.chunk: ward.blobs[one.chunk] for one in ward.store.headers(alice)}
    assert refusal(lambda: ward.service.read_emergency(access=access, sealed=sealed)) == "access_unknown"
    assert refusal(lambda: ward.service.emergency_index(access=access)) == "access_unknown"
    assert refusal(lambda: ward.service.end_emergency(access=access)) == "access_unknown"


def test_one_that_nobody_asked_for_opens_nothing(ward: House) -> None:
    assert refusal(lambda: ward.service.read_emergency(access=new_id(), sealed={})) == "access_unknown"


def test_one_that_the_ledger_refuses_opens_nothing(ward: House) -> None:
    alice, access, expires = ward.patient(), new_id(), int(time.time()) + 3600
    foreign = {"access": access, "digest": new_id(), "expires": expires}
    assert ward.commit(ward.ledger, "EmergencyAccess", foreign).is_valid
    answer = ward.service.emergency_access(access=access, patient=alice, details=DETAILS, expires=expires)
    assert (answer["state"], answer["code"]) == ("refused", "access_exists")
    sealed = {one.chunk: ward.blobs[one.chunk] for one in ward.store.headers(alice)}
    assert refusal(lambda: ward.service.read_emergency(access=access, sealed=sealed)) == "access_differs"


def test_one_that_was_completed_is_read_and_leaves_the_list(ward: House) -> None:
    first = begin(ward, ward.patient())
    assert ward.service.complete_emergencies() == {"completed": 1, "refused": 0}
    assert ward.on_ledger(f"access/{first}/{ORG}")["kind"] == "emergency"
    begin(ward, ward.patient())
    assert [one["access"] for one in ward.on_ledger(f"emergency/{ORG}")["open"]] != [first]
    assert len(ward.service.read_emergency(access=first, sealed=blobs(ward, first))) == 2


def test_one_is_for_one_patient(ward: House) -> None:
    access = begin(ward, ward.patient())
    expires = int(ward.service.access_told(access=access)["expires"])
    bob = ward.patient()
    again: dict[str, Any] = {"access": access, "patient": bob, "details": DETAILS, "expires": expires}
    assert refusal(lambda: ward.service.emergency_access(**again)) == "access_differs"


def test_without_the_ledger_nothing_is_read(ward: House) -> None:
    access = begin(ward, ward.patient())
    sealed = blobs(ward, access)
    with ward.store.transaction() as db:
        db.execute("UPDATE accesses SET digest = ?", (new_id(),))
    assert refusal(lambda: ward.service.read_emergency(access=access, sealed=sealed)) == "access_differs"
    forged = new_id()
    ward.store.put_access(
        forged,
        kind="emergency",
        patient=ward.service.access_told(access=access)["patient"],
        details=DETAILS,
        digest=new_id(),
        expires=int(time.time()) + 3600,
    )
    assert refusal(lambda: ward.service.read_emergency(access=forged, sealed=sealed)) == "access_missing"

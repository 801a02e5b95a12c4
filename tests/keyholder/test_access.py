"""A person's access: an emergency, or the patient's own copy. Its own transaction, its own rules."""

import time

import pytest

from gateway.keyholder.log import check_log
from gateway.keyholder.opening import PersonalAccess
from ledger.channels import HOME
from ledger.errors import AccessDenied, RefusedTransition
from tests.keyholder.house import House, new_id


def ask(house: House, kind: str, patient: str, *, access: str, seconds: int = 600) -> dict[str, object]:
    return house.service.personal_access(
        kind,
        access=access,
        patient=patient,
        details={"reason": "unconscious"},
        expires=int(time.time()) // 60 * 60 + seconds,
    )


@pytest.mark.parametrize("kind", ["emergency", "subject"])
def test_an_access_opens_one_patients_records(house: House, kind: str) -> None:
    alice, access = house.patient(), new_id()
    house.patient()
    assert ask(house, kind, alice, access=access)["state"] == "committed"
    first = house.service.open_access(PersonalAccess(access, limit=1))
    rest = house.service.open_access(PersonalAccess(access, first.chunks[0].header.chunk, 10))
    assert (first.more, rest.more, len(rest.chunks)) == (True, False, 1)
    assert {one.header.chunk for one in (*first.chunks, *rest.chunks)} == {
        one.chunk for one in house.store.headers(alice)
    }
    value = house.on_ledger(f"access/{access}")
    assert value["kind"] == kind
    assert alice not in str(value)
    assert [entry["ground"] for entry in check_log(house.home / "keyholder", {HOME: house.trust})] == [
        kind,
        kind,
    ]


def test_an_access_nobody_recorded_opens_nothing(house: House) -> None:
    with pytest.raises(AccessDenied) as found:
        house.service.open_access(PersonalAccess(new_id()))
    assert found.value.code == "access_unknown"


def test_an_access_runs_out_by_our_own_clock(house: House) -> None:
    alice, access = house.patient(), new_id()
    ask(house, "emergency", alice, access=access)
    house.clock.ahead = 601
    with pytest.raises(AccessDenied) as found:
        house.service.open_access(PersonalAccess(access))
    assert found.value.code == "access_expired"


def test_an_access_that_the_ledger_refuses_opens_nothing(house: House) -> None:
    alice, access = house.patient(), new_id()
    answer = ask(house, "emergency", alice, access=access, seconds=3 * 86_400)
    assert (answer["state"], answer["code"]) == ("refused", "access_expiry")
    with pytest.raises(AccessDenied) as found:
        house.service.open_access(PersonalAccess(access))
    assert found.value.code == "access_missing"


def test_an_access_is_for_one_patient(house: House) -> None:
    alice, bob, access = house.patient(), house.patient(), new_id()
    ask(house, "emergency", alice, access=access)
    with pytest.raises(RefusedTransition) as found:
        ask(house, "emergency", bob, access=access)
    assert found.value.code == "access_differs"
    with house.store.transaction() as db:
        db.execute("UPDATE accesses SET digest = ?", (new_id(),))
    with pytest.raises(AccessDenied) as other:
        house.service.open_access(PersonalAccess(access))
    assert other.value.code == "access_differs"

"""Whether the openings kept here fit what the ledger holds: that, and nothing of their content."""

import json

from gateway.keyholder.service import Service
from tests.keyholder.house import House, new_id


def committed(house: House, consent: str) -> str:
    return str(house.on_ledger(f"consent/{consent}")["commitment"])


def test_an_opening_fits_differs_or_is_missing(house: House) -> None:
    alice = house.patient()
    mine, other, unknown = house.grant(alice), house.grant(alice), new_id()
    house.service.stop(consent=other)
    asked = {mine: committed(house, mine), other: committed(house, mine), unknown: new_id()}
    assert house.service.kept_openings(commitments=asked) == {
        mine: {"opening": "fits", "stopped": False},
        other: {"opening": "differs", "stopped": True},
        unknown: {"opening": "missing", "stopped": False},
    }


def test_an_opening_that_was_tampered_with_fits_nothing(house: House) -> None:
    consent = house.grant(house.patient())
    with house.store.transaction() as db:
        db.execute("UPDATE consents SET opening = zeroblob(length(opening)) WHERE consent = ?", (consent,))
    asked = {consent: committed(house, consent)}
    assert house.service.kept_openings(commitments=asked)[consent]["opening"] == "differs"


def test_nothing_of_the_content_is_said(house: House) -> None:
    service: Service = house.service
    consent = house.grant(house.patient())
    kept = house.store.opening(consent)
    assert kept is not None
    told = json.dumps(service.kept_openings(commitments={consent: committed(house, consent)}))
    assert kept.key.hex() not in told
    assert kept.patient not in told

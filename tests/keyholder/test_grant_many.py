"""Several consents in one transaction: each gets its own answer, and each is granted once."""

from typing import Any

import pytest

from ledger.contract import canonical
from ledger.errors import AccessDenied
from tests.keyholder.house import House, fhir_consent, new_id


def grants_of(house: House, count: int) -> list[dict[str, Any]]:
    return [{"consent": new_id(), "patient": house.patient(), "fhir": fhir_consent()} for _ in range(count)]


def test_they_are_granted_in_one_transaction(house: House) -> None:
    grants = grants_of(house, 5)
    before = house.ledger.height()
    answers = house.service.grant_many(grants=grants)
    assert {answer["state"] for answer in answers.values()} == {"committed"}
    assert len({answer["tx_id"] for answer in answers.values()}) == 1
    assert house.ledger.height() == before + 1
    for one in grants:
        assert house.on_ledger(f"consent/{one['consent']}")["version"] == 1
        subject = new_id()
        child, _ = house.release({subject: one["patient"]})
        assert house.open(child, subject).chunks


def test_a_repeat_alone_or_together_makes_no_second_transaction(house: House) -> None:
    grants = grants_of(house, 3)
    answers = house.service.grant_many(grants=grants)
    before = house.ledger.height()
    assert house.service.grant_many(grants=grants) == answers
    assert house.service.grant(**grants[0]) == answers[grants[0]["consent"]]
    more = grants_of(house, 2)
    again = house.service.grant_many(grants=[*grants, *more])
    assert again[grants[0]["consent"]] == answers[grants[0]["consent"]]
    assert house.ledger.height() == before + 1


def test_one_that_cannot_be_granted_does_not_hold_up_the_others(house: House) -> None:
    grants = grants_of(house, 4)
    grants[0]["fhir"] = {**fhir_consent(), "status": "draft"}  # the contract refuses it
    grants[1]["fhir"] = {"resourceType": "Consent"}  # it cannot be read
    kept = house.grant(grants[2]["patient"])
    grants[2] = {"consent": kept, "patient": grants[3]["patient"], "fhir": fhir_consent()}  # another's
    answers = house.service.grant_many(grants=[*grants, *(more := grants_of(house, 2))])
    assert [answers[one["consent"]]["state"] for one in grants] == [
        "refused",
        "refused",
        "refused",
        "committed",
    ]
    assert answers[kept]["code"] == "consent_differs"
    assert [answers[one["consent"]]["state"] for one in more] == ["committed", "committed"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_sending_the_same_envelope_goes_out_again(house: House, when: str) -> None:
    grants = grants_of(house, 3)
    house.killed_around_sending(when, "grant_many", grants=grants)
    purpose = f"grants/{canonical.digest(sorted(one['consent'] for one in grants))}"
    kept = house.store.submission(purpose)
    assert kept is not None
    # Asked for one by one, it is that transaction all the same.
    answer = house.service.grant(**grants[1])
    assert (answer["state"], answer["tx_id"]) == ("committed", kept.tx_id)
    for one in grants:
        assert house.service.grant(**one)["tx_id"] == kept.tx_id
        assert house.on_ledger(f"consent/{one['consent']}")["version"] == 1


def test_one_of_them_is_stopped_right_after(house: House) -> None:
    grants = grants_of(house, 2)
    house.service.grant_many(grants=grants)
    house.revoke(grants[0]["consent"])
    first, second = new_id(), new_id()
    child, _ = house.release({first: grants[0]["patient"], second: grants[1]["patient"]})
    assert house.open(child, second).chunks
    with pytest.raises(AccessDenied) as found:
        house.open(child, first)
    assert found.value.code in ("subject_not_released", "consent_revoked")


def test_a_store_of_a_format_before_is_taken_over(house: House) -> None:
    house.start_keyholder_on(2)
    answers = house.service.grant_many(grants=grants_of(house, 2))
    assert {answer["state"] for answer in answers.values()} == {"committed"}

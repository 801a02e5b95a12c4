"""A deny in a consent that the release does not name: it wins at each of the three places."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.keyholder.opening import JobRelease
from ledger.client import Proof
from ledger.errors import AccessDenied, InvalidInput, SendError
from tests.keyholder.house import REQUEST, Child, House, fhir_consent, new_id


class Case:
    """alice's consent, released to one child, which has opened her records once."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.alice, self.subject = house.patient(), new_id()
        self.consent = house.grant(self.alice)
        self.child, self.released = house.release({self.subject: self.alice})
        assert len(self.open().chunks) == 2

    def open(self) -> Any:
        return self.house.service.open_chunks(JobRelease(self.child.job, 1, 0, self.subject, None, 10))

    def deliver(self) -> tuple[str, bytes, dict[str, Any]]:
        digest, sealed = self.house.seal_output(self.child, self.subject)
        return digest, sealed, self.house.deliver(self.child, self.subject, digest)

    def open_output(self, digest: str, sealed: bytes) -> bytes:
        return self.house.service.open_output(job=self.child.job, digest=digest, sealed=sealed)

    def refusal(self) -> str:
        before = self.house.store.counts()["openings"]
        with pytest.raises(AccessDenied) as found:
            self.open()
        assert self.house.store.counts()["openings"] == before
        return found.value.code


@pytest.fixture
def case(house: House) -> Case:
    return Case(house)


def test_a_deny_granted_after_the_release_closes_the_records(case: Case) -> None:
    case.house.grant(case.alice, kind="deny")
    assert case.refusal() == "consent_denies"  # at once: no older reading is rested on
    case.house.later()
    assert case.refusal() == "consent_denies"


def test_a_deny_of_one_kind_granted_after_the_release_closes_the_records(case: Case) -> None:
    case.house.grant(case.alice, kind="deny", types=("Condition",))
    assert case.refusal() == "consent_denies"
    # The next attempt is released with it, and selects what is left.
    child, _ = case.house.release({case.subject: case.alice}, child=Child(case.child.job, attempt=2))
    opened = case.house.open(child, case.subject)
    assert [one.header.resource_type for one in opened.chunks] == ["Observation"]


def test_a_deny_granted_after_the_release_withholds_the_result(case: Case) -> None:
    denial = case.house.grant(case.alice, kind="deny")
    digest, sealed, answer = case.deliver()
    assert (answer["tx_id"], answer["delivered"], answer["withheld"]) == ("", [], [digest])
    assert case.house.on_ledger(f"deliver/{case.child.job}") is None
    with pytest.raises(AccessDenied) as found:
        case.open_output(digest, sealed)
    assert found.value.code == "not_delivered"
    # Once the patient takes the deny back, the same result may go out.
    case.house.revoke(denial)
    assert case.house.deliver(case.child, case.subject, digest)["delivered"] == [digest]


def test_a_deny_withholds_the_results_of_its_patient_alone(house: House) -> None:
    subjects = {new_id(): house.patient() for _ in range(2)}
    for patient in subjects.values():
        house.grant(patient)
    child, _ = house.release(subjects)
    outputs = []
    for subject in subjects:
        house.open(child, subject)
        outputs.append({"subjects": [subject], "digest": house.seal_output(child, subject)[0]})
    house.grant(next(iter(subjects.values())), kind="deny")
    answer = house.service.deliver(job=child.job, attempt=1, outputs=outputs)
    assert answer["withheld"] == [outputs[0]["digest"]]
    assert answer["delivered"] == [outputs[1]["digest"]]


def test_a_deny_granted_after_the_delivery_closes_the_result(case: Case) -> None:
    digest, sealed, answer = case.deliver()
    assert answer["delivered"] == [digest]
    assert case.open_output(digest, sealed) == b'{"risk":1}'
    denial = case.house.grant(case.alice, kind="deny")
    with pytest.raises(AccessDenied) as found:
        case.open_output(digest, sealed)
    assert found.value.code == "consent_denies"
    # What was delivered stays so, and a repeat of the delivery says the same.
    assert case.house.deliver(case.child, case.subject, digest)["delivered"] == [digest]
    case.house.revoke(denial)
    assert case.open_output(digest, sealed) == b'{"risk":1}'


def test_another_permit_with_an_exception_narrows_records_and_closes_no_result(case: Case) -> None:
    digest, sealed, _ = case.deliver()
    child, _ = case.house.release({case.subject: case.alice})
    permit = fhir_consent()
    permit["provision"]["provision"] = [{"type": "deny", "securityLabel": [{"code": "R"}]}]
    answer = case.house.service.grant(consent=new_id(), patient=case.alice, fhir=permit)
    assert answer["state"] == "committed"
    assert case.open_output(digest, sealed) == b'{"risk":1}'
    with pytest.raises(AccessDenied) as found:
        case.house.open(child, case.subject)
    assert found.value.code == "consent_denies"


def test_a_deny_that_was_taken_back_or_never_came_does_not_count(case: Case) -> None:
    case.house.revoke(case.house.grant(case.alice, kind="deny"))
    assert len(case.open().chunks) == 2

    def down(*_: Any, **__: Any) -> Any:
        raise SendError("down")

    case.house.ledger.send = down  # type: ignore[method-assign]
    assert (
        case.house.service.grant(consent=new_id(), patient=case.alice, fhir=fhir_consent(kind="deny"))[
            "state"
        ]
        == "sent"
    )
    assert len(case.open().chunks) == 2


def test_a_deny_whose_mark_is_missing_counts(case: Case) -> None:
    import sqlite3

    denial = case.house.grant(case.alice, kind="deny")
    with sqlite3.connect(case.house.home / "ledger" / "ledger.sqlite3") as db:
        assert db.execute("DELETE FROM state WHERE key LIKE ?", (f"revoked/{denial}/%",)).rowcount == 1
    db.close()
    assert case.refusal() == "consent_denies"


def test_others_consents_and_permits_cost_no_reading(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.house.grant(case.house.patient(), kind="deny")
    case.house.grant(case.alice)
    ledger, asked = case.house.ledger, []
    read = ledger.read

    def counted(keys: Sequence[str], *, nonce: bytes) -> Proof:
        asked.append(keys)
        return read(keys, nonce=nonce)

    monkeypatch.setattr(ledger, "read", counted)
    case.house.later()
    assert len(case.open().chunks) == len(case.open().chunks) == 2
    assert len(asked) == 1


@pytest.mark.parametrize("key", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f"])
def test_a_key_that_nothing_can_be_sealed_to_is_released_to_nobody(house: House, key: str) -> None:
    alice, job = house.patient(), new_id()
    house.grant(alice)
    parts = [{"part": 0, "key": key, "subjects": [{"subject": new_id(), "patient": alice}]}]
    with pytest.raises(InvalidInput) as found:
        house.service.release(job=job, attempt=1, request=REQUEST, parts=parts)
    assert found.value.code == "malformed_key"
    assert house.on_ledger(f"release/{job}/1") is None
    assert house.store.last_attempt(job) == 0

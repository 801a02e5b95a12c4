"""What the ledger and our own store say must fit in every point; each that does not refuses by its own code.

Here one of the two is changed behind the keyholder's back.
"""

import sqlite3
from typing import Any

import pytest

from ledger.errors import AccessDenied
from tests.keyholder.house import MODEL, House, new_id

# Any value that stands on the ledger: moved to another key, it is there too.
MODEL_KEY = f"model/{MODEL}"


class Case:
    """alice and bob consented, dora did not; all are in one part."""

    def __init__(self, house: House) -> None:
        self.house = house
        patients = {name: house.patient() for name in ("alice", "bob", "dora")}
        self.subjects = {name: new_id() for name in patients}
        self.consents = {name: house.grant(patients[name]) for name in ("alice", "bob")}
        self.child, _ = house.release({self.subjects[name]: patients[name] for name in patients})
        self.release_key = f"release/{self.child.job}/1"

    def refusal(self, name: str = "alice") -> str:
        with pytest.raises(AccessDenied) as found:
            self.house.open(self.child, self.subjects[name])
        assert self.house.store.counts()["openings"] == 0
        return found.value.code

    def delivered(self) -> tuple[str, bytes]:
        self.house.open(self.child, self.subjects["alice"])
        digest, sealed = self.house.seal_output(self.child, self.subjects["alice"])
        self.house.deliver(self.child, self.subjects["alice"], digest)
        return digest, sealed

    def output_refusal(self, digest: str, sealed: bytes) -> str:
        with pytest.raises(AccessDenied) as found:
            self.house.service.open_output(job=self.child.job, digest=digest, sealed=sealed)
        return found.value.code

    def edit_ledger(self, sql: str, *values: Any) -> None:
        db = sqlite3.connect(self.house.home / "ledger" / "ledger.sqlite3")
        with db:
            assert db.execute(sql, values).rowcount == 1
        db.close()

    def rewrite(self, key: str, old: str, new: str) -> None:
        self.edit_ledger(
            "UPDATE state SET value = CAST(replace(CAST(value AS TEXT), ?, ?) AS BLOB) WHERE key = ?",
            old, new, key,
        )  # fmt: skip

    def edit_store(self, sql: str, *values: Any) -> None:
        with self.house.store.transaction() as db:
            assert db.execute(sql, values).rowcount == 1


@pytest.fixture
def case(house: House) -> Case:
    return Case(house)


def test_a_release_that_is_not_on_the_ledger_opens_nothing(case: Case) -> None:
    case.edit_ledger("DELETE FROM state WHERE key = ?", case.release_key)
    assert case.refusal() == "release_missing"


def test_a_release_that_is_malformed_opens_nothing(case: Case) -> None:
    case.edit_ledger("UPDATE state SET value = CAST('[]' AS BLOB) WHERE key = ?", case.release_key)
    assert case.refusal() == "release_missing"


def test_a_release_for_another_model_opens_nothing(case: Case) -> None:
    case.rewrite(case.release_key, MODEL, "0" * 64)
    assert case.refusal() == "request_differs"


def test_a_later_attempt_that_only_the_ledger_knows_supersedes(case: Case) -> None:
    case.edit_ledger("UPDATE state SET key = ? WHERE key = ?", f"release/{case.child.job}/2", MODEL_KEY)
    assert case.refusal() == "attempt_superseded"


def test_a_delivery_that_only_the_ledger_knows_closes_the_records(case: Case) -> None:
    case.edit_ledger("UPDATE state SET key = ? WHERE key = ?", f"deliver/{case.child.job}", MODEL_KEY)
    assert case.refusal() == "already_delivered"


def test_a_consent_that_the_part_on_the_ledger_does_not_name_opens_nothing(case: Case) -> None:
    case.rewrite(case.release_key, case.consents["alice"], new_id())
    assert case.refusal() == "subject_not_released"
    assert case.house.open(case.child, case.subjects["bob"]).chunks


def test_a_part_that_the_ledger_does_not_name_opens_nothing(case: Case) -> None:
    case.rewrite(case.release_key, '"part":0', '"part":1')
    assert case.refusal() == "part_not_released"


def test_a_subject_without_a_consent_opens_nothing(case: Case) -> None:
    assert case.refusal("dora") == "subject_not_released"


def test_a_result_whose_release_is_not_known_here_stays_sealed(case: Case) -> None:
    output = case.delivered()
    case.edit_store("DELETE FROM releases WHERE job = ?", case.child.job)
    assert case.output_refusal(*output) == "release_unknown"


def test_a_result_of_a_release_that_is_not_on_the_ledger_stays_sealed(case: Case) -> None:
    output = case.delivered()
    case.edit_ledger("DELETE FROM state WHERE key = ?", case.release_key)
    assert case.output_refusal(*output) == "release_missing"


def test_a_result_whose_delivery_is_not_on_the_ledger_stays_sealed(case: Case) -> None:
    output = case.delivered()
    case.edit_ledger("DELETE FROM state WHERE key = ?", f"deliver/{case.child.job}")
    assert case.output_refusal(*output) == "not_delivered"


def test_a_result_on_other_consents_than_were_delivered_stays_sealed(case: Case) -> None:
    output = case.delivered()
    case.rewrite(f"deliver/{case.child.job}", case.consents["alice"], case.consents["bob"])
    assert case.output_refusal(*output) == "output_not_delivered"


def test_a_result_that_another_attempt_delivered_stays_sealed(case: Case) -> None:
    output = case.delivered()
    case.rewrite(f"deliver/{case.child.job}", '"attempt":1', '"attempt":2')
    assert case.output_refusal(*output) == "not_delivered"


def test_a_result_that_the_ledger_withheld_stays_sealed(case: Case) -> None:
    case.house.open(case.child, case.subjects["alice"])
    digest, sealed = case.house.seal_output(case.child, case.subjects["alice"])
    case.house.deliver(case.child, case.subjects["alice"], digest)
    case.rewrite(f"deliver/{case.child.job}", digest, new_id())
    assert case.output_refusal(digest, sealed) == "output_not_delivered"


def test_another_output_under_a_delivered_digest_stays_sealed(case: Case) -> None:
    digest, _ = case.delivered()
    _, other = case.house.seal_output(case.child, case.subjects["alice"], b'{"risk":2}')
    assert case.output_refusal(digest, other) == "output_not_delivered"

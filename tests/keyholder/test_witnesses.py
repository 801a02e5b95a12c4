"""Three organisations answer, two are needed: one that is stale, lies or is away opens and blocks nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from gateway.keyholder.service import Service
from ledger.channels import Channels
from ledger.client import Proof, Reading, Trust
from ledger.contract import canonical
from ledger.contract.in_force import mark_key
from ledger.embedded.blocks import ORG
from ledger.errors import AccessDenied, LedgerError
from tests.keyholder.house import House, new_id

STOP = canonical.dumps({"at": 1, "set": True})
Alter = Callable[[Reading], Reading | None]


def same(one: Reading) -> Reading | None:
    return one


class Chorus:
    """Makes three answers out of the embedded ledger's verified one; each part of `alter` changes one."""

    needed = 2

    def __init__(self, inner: Trust) -> None:
        self.inner, self.identity, self.own = inner, inner.identity, inner.own
        self.alter: dict[str, Alter] = dict.fromkeys("ABC", same)

    def check(self, proof: Proof, *, keys: Sequence[str], nonce: bytes) -> list[Reading]:
        (one,) = self.inner.check(proof, keys=keys, nonce=nonce)
        answers = (self.alter[org](replace(one, org=org)) for org in ("A", "B", "C"))
        return [each for each in answers if each is not None]


class Case:
    """alice consented, and a job of hers is released."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.chorus = Chorus(house.trust)
        house.service = Service(house.store, Channels.single(house.ledger, self.chorus))
        self.patient, self.subject = house.patient(), new_id()
        self.consent = house.grant(self.patient)
        self.child, _ = house.release({self.subject: self.patient})
        self.door = f"release/{self.child.job}/1"
        self.block = house.store.block(self.door)

    def code(self) -> str:
        try:
            self.house.open(self.child, self.subject)
        except (AccessDenied, LedgerError) as error:
            return error.code
        return "opened"

    def with_value(self, key: str, value: bytes | None, *, height: int | None = None) -> Alter:
        def alter(one: Reading) -> Reading:
            values = {**one.values, **({key: value} if key in one.values else {})}
            return replace(one, values=values, height=one.height if height is None else height)

        return alter

    def stale(self, one: Reading) -> Reading | None:
        """Cut off just before the release: it signs that there is none."""
        return replace(one, values={**one.values, self.door: None}, height=self.block)


@pytest.fixture
def case(house: House) -> Case:
    return Case(house)


def test_three_alike_open(case: Case) -> None:
    assert case.code() == "opened"


@pytest.mark.parametrize("how", ["stale", "away", "lying"])
def test_one_of_three_blocks_nothing(case: Case, how: str) -> None:
    case.chorus.alter["C"] = {
        "stale": case.stale,
        "away": lambda one: None,
        "lying": case.with_value(case.door, canonical.dumps({"decision": "deny"})),
    }[how]
    assert case.code() == "opened"


def test_two_stale_of_three_are_asked_again(case: Case) -> None:
    case.chorus.alter |= {"B": case.stale, "C": case.stale}
    assert case.code() == "peers_behind"


def test_two_that_lack_the_release_at_its_height_refuse(case: Case) -> None:
    lying = case.with_value(case.door, None)
    case.chorus.alter |= {"B": lying, "C": lying}
    assert case.code() == "release_missing"


def test_two_away_of_three_refuse(case: Case) -> None:
    case.chorus.alter |= {"B": lambda one: None, "C": lambda one: None}
    assert case.code() != "opened"


def test_a_stop_counts_from_a_stale_answer_too(case: Case) -> None:
    mark = mark_key(case.consent, ORG)

    def stale_and_stopped(one: Reading) -> Reading:
        return case.stale(replace(one, values={**one.values, mark: STOP}))

    case.chorus.alter["C"] = stale_and_stopped
    assert case.code() == "consent_revoked"


def test_a_later_attempt_or_a_delivery_counts_from_any_answer(case: Case) -> None:
    later = canonical.dumps({"decision": "permit"})
    case.chorus.alter["C"] = case.with_value(f"release/{case.child.job}/2", later, height=case.block)
    assert case.code() == "attempt_superseded"
    case.chorus.alter["C"] = case.with_value(f"deliver/{case.child.job}", later)
    assert case.code() != "opened"


def test_a_superseded_or_malformed_consent_counts_from_any_answer(case: Case) -> None:
    case.chorus.alter["C"] = case.with_value(f"consent/{case.consent}", b"{}", height=case.block)
    assert case.code() == "consent_malformed"


def test_witnesses_of_the_door_must_know_the_consent(case: Case) -> None:
    case.chorus.alter |= {"B": case.with_value(f"consent/{case.consent}", None)}
    assert case.code() != "opened"


def test_two_doors_with_enough_witnesses_each_open_nothing(case: Case) -> None:
    case.chorus.needed = 1
    case.chorus.alter["C"] = case.with_value(case.door, canonical.dumps({"decision": "deny"}))
    assert case.code() == "answers_differ"


def spoke(house: House, job: str) -> list[str]:
    """The consents that the keyholder brought to the contract for the only subject."""
    kept = house.store.release(job, 1)
    assert kept is not None
    consents: list[str] = kept.body["parts"][0]["subjects"][0]["consents"]
    return consents


def test_at_the_release_a_deny_counts_until_every_answer_shows_its_end(house: House) -> None:
    chorus = Chorus(house.trust)
    house.service = Service(house.store, Channels.single(house.ledger, chorus))
    patient, subject = house.patient(), new_id()
    house.grant(patient)
    denying = house.grant(patient, kind="deny", types=("Condition",))

    def revoked(one: Reading) -> Reading:
        return replace(
            one,
            values={
                key: STOP if key.startswith(f"revoked/{denying}/") else value
                for key, value in one.values.items()
            },
        )

    chorus.alter["C"] = revoked
    child, _ = house.release({subject: patient})
    assert denying in spoke(house, child.job)


def test_a_deny_whose_end_an_old_answer_cannot_know_does_not_count(house: House) -> None:
    """Two show the stop and its block; the third is of a height that does not hold that block."""
    chorus = Chorus(house.trust)
    house.service = Service(house.store, Channels.single(house.ledger, chorus))
    patient, subject = house.patient(), new_id()
    house.grant(patient)
    denying = house.grant(patient, kind="deny", types=("Condition",))
    block = house.ledger.height()

    def revoked(one: Reading) -> Reading:
        marks = [key for key in one.values if key.startswith(f"revoked/{denying}/")]
        return replace(
            one,
            values={**one.values, **dict.fromkeys(marks, STOP)},
            blocks={**one.blocks, **dict.fromkeys(marks, block)},
            height=block + 1,
        )

    chorus.alter |= {"A": revoked, "B": revoked, "C": lambda one: replace(one, height=block)}
    child, _ = house.release({subject: patient})
    assert denying not in spoke(house, child.job)

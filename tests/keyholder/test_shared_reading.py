"""One reading of the ledger serves the next subjects of a part, for less than δ and for nothing else."""

from collections.abc import Sequence

import pytest

from gateway.keyholder import parts
from gateway.keyholder.opening import DELTA_SECONDS, SHARED
from ledger.client import Proof
from ledger.embedded.client import EmbeddedLedger
from ledger.errors import AccessDenied, LedgerError
from tests.keyholder.house import Child, House, new_id


class Counting(EmbeddedLedger):
    """A ledger that counts what it is asked."""

    def __init__(self, house: House) -> None:
        super().__init__(house.home / "ledger", identity="keyholder")
        self.asked: list[int] = []

    def read(self, keys: Sequence[str], *, nonce: bytes) -> Proof:
        self.asked.append(len(keys))
        return super().read(keys, nonce=nonce)


class Cohort:
    """Three patients who consented, in one part, and a ledger that counts."""

    def __init__(self, house: House) -> None:
        self.house = house
        patients = [house.patient() for _ in range(3)]
        self.consents = [house.grant(patient) for patient in patients]
        self.patients = {new_id(): patient for patient in patients}
        self.first, self.second, self.third = self.patients
        self.ledger = Counting(house)
        house.serve(self.ledger)
        self.child, _ = house.release(self.patients)
        self.open(self.first)
        self.ledger.asked.clear()

    def open(self, subject: str) -> None:
        assert self.house.open(self.child, subject).chunks


@pytest.fixture
def cohort(house: House) -> Cohort:
    return Cohort(house)


def refusal(cohort: Cohort, subject: str) -> str:
    with pytest.raises(AccessDenied) as found:
        cohort.open(subject)
    return found.value.code


def test_one_reading_serves_the_part(cohort: Cohort) -> None:
    for subject in (cohort.second, cohort.third, cohort.first):
        cohort.open(subject)
    assert cohort.ledger.asked == []


def test_a_reading_serves_for_a_part_of_delta_only(cohort: Cohort) -> None:
    began = cohort.house.monotonic.ahead
    cohort.house.monotonic.ahead = began + SHARED * DELTA_SECONDS - 0.3
    cohort.open(cohort.second)
    assert cohort.ledger.asked == []
    cohort.house.monotonic.ahead = began + SHARED * DELTA_SECONDS
    cohort.open(cohort.third)
    assert len(cohort.ledger.asked) == 1


def test_a_revocation_is_seen_by_the_next_reading(cohort: Cohort) -> None:
    cohort.house.revoke(cohort.consents[1])
    cohort.house.monotonic.ahead += SHARED * DELTA_SECONDS
    assert refusal(cohort, cohort.second) == "consent_revoked"
    cohort.open(cohort.third)


def test_a_stop_needs_no_reading(cohort: Cohort) -> None:
    cohort.house.service.stop(consent=cohort.consents[1])
    assert refusal(cohort, cohort.second) == "consent_stopped"
    cohort.open(cohort.third)
    assert cohort.ledger.asked == []


def test_a_later_attempt_and_a_delivery_are_seen_at_once(cohort: Cohort) -> None:
    later = Child(cohort.child.job, attempt=2)
    cohort.house.release(cohort.patients, child=later)
    assert refusal(cohort, cohort.second) == "attempt_superseded"
    cohort.child = later
    cohort.open(cohort.first)
    digest, _ = cohort.house.seal_output(later, cohort.first)
    assert cohort.house.deliver(later, cohort.first, digest)["delivered"]
    assert refusal(cohort, cohort.first) == "already_delivered"


def test_a_release_that_runs_out_meanwhile_is_seen(cohort: Cohort) -> None:
    cohort.house.clock.ahead = 3700
    assert refusal(cohort, cohort.second) == "release_too_old"


def test_a_reading_is_for_so_many_consents(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "CONSENTS_AT_ONCE", 2)
    cohort.house.later()
    for subject in cohort.patients:
        cohort.open(subject)
    # Three keys of the job, and each consent with its one mark: of two subjects, then of the last.
    assert cohort.ledger.asked == [7, 5]


def test_a_shared_reading_that_grew_old_in_an_opening_refuses(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = cohort.house.store.tx_id

    def slow(purpose: str) -> str:
        cohort.house.monotonic.ahead += DELTA_SECONDS
        return put(purpose)

    monkeypatch.setattr(cohort.house.store, "tx_id", slow)
    with pytest.raises(LedgerError) as found:
        cohort.open(cohort.second)
    assert (found.value.code, cohort.ledger.asked) == ("reading_too_old", [])

"""An output about several patients: all or nothing, never about few, and no two that differ by one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.keyholder import doors
from gateway.keyholder.doors import DAY, FEWEST_IN_AGGREGATE
from gateway.keyholder.envelope import seal_output
from gateway.keyholder.schema import ASKED_BY, ASKED_FOR
from ledger.errors import AccessDenied, RefusedTransition
from tests.keyholder.house import HELIX, MODEL, Child, House, new_id

COUNT = b'{"high_risk":4}'


@dataclass
class Cohort:
    """A job whose subjects' records were all opened."""

    house: House
    consents: dict[str, str]
    child: Child

    def aggregate(self, subjects: Sequence[str]) -> tuple[dict[str, Any], bytes]:
        sealed = seal_output(
            self.house.service.output_key(),
            COUNT,
            job=self.child.job,
            attempt=self.child.attempt,
            subjects=subjects,
        )
        return {"subjects": list(subjects), "digest": hashlib.sha256(sealed).hexdigest()}, sealed

    def deliver(self, *outputs: dict[str, Any]) -> dict[str, Any]:
        return self.house.service.deliver(job=self.child.job, attempt=self.child.attempt, outputs=outputs)

    def refused(self, *outputs: dict[str, Any]) -> str:
        with pytest.raises(RefusedTransition) as found:
            self.deliver(*outputs)
        assert self.house.on_ledger(f"deliver/{self.child.job}") is None
        return found.value.code

    def read(self, output: dict[str, Any], sealed: bytes) -> bytes:
        return self.house.service.open_output(job=self.child.job, digest=output["digest"], sealed=sealed)


@pytest.fixture
def cohort(house: House) -> Cohort:
    """One patient more than an aggregate needs."""
    patients = {new_id(): house.patient({"Observation": b"{}\n"}) for _ in range(FEWEST_IN_AGGREGATE + 1)}
    consents = {subject: house.grant(patient) for subject, patient in patients.items()}
    child, _ = house.release(patients)
    for subject in patients:
        house.open(child, subject)
    return Cohort(house, consents, child)


def test_an_aggregate_leaves_and_closes_when_one_of_them_stops(cohort: Cohort) -> None:
    output, sealed = cohort.aggregate(list(cohort.consents))
    assert cohort.deliver(output)["delivered"] == [output["digest"]]
    assert cohort.read(output, sealed) == COUNT
    cohort.house.revoke(next(iter(cohort.consents.values())))
    cohort.house.later()
    with pytest.raises(AccessDenied):
        cohort.read(output, sealed)


def test_a_stop_between_the_doors_withholds_all_of_it_and_lets_the_others_through(cohort: Cohort) -> None:
    first, *others = cohort.consents
    about_all, _ = cohort.aggregate(list(cohort.consents))
    of_one, sealed = cohort.aggregate(others[:1])
    cohort.house.revoke(cohort.consents[first])
    cohort.house.later()
    answer = cohort.deliver(about_all, of_one)
    assert (answer["delivered"], answer["withheld"]) == ([of_one["digest"]], [about_all["digest"]])
    assert cohort.read(of_one, sealed) == COUNT


def test_few_are_no_aggregate(cohort: Cohort) -> None:
    subjects = list(cohort.consents)
    for number in (2, FEWEST_IN_AGGREGATE - 1):
        assert cohort.refused(cohort.aggregate(subjects[:number])[0]) == "aggregate_too_small"


def test_no_two_of_a_delivery_differ_by_one(cohort: Cohort) -> None:
    subjects = list(cohort.consents)
    outputs = (cohort.aggregate(subjects)[0], cohort.aggregate(subjects[1:])[0])
    assert cohort.refused(*outputs) == "aggregates_overlap"


def test_of_a_model_that_summarises_nothing_about_one_leaves(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "SUMMARISING", frozenset({MODEL}))
    first, *others = cohort.consents
    assert cohort.refused(cohort.aggregate([first])[0]) == "aggregate_too_small"
    about_others, _ = cohort.aggregate(others)
    assert cohort.refused(about_others, cohort.aggregate([first])[0]) == "aggregate_too_small"
    assert cohort.deliver(about_others)["delivered"] == [about_others["digest"]]


def over(house: House, consents: dict[str, str]) -> Cohort:
    """Another job over these patients, all of whose records were opened."""
    patients = {new_id(): patient for patient in consents}
    child, _ = house.release(patients)
    for subject in patients:
        house.open(child, subject)
    return Cohort(house, {subject: consents[patient] for subject, patient in patients.items()}, child)


def test_no_two_that_leave_are_of_nearly_the_same_patients(house: House) -> None:
    """12; the same without one; the same with others, until those are 11; all the same on the next day."""
    patients = [house.patient({"Observation": b"{}\n"}) for _ in range(23)]
    consents = {patient: house.grant(patient) for patient in patients}

    def job(number: int) -> tuple[Cohort, dict[str, Any]]:
        found = over(house, dict(list(consents.items())[:number]))
        return found, found.aggregate(list(found.consents))[0]

    first, output = job(12)
    assert first.deliver(output)["delivered"] == [output["digest"]]
    assert first.deliver(output)["delivered"] == [output["digest"]]  # a repeat is no other
    for number in (11, 12, 13, 22):
        other, output = job(number)
        assert other.refused(output) == "aggregates_too_alike"
        assert house.store.delivery(other.child.job) is None
    other, output = job(23)
    assert other.deliver(output)["delivered"] == [output["digest"]]
    house.clock.ahead += DAY
    for number, code in ((11, "aggregates_too_alike"), (22, "aggregates_too_alike"), (12, ""), (23, "")):
        other, output = job(number)
        if code:
            assert other.refused(output) == code
        else:
            assert other.deliver(output)["delivered"] == [output["digest"]]
    with house.store.transaction() as db:
        asked = f"SELECT 1 FROM releases WHERE {ASKED_BY} = '' AND {ASKED_FOR} IN ('', 'a')"
        plan = " ".join(str(row) for row in db.execute(f"EXPLAIN QUERY PLAN {asked}"))
    assert "INDEX releases_of" in plan


def test_the_store_finds_what_left_to_a_recipient_by_some_models(house: House) -> None:
    patients = [house.patient({"Observation": b"{}\n"}) for _ in range(FEWEST_IN_AGGREGATE)]
    consents = {patient: house.grant(patient) for patient in patients}
    first = over(house, consents)
    output, _ = first.aggregate(list(first.consents))
    assert first.deliver(output)["delivered"] == [output["digest"]]
    found = house.store.aggregates(recipient=HELIX, models={MODEL, "0" * 64}, besides=("0" * 64, 1))
    assert [about for about, _ in found] == [set(consents)]
    assert house.store.aggregates(recipient=HELIX, models={"0" * 64}, besides=("0" * 64, 1)) == []
    assert house.store.aggregates(recipient="Organization/x", models={MODEL}, besides=("0" * 64, 1)) == []
    assert house.store.aggregates(recipient=HELIX, models={MODEL}, besides=(first.child.job, 1)) == []


def test_one_patient_under_two_names_counts_once(house: House) -> None:
    alice = house.patient({"Observation": b"{}\n"})
    house.grant(alice)
    names = {new_id(): alice for _ in range(FEWEST_IN_AGGREGATE)}
    child, _ = house.release(names)
    for subject in names:
        house.open(child, subject)
    twice = Cohort(house, {}, child)
    assert twice.refused(twice.aggregate(list(names))[0]) == "aggregate_too_small"

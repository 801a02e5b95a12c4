"""An output about several patients: all or nothing, never about few, and no two that differ by one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.keyholder import doors
from gateway.keyholder.doors import FEWEST_IN_AGGREGATE
from gateway.keyholder.envelope import seal_output
from ledger.errors import AccessDenied, RefusedTransition
from tests.keyholder.house import MODEL, Child, House, new_id

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


def test_one_patient_under_two_names_counts_once(house: House) -> None:
    alice = house.patient({"Observation": b"{}\n"})
    house.grant(alice)
    names = {new_id(): alice for _ in range(FEWEST_IN_AGGREGATE)}
    child, _ = house.release(names)
    for subject in names:
        house.open(child, subject)
    twice = Cohort(house, {}, child)
    assert twice.refused(twice.aggregate(list(names))[0]) == "aggregate_too_small"

"""Grants, replacements, stops, releases, deliveries and passing time, against a small model."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from ledger.contract.errors import Refused
from tests.contract.world import (
    LAKESIDE,
    MODEL,
    RIVERSIDE,
    Granted,
    World,
    approve_model,
    deliver,
    fhir_consent,
    release,
    request,
    some_id,
)

DAY = 86_400
PURPOSES = {"HRESCH": {"HRESCH", "CLINTRCH"}, "TREAT": {"TREAT"}}
ENDS = {"2027-02-01": 1_801_526_400, "2027-06-30": 1_814_400_000, None: None}


class Story(RuleBasedStateMachine):
    """The model knows a consent as (purpose, first second after its end), and what has become of it."""

    consents = Bundle("consents")
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(RIVERSIDE, LAKESIDE)
        approve_model(self.world)
        self.says: dict[str, tuple[str, int | None]] = {}
        self.stopped: set[tuple[str, str]] = set()
        self.superseded: set[str] = set()
        self.released: dict[str, list[set[str]]] = {}
        self.purpose: dict[str, str] = {}
        self.delivered: set[str] = set()

    # The model

    def holds(self, consent: str, purpose: str) -> bool:
        allowed, end = self.says[consent]
        is_stopped = any(one == consent for one, _ in self.stopped)
        is_over = end is not None and self.world.now >= end
        return (
            purpose in PURPOSES[allowed] and not is_stopped and not is_over and consent not in self.superseded
        )

    # The rules

    def new(self, purpose: str, end: str | None) -> Granted:
        code = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": purpose}
        period = {"start": "2026-01-01", **({"end": end} if end else {})}
        return Granted(fhir_consent(purpose=[code], period=period))

    @rule(target=consents, purpose=st.sampled_from(sorted(PURPOSES)), end=st.sampled_from(list(ENDS)))
    def grant(self, purpose: str, end: str | None) -> Granted:
        found = self.new(purpose, end)
        expected = ENDS[end] is None or self.world.now < (ENDS[end] or 0)
        assert self.happens("GrantConsent", found) == expected
        if expected:
            self.says[found.id] = (purpose, ENDS[end])
        return found

    @rule(target=consents, old=consents, purpose=st.sampled_from(sorted(PURPOSES)))
    def replace(self, old: Granted, purpose: str) -> Granted:
        found = self.new(purpose, None)
        is_stopped = any(one == old.id for one, _ in self.stopped)
        expected = old.id in self.says and old.id not in self.superseded and not is_stopped
        assert self.happens("ReplaceConsent", found, replaces=old.id) == expected
        if expected:
            self.says[found.id] = (purpose, None)
            self.superseded.add(old.id)
        return found

    def happens(self, name: str, consent: Granted, **args: str) -> bool:
        try:
            self.world.submit(name, secret={"openings": [consent.opening]}, **consent.args, **args)
        except Refused:
            return False
        return True

    @rule(consent=consents, org=st.sampled_from([RIVERSIDE, LAKESIDE]))
    def revoke(self, consent: Granted, org: str) -> None:
        expected = consent.id in self.says and (consent.id, org) not in self.stopped
        try:
            self.world.submit("RevokeConsent", as_org=org, consent=consent.id)
        except Refused:
            assert not expected
        else:
            assert expected
            self.stopped.add((consent.id, org))

    @rule(target=jobs, purpose=st.sampled_from(["HRESCH", "CLINTRCH", "TREAT"]))
    def new_job(self, purpose: str) -> str:
        job = some_id()
        self.released[job], self.purpose[job] = [], purpose
        return job

    @rule(job=jobs, chosen=st.lists(consents, max_size=3, unique_by=lambda one: one.id))
    def release(self, job: str, chosen: list[Granted]) -> None:
        attempt, purpose = len(self.released[job]) + 1, self.purpose[job]
        try:
            release(self.world, job, *chosen, attempt=attempt, asked=request(purpose=purpose))
        except Refused:
            assert job in self.delivered or any(one.id not in self.says for one in chosen)
            return
        permitted = {one.id for one in chosen if self.holds(one.id, purpose)}
        value = self.world.value(f"release/{job}/{attempt}")
        assert value["decision"] == ("permit" if permitted else "deny")
        assert {consent for part in value["parts"] for consent in part["consents"]} == permitted
        self.released[job].append(permitted)

    @rule(job=jobs, chosen=st.lists(consents, min_size=1, max_size=3, unique_by=lambda one: one.id))
    def deliver(self, job: str, chosen: list[Granted]) -> None:
        attempt, purpose = len(self.released[job]), self.purpose[job]
        outputs = [(one,) for one in chosen] + [tuple(chosen)] * (len(chosen) > 1)
        asked = request(purpose=purpose)
        last = self.released[job][-1] if attempt else set()
        try:
            deliver(self.world, job, *outputs, attempt=attempt, asked=asked)
        except Refused:
            assert job in self.delivered or not {one.id for one in chosen} <= last
            return
        assert job not in self.delivered
        assert {one.id for one in chosen} <= last
        holding = {one.id for one in chosen if self.holds(one.id, purpose)}
        value = self.world.value(f"deliver/{job}")
        delivered = {tuple(output["consents"]) for output in value["outputs"]}
        assert delivered == {
            tuple(sorted(one.id for one in output))
            for output in outputs
            if holding >= {one.id for one in output}
        }
        assert set(value["withheld"]) == {one.id for one in chosen} - holding
        self.delivered.add(job)

    @rule(days=st.integers(1, 90))
    def time_passes(self, days: int) -> None:
        self.world.now += days * DAY

    # What always holds

    @invariant()
    def a_stop_stays(self) -> None:
        for consent, org in self.stopped:
            assert self.world.value(f"revoked/{consent}/{org}")["set"] is True
            assert self.world.policies[f"revoked/{consent}/{org}"].orgs == (LAKESIDE, RIVERSIDE)

    @invariant()
    def every_consent_has_its_marks_and_the_model_stands(self) -> None:
        for consent in self.says:
            assert self.world.value(f"consent/{consent}")["marks"] == [LAKESIDE, RIVERSIDE]
        assert self.world.value(f"model/{MODEL}")["version"] == 1


Story.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestStory = Story.TestCase

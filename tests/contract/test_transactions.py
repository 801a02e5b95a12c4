"""Each transaction: the happy path first, then every way to be refused. Each runs twice."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit import merkle
from ledger.contract import canonical
from ledger.contract.access import MOST_OPEN
from ledger.contract.errors import Refused
from ledger.contract.in_force import in_force, keys_of, standing
from ledger.contract.state import Endorsers
from ledger.contract.transactions import CONTRACT_VERSION, TRANSACTIONS, source_digest
from tests.contract.world import (
    LAKESIDE,
    MODEL,
    RIVERSIDE,
    START,
    Granted,
    World,
    approve_model,
    deliver,
    fhir_consent,
    grant,
    release,
    request,
    some_id,
)
from tests.ledger.conformance import checkpoint_args

DAY = 86_400


@pytest.fixture
def world() -> World:
    found = World(RIVERSIDE, LAKESIDE)
    approve_model(found)
    return found


def refused(code: str) -> Any:
    return pytest.raises(Refused, match=f"^{code}: ")


def is_in_force(world: World, consent: Granted) -> bool:
    value = world.state.get(f"consent/{consent.id}")
    marks = world.value(f"consent/{consent.id}")["marks"]
    keys = keys_of(consent.id, marks)
    return in_force(value, [world.state.get(key) for key in keys[1:]], world.now)


# GrantConsent


def test_a_grant_puts_the_consent_and_a_mark_for_each_organisation(world: World) -> None:
    alice = grant(world)
    assert world.value(f"consent/{alice.id}") == {
        "commitment": alice.commitment,
        "expires": 1_909_094_400,  # 2030-07-01: the last day counts in whole
        "marks": [LAKESIDE, RIVERSIDE],
        "state": "active",
        "version": 1,
    }
    for org in (LAKESIDE, RIVERSIDE):
        assert world.state[f"revoked/{alice.id}/{org}"] == b'{"set":false}'
        assert world.policies[f"revoked/{alice.id}/{org}"] == Endorsers(1, (org,))
    assert world.events[-1] == ("ConsentGranted", {"consent": alice.id})
    assert is_in_force(world, alice)


def test_nothing_of_the_opening_reaches_the_ledger(world: World) -> None:
    alice = grant(world)
    release(world, some_id(), alice)
    stored = b"".join(key.encode() + value for key, value in world.state.items())
    for secret in (alice.key.hex(), alice.canonical["patient"], "HRESCH", "Observation"):
        assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"consent": "AB" * 32}, "invalid_arguments"),
        ({"consent": "ab" * 31}, "invalid_arguments"),
        ({"consent": None}, "invalid_arguments"),
        ({"commitment": "ab" * 32}, "commitment_mismatch"),
        ({"commitment": 5}, "invalid_arguments"),
        ({"expires": None}, "expiry_mismatch"),
        ({"expires": 1_909_094_401}, "expiry_mismatch"),
        ({"expires": True}, "invalid_arguments"),
        ({"expires": -1}, "invalid_arguments"),
        ({"expires": 1.5}, "not_canonical"),
        ({"extra": 1}, "invalid_arguments"),
    ],
)
def test_a_malformed_grant_is_refused(world: World, change: dict[str, Any], code: str) -> None:
    alice, before = Granted(), dict(world.state)
    with refused(code):
        world.submit("GrantConsent", secret={"openings": [alice.opening]}, **{**alice.args, **change})
    assert world.state == before


def test_a_grant_needs_exactly_its_own_opening(world: World) -> None:
    alice, other = Granted(), Granted()
    for openings in ([], [other.opening], [alice.opening, other.opening]):
        with refused("openings_mismatch"):
            world.submit("GrantConsent", secret={"openings": openings}, **alice.args)
    with refused("commitment_mismatch"):
        forged = {**alice.opening, "key": other.key.hex()}
        world.submit("GrantConsent", secret={"openings": [forged]}, **alice.args)
    with refused("invalid_arguments"):
        world.submit("GrantConsent", secret={"openings": [alice.opening] * 2}, **alice.args)
    for secret in ({}, {"openings": [alice.opening], "more": 1}):
        with refused("invalid_transient"):
            world.submit("GrantConsent", secret=secret, **alice.args)


def test_an_id_is_granted_once(world: World) -> None:
    alice = grant(world)
    with refused("consent_exists"):
        world.submit("GrantConsent", secret={"openings": [alice.opening]}, **alice.args)


def test_only_an_active_consent_that_has_not_expired_is_granted(world: World) -> None:
    with refused("consent_not_active"):
        grant(world, {**fhir_consent(), "status": "inactive"})
    with refused("consent_expired"):
        grant(world, fhir_consent(period={"end": "2026-12-31"}))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"extra": 1},
        {"patient": ""},
        {"status": "fine"},
        {"expires": None},
        {"provision": {}},
        {"provision": {"path": "", "type": "maybe"}},
        {"provision": {"path": "", "type": "permit", "purposes": "HRESCH"}},
        {"provision": {"path": "", "type": "permit", "purposes": []}},
        {"provision": {"path": "", "type": "permit", "unheard_of": ["x"]}},
        {"provision": {"path": "", "type": "permit", "provisions": [{"type": "permit"}]}},
    ],
)
def test_an_opening_that_is_no_canonical_consent_is_refused(world: World, change: dict[str, Any]) -> None:
    alice = Granted()
    alice.canonical = {**alice.canonical, **change}
    args = {**alice.args, "expires": 1_909_094_400}
    with refused("consent_malformed"):
        world.submit("GrantConsent", secret={"openings": [alice.opening]}, **args)


def test_without_an_organisation_nothing_is_granted() -> None:
    with refused("no_organisations"):
        grant(World())


# GrantConsents


def grant_together(world: World, *grants: Granted, **changes: Any) -> None:
    in_order = sorted(grants, key=lambda one: one.id)
    args = {"grants": [one.args for one in in_order], **changes}
    world.submit("GrantConsents", secret={"openings": [one.opening for one in grants]}, **args)


def test_grants_together_write_what_the_single_ones_do(world: World) -> None:
    grants = [Granted() for _ in range(5)]
    single = World(RIVERSIDE, LAKESIDE)
    for one in grants:
        single.submit("GrantConsent", secret={"openings": [one.opening]}, **one.args)
    grant_together(world, *grants)
    assert world.state.items() >= {(key, value) for key, value in single.state.items() if "/" in key}
    assert world.policies.items() >= single.policies.items()
    assert world.events[-1] == ("ConsentsGranted", {"consents": sorted(one.id for one in grants)})


def test_grants_together_are_all_or_none(world: World) -> None:
    good, other = Granted(), Granted({**fhir_consent(), "status": "inactive"})
    before = dict(world.state)
    with refused("consent_not_active"):
        grant_together(world, good, other)
    there = grant(world)
    before = dict(world.state)
    with refused("consent_exists"):
        grant_together(world, good, there)
    forged = Granted()
    forged.key = good.key
    with refused("commitment_mismatch"):
        grant_together(world, good, grants=[{**good.args, "commitment": "ab" * 32}])
    assert world.state == before


def test_grants_together_come_in_order_and_each_once(world: World) -> None:
    one, two = sorted((Granted(), Granted()), key=lambda each: each.id)
    for grants in (
        [two.args, one.args],
        [one.args, one.args],
        [],
        [{**one.args, "replaces": two.id}],
        {},
        [1],
    ):
        with refused("invalid_arguments"):
            grant_together(world, one, two, grants=grants)
    with refused("invalid_arguments"):
        grant_together(world, one, grants=[{**one.args, "consent": some_id()} for _ in range(1001)])


# ReplaceConsent


def replace(world: World, old: Granted, new: Granted | None = None) -> Granted:
    new = new or Granted()
    world.submit("ReplaceConsent", replaces=old.id, secret={"openings": [new.opening]}, **new.args)
    return new


def test_a_replacement_supersedes_the_old_consent(world: World) -> None:
    old = grant(world)
    new = replace(world, old)
    assert (is_in_force(world, old), is_in_force(world, new)) == (False, True)
    assert world.value(f"consent/{old.id}")["state"] == "superseded"
    assert world.value(f"consent/{new.id}")["version"] == 2
    assert world.events[-1] == ("ConsentReplaced", {"consent": new.id, "replaces": old.id})


def test_a_revoked_superseded_or_unknown_consent_is_not_replaced(world: World) -> None:
    old = grant(world)
    with refused("consent_unknown"):
        replace(world, Granted())
    with refused("consent_exists"):
        replace(world, old, old)
    replace(world, old)
    with refused("consent_superseded"):
        replace(world, old)
    stopped = grant(world)
    world.submit("RevokeConsent", consent=stopped.id)
    with refused("consent_revoked"):
        replace(world, stopped)


def test_an_expired_consent_may_be_renewed(world: World) -> None:
    old = grant(world, fhir_consent(period={"end": "2027-02-01"}))
    world.now += 60 * DAY
    assert is_in_force(world, replace(world, old))


# RevokeConsent


@pytest.mark.parametrize("role", ["gateway", "keyholder", "admin"])
def test_one_organisation_stops_and_none_alone_can_undo_it(world: World, role: str) -> None:
    alice = grant(world)
    world.submit("RevokeConsent", as_org=LAKESIDE, as_role=role, consent=alice.id)
    key = f"revoked/{alice.id}/{LAKESIDE}"
    assert world.value(key) == {"at": world.now, "set": True}
    assert world.policies[key] == Endorsers(2, (LAKESIDE, RIVERSIDE))
    assert not is_in_force(world, alice)
    assert world.events[-1] == ("ConsentRevoked", {"at": world.now, "consent": alice.id})
    with refused("already_revoked"):
        world.submit("RevokeConsent", as_org=LAKESIDE, consent=alice.id)
    world.submit("RevokeConsent", as_org=RIVERSIDE, consent=alice.id)


@pytest.mark.parametrize(
    "damage", [None, b"", b"garbage", b'{"set":1}', b'{"set": false}', b'{"at":1,"set":false}']
)
def test_a_missing_or_malformed_mark_refuses_and_can_still_be_set(world: World, damage: bytes | None) -> None:
    alice = grant(world)
    key = f"revoked/{alice.id}/{RIVERSIDE}"
    if damage is None:
        del world.state[key]
    else:
        world.state[key] = damage
    assert not is_in_force(world, alice)
    with_mark = world.state.get(key)
    expected = "mark_missing" if damage is None else "mark_malformed"
    marks = [world.state.get(f"revoked/{alice.id}/{LAKESIDE}"), with_mark]
    assert standing(world.state[f"consent/{alice.id}"], marks, world.now) == expected
    assert release(world, some_id(), alice).payload["decision"] == "deny"
    world.submit("RevokeConsent", consent=alice.id)
    assert world.value(key)["set"] is True


def test_a_stranger_organisation_and_an_unknown_consent_are_refused(world: World) -> None:
    alice = grant(world)
    with refused("not_an_organisation"):
        world.submit("RevokeConsent", as_org="CharlieMSP", consent=alice.id)
    with refused("consent_unknown"):
        world.submit("RevokeConsent", consent=some_id())


# AddMarks, RegisterOrganisation


def test_an_organisation_that_joins_later_gets_its_marks(world: World) -> None:
    alice, stopped = grant(world), grant(world)
    world.submit("RevokeConsent", consent=stopped.id)
    world.submit("RegisterOrganisation", org="HillMSP")
    assert is_in_force(world, alice)
    world.submit("AddMarks", consents=[alice.id, stopped.id, some_id()])
    assert world.value(f"consent/{alice.id}")["marks"] == ["HillMSP", LAKESIDE, RIVERSIDE]
    assert world.policies[f"revoked/{alice.id}/HillMSP"] == Endorsers(1, ("HillMSP",))
    assert f"revoked/{stopped.id}/HillMSP" not in world.state
    assert world.events[-1] == ("MarksAdded", {"consents": [alice.id]})
    assert is_in_force(world, alice)
    world.submit("RevokeConsent", as_org="HillMSP", consent=alice.id)
    assert world.policies[f"revoked/{alice.id}/HillMSP"].needed == 3
    assert not is_in_force(world, alice)


def test_adding_marks_never_writes_over_a_mark(world: World) -> None:
    alice = grant(world)
    world.submit("RegisterOrganisation", org="HillMSP")
    world.state[f"revoked/{alice.id}/HillMSP"] = b'{"at":1,"set":true}'
    before = dict(world.state)
    world.submit("AddMarks", consents=[alice.id])
    assert world.state == before


def test_an_organisation_is_registered_once_and_lists_are_bounded(world: World) -> None:
    assert world.value("organisations") == [LAKESIDE, RIVERSIDE]
    with refused("organisation_exists"):
        world.submit("RegisterOrganisation", org=LAKESIDE)
    for org in ("", "a/b", "a" * 65, "é", None):
        with refused("invalid_arguments"):
            world.submit("RegisterOrganisation", org=org)
    for consents in ([], [some_id()] * 2, [f"{n:064x}" for n in range(1001)], ["x"], "ab"):
        with refused("invalid_arguments"):
            world.submit("AddMarks", consents=consents)


# RegisterModel


def test_a_model_is_approved_and_suspended(world: World) -> None:
    approve_model(world, "suspended")
    assert world.value(f"model/{MODEL}") == {
        "card": "cc" * 32,
        "provider": "Organization/helix",
        "state": "suspended",
        "version": 2,
    }
    assert world.events[-1] == ("ModelRegistered", {"model": MODEL, "state": "suspended", "version": 2})
    with refused("model_unchanged"):
        approve_model(world, "suspended")
    with refused("provider_changed"):
        world.submit(
            "RegisterModel", model=MODEL, card="cc" * 32, provider="Organization/x", state="approved"
        )
    with refused("invalid_arguments"):
        approve_model(world, "maybe")


# Release


def test_a_release_names_what_may_be_opened(world: World) -> None:
    alice, job = grant(world), some_id()
    result = release(world, job, alice)
    assert world.value(f"release/{job}/1") == {
        "at": START,
        "consents": [{"consent": alice.id, "decision": "permit"}],
        "contract": {"source": source_digest(), "version": CONTRACT_VERSION},
        "decision": "permit",
        "model": MODEL,
        "nonce": "ee" * 16,
        "parts": [{"consents": [alice.id], "key": "bb" * 32, "part": 0}],
        "request": canonical.digest(request()),
    }
    assert result.payload["decision"] == "permit"
    assert world.events[-1] == ("Released", {"attempt": 1, "decision": "permit", "job": job})


def test_a_denied_request_commits_a_release_that_opens_nothing(world: World) -> None:
    alice, job = grant(world), some_id()
    release(world, job, alice, asked=request(purpose="HMARKT"))
    value = world.value(f"release/{job}/1")
    assert (value["decision"], value["parts"]) == ("deny", [])
    assert value["consents"] == [{"consent": alice.id, "decision": "deny"}]
    with refused("not_released"):
        deliver(world, job, (alice,), asked=request(purpose="HMARKT"))


def test_no_consents_at_all_is_a_committed_denial(world: World) -> None:
    job = some_id()
    release(world, job)
    assert world.value(f"release/{job}/1")["decision"] == "deny"


def test_only_permitted_consents_stand_in_the_parts(world: World) -> None:
    alice, stopped, job = grant(world), grant(world), some_id()
    world.submit("RevokeConsent", consent=stopped.id)
    release(world, job, alice, stopped)
    value = world.value(f"release/{job}/1")
    assert value["parts"] == [{"consents": [alice.id], "key": "bb" * 32, "part": 0}]
    assert {one["consent"]: one["decision"] for one in value["consents"]} == {
        alice.id: "permit",
        stopped.id: "deny",
    }


def test_within_a_subject_deny_wins(world: World) -> None:
    permit = grant(world)
    deny = grant(world, {**fhir_consent(type="deny", purpose=None), "provision": {"type": "deny"}})
    alone, together = some_id(), some_id()
    release(world, alone, permit, deny)
    assert world.value(f"release/{alone}/1")["decision"] == "permit"
    release(world, together, permit, deny, secret={"subjects": [[permit.id, deny.id]]})
    assert world.value(f"release/{together}/1")["decision"] == "deny"


def test_one_consent_out_of_force_denies_its_subject(world: World) -> None:
    first, second, job = grant(world), grant(world), some_id()
    world.submit("RevokeConsent", consent=second.id)
    release(world, job, first, second, secret={"subjects": [[first.id, second.id]]})
    assert world.value(f"release/{job}/1")["decision"] == "deny"


@pytest.mark.parametrize("end", ["superseded", "expired", "early"])
def test_what_is_not_in_force_never_permits(world: World, end: str) -> None:
    period = {"start": "2028-01-01"} if end == "early" else {"end": "2027-06-30"}
    alice, job = grant(world, fhir_consent(period=period)), some_id()
    if end == "superseded":
        replace(world, alice)
    if end == "expired":
        world.now = 1_814_400_000  # 2027-07-01T00:00:00Z, the first second after the last day
    release(world, job, alice)
    assert world.value(f"release/{job}/1")["decision"] == "deny"


def test_the_last_second_of_the_last_day_permits(world: World) -> None:
    alice, job = grant(world, fhir_consent(period={"end": "2027-06-30"})), some_id()
    world.now = 1_814_400_000 - 1
    release(world, job, alice)
    assert world.value(f"release/{job}/1")["decision"] == "permit"


def test_attempts_come_in_order_and_are_of_one_request(world: World) -> None:
    alice, job = grant(world), some_id()
    for attempt, code in ((2, "attempt_out_of_order"), (0, "invalid_arguments"), (True, "invalid_arguments")):
        with refused(code):
            release(world, job, alice, attempt=attempt)
    release(world, job, alice)
    for attempt in (1, 3):
        with refused("attempt_out_of_order"):
            release(world, job, alice, attempt=attempt)
    with refused("request_changed"):
        release(world, job, alice, attempt=2, asked=request(purpose="TREAT"))
    release(world, job, alice, attempt=2)
    deliver(world, job, (alice,), attempt=2)
    with refused("already_delivered"):
        release(world, job, alice, attempt=3)


def test_a_model_that_is_not_approved_is_refused(world: World) -> None:
    alice = grant(world)
    with refused("model_not_approved"):
        release(world, some_id(), alice, asked=request(model="dd" * 32))
    approve_model(world, "suspended")
    with refused("model_not_approved"):
        release(world, some_id(), alice)


def test_a_release_without_a_model_is_decided_by_the_consents(world: World) -> None:
    bound, free = grant(world), grant(world, fhir_consent(extension=[]))
    for consent, expected in ((bound, "deny"), (free, "permit")):
        assert release(world, some_id(), consent, asked=request(model=None)).payload["decision"] == expected


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"nonce": "ab"}, "invalid_arguments"),
        ({"request": "ab" * 32}, "request_mismatch"),
        ({"model": None}, "request_mismatch"),
        ({"parts": {}}, "invalid_arguments"),
        ({"parts": [{"part": 0, "key": "bb" * 32, "consents": []}]}, "invalid_arguments"),
        ({"parts": [{"part": 0, "key": "bb" * 32, "consents": ["aa" * 32], "more": 1}]}, "invalid_arguments"),
        ({"parts": [{"part": 0, "key": "bb" * 32, "consents": ["aa" * 32]}]}, "consent_unknown"),
        ({"parts": []}, "openings_mismatch"),
        ({"asked": request(version=2)}, "request_malformed"),
        ({"asked": request(purpose="FUN")}, "request_malformed"),
        ({"asked": request(resources=[])}, "request_malformed"),
        ({"asked": request(resources=[{"type": "Thing", "codes": None}])}, "request_malformed"),
        ({"asked": request(extra=1)}, "request_malformed"),
        ({"secret": {"subjects": []}}, "subjects_mismatch"),
        ({"secret": {"subjects": {}}}, "invalid_arguments"),
        ({"secret": {"other": []}}, "invalid_transient"),
        ({"as_role": "gateway"}, "role_not_allowed"),
    ],
)
def test_a_malformed_release_commits_nothing(world: World, change: dict[str, Any], code: str) -> None:
    alice = grant(world)
    before = dict(world.state)
    with refused(code):
        release(world, some_id(), alice, **change)
    assert world.state == before


def test_parts_share_neither_key_nor_consent_nor_subject(world: World) -> None:
    alice, bob = grant(world), grant(world)
    one = {"part": 0, "key": "bb" * 32, "consents": [alice.id]}
    for other in (
        {"part": 0, "key": "cc" * 32, "consents": [bob.id]},
        {"part": 1, "key": "bb" * 32, "consents": [bob.id]},
        {"part": 1, "key": "cc" * 32, "consents": [alice.id]},
    ):
        with refused("invalid_arguments"):
            release(world, some_id(), alice, bob, parts=[one, other])
    split = [one, {"part": 1, "key": "cc" * 32, "consents": [bob.id]}]
    with refused("subject_split"):
        release(world, some_id(), alice, bob, parts=split, secret={"subjects": [[alice.id, bob.id]]})


def test_a_thousand_consents_and_no_more(world: World) -> None:
    ids = [f"{number:064x}" for number in range(1001)]
    with refused("consent_unknown|openings_mismatch"):
        release(world, some_id(), parts=[{"part": 0, "key": "bb" * 32, "consents": ids[:1000]}])
    halves = [
        {"part": n, "key": f"{n:064x}", "consents": part} for n, part in enumerate((ids[:500], ids[500:]))
    ]
    for parts in (halves, [{"part": 0, "key": "bb" * 32, "consents": ids}]):
        with refused("invalid_arguments"):
            release(world, some_id(), parts=parts)


# Deliver


def test_a_delivery_names_the_outputs_that_may_leave(world: World) -> None:
    alice, job = grant(world), some_id()
    release(world, job, alice)
    deliver(world, job, (alice,))
    assert world.value(f"deliver/{job}") == {
        "at": START,
        "attempt": 1,
        "outputs": [{"consents": [alice.id], "output": "0" * 64}],
        "withheld": [],
    }
    assert world.events[-1][0] == "Delivered"
    with refused("already_delivered"):
        deliver(world, job, (alice,))


def test_what_was_stopped_between_the_doors_is_withheld(world: World) -> None:
    alice, stopped, job = grant(world), grant(world), some_id()
    release(world, job, alice, stopped)
    world.submit("RevokeConsent", as_org=LAKESIDE, consent=stopped.id)
    deliver(world, job, (alice,), (stopped,), (alice, stopped))
    value = world.value(f"deliver/{job}")
    # An aggregate of both is all or nothing.
    assert value["outputs"] == [{"consents": [alice.id], "output": "0" * 64}]
    assert value["withheld"] == [stopped.id]


def test_a_model_suspended_between_the_doors_delivers_nothing(world: World) -> None:
    alice, job = grant(world), some_id()
    release(world, job, alice)
    approve_model(world, "suspended")
    deliver(world, job, (alice,))
    assert world.value(f"deliver/{job}")["withheld"] == [alice.id]


def test_a_consent_that_expires_between_the_doors_is_withheld(world: World) -> None:
    alice, job = grant(world, fhir_consent(period={"end": "2027-01-15"})), some_id()
    release(world, job, alice)
    world.now += 2 * DAY
    deliver(world, job, (alice,))
    assert world.value(f"deliver/{job}")["outputs"] == []


def test_only_what_the_last_attempt_was_released_is_delivered(world: World) -> None:
    alice, charlie, job = grant(world), grant(world), some_id()
    with refused("not_released"):
        deliver(world, job, (alice,))
    release(world, job, alice)
    with refused("not_released"):
        deliver(world, job, (charlie,))
    with refused("request_mismatch"):
        deliver(world, job, (alice,), asked=request(purpose="TREAT"))
    with refused("invalid_arguments"):
        deliver(world, job, (alice,), outputs=[{"output": "0" * 64, "consents": []}])
    release(world, job, alice, attempt=2)
    with refused("attempt_superseded"):
        deliver(world, job, (alice,))


# EmergencyAccess, SubjectAccess, Checkpoint


def emergency(world: World, *, access: str = "", seconds: int = 3600, **said: Any) -> str:
    access = access or some_id()
    args = {"access": access, "digest": "dd" * 32, "expires": world.now + seconds}
    world.submit("EmergencyAccess", **args, **said)
    return access


def test_an_own_copy_is_recorded_once_with_its_end(world: World) -> None:
    access, end = some_id(), START + 30 * DAY
    world.submit("SubjectAccess", access=access, digest="dd" * 32, expires=end)
    assert world.value(f"access/{access}") == {
        "at": START,
        "digest": "dd" * 32,
        "expires": end,
        "kind": "subject",
    }
    assert world.events[-1] == ("Accessed", {"access": access, "kind": "subject"})
    with refused("access_exists"):
        world.submit("SubjectAccess", access=access, digest="dd" * 32, expires=end)
    with refused("access_exists"):
        emergency(world, access=access)
    for wrong in (START, end + 1):
        with refused("access_expiry"):
            world.submit("SubjectAccess", access=some_id(), digest="dd" * 32, expires=wrong)


def test_an_emergency_is_recorded_under_its_organisations_own_key(world: World) -> None:
    for org in (LAKESIDE, RIVERSIDE):
        assert world.state[f"emergency/{org}"] == b'{"open":[]}'
        assert world.policies[f"emergency/{org}"] == Endorsers(1, (org,))
    before = dict(world.state)
    access = emergency(world, seconds=DAY)
    entry = {"access": access, "at": START, "digest": "dd" * 32, "expires": START + DAY}
    assert world.value(f"emergency/{RIVERSIDE}") == {"open": [entry]}
    # It writes nothing that takes another organisation.
    changed = {key for key in world.state if world.state[key] != before.get(key)}
    assert changed == {f"emergency/{RIVERSIDE}"}
    assert world.events[-1] == ("Accessed", {"access": access, "kind": "emergency"})
    for wrong in (0, DAY + 1):
        with refused("access_expiry"):
            emergency(world, seconds=wrong)


def test_an_emergency_is_recorded_once(world: World) -> None:
    access = emergency(world)
    with refused("access_exists"):
        emergency(world, access=access)
    world.submit("CompleteEmergency", access=access)
    emergency(world)
    assert access not in str(world.value(f"emergency/{RIVERSIDE}"))
    with refused("access_exists"):
        emergency(world, access=access)


def test_the_rest_complete_an_emergency_whenever_they_are_back(world: World) -> None:
    access, end = emergency(world), START + 3600
    world.now += 7 * DAY
    world.submit("CompleteEmergency", access=access)
    assert world.value(f"access/{access}/{RIVERSIDE}") == {
        "at": world.now,
        "digest": "dd" * 32,
        "expires": end,
        "kind": "emergency",
    }
    assert world.events[-1] == ("EmergencyCompleted", {"access": access})
    with refused("access_exists"):
        world.submit("CompleteEmergency", access=access)
    with refused("access_unknown"):
        world.submit("CompleteEmergency", access=some_id())


def test_no_other_organisation_takes_an_emergencys_place(world: World) -> None:
    """Its id is known once it is recorded: whoever uses it too keeps nothing of it from being completed."""
    access = emergency(world)
    with refused("access_unknown"):
        world.submit("CompleteEmergency", access=access, as_org=LAKESIDE)
    emergency(world, access=access, as_org=LAKESIDE)
    world.submit("CompleteEmergency", access=access, as_org=LAKESIDE)
    world.submit("SubjectAccess", access=access, digest="ee" * 32, expires=START + 60)
    world.submit("CompleteEmergency", access=access)
    assert world.value(f"access/{access}/{RIVERSIDE}")["digest"] == "dd" * 32


def test_only_so_many_are_recorded_before_the_rest_saw_some(world: World) -> None:
    opened = [emergency(world) for _ in range(MOST_OPEN)]
    with refused("emergencies_not_completed"):
        emergency(world)
    emergency(world, as_org=LAKESIDE)
    world.submit("CompleteEmergency", access=opened[7])
    access = emergency(world)
    found = [one["access"] for one in world.value(f"emergency/{RIVERSIDE}")["open"]]
    assert found == [*opened[:7], *opened[8:], access]


@pytest.mark.parametrize("value", [None, b"who knows", b'{"open":[{"access":"x"}]}', b'{"open":7}', b"[]"])
def test_a_key_that_is_missing_or_garbled_keeps_nobody_from_an_emergency(
    world: World, value: bytes | None
) -> None:
    """A ledger from before there were such keys has none: the first emergency makes it."""
    key = f"emergency/{RIVERSIDE}"
    del world.state[key], world.policies[key]
    if value is not None:
        world.state[key] = value
    access = emergency(world)
    assert [one["access"] for one in world.value(key)["open"]] == [access]
    assert (key in world.policies) == (value is None)
    with refused("not_an_organisation"):
        emergency(world, as_org="StrangerMSP")


LOG = "riverside/audit"


def anchor(world: World, leaves: list[bytes], previous: int = 0, **changed: Any) -> None:
    """The log's checkpoint at its whole size, extending that of `previous` rows."""
    as_org = changed.pop("as_org", RIVERSIDE)
    world.submit("Checkpoint", as_org=as_org, **{**checkpoint_args(LOG, leaves, previous), **changed})


def log_of(size: int, word: bytes = b"row") -> list[bytes]:
    return [merkle.leaf_hash(word + b" %d" % n) for n in range(size)]


def test_a_checkpoint_extends_the_one_before(world: World) -> None:
    leaves = log_of(11)
    anchor(world, leaves[:10])
    first = {"root": merkle.root_of(leaves[:10]).hex(), "size": 10}
    assert world.value(f"checkpoint/{LOG}") == {"at": START, "org": RIVERSIDE, "previous": None, **first}
    for size in (10, 9):
        with refused("checkpoint_not_newer"):
            anchor(world, leaves[:size], previous=size)
    anchor(world, leaves, previous=10)
    value = world.value(f"checkpoint/{LOG}")
    assert (value["size"], value["previous"]) == (11, first)


def test_a_log_that_was_rewritten_gets_no_checkpoint(world: World) -> None:
    leaves = log_of(10)
    anchor(world, leaves)
    rewritten = [*log_of(3, b"another"), *leaves[3:], *log_of(4, b"new")]
    before = dict(world.state)
    with refused("checkpoint_inconsistent"):
        anchor(world, rewritten, previous=10)
    with refused("checkpoint_inconsistent"):  # nor one that says nothing of what was before
        anchor(world, [*leaves, *log_of(4, b"new")], previous=10, proof=[])
    with refused("checkpoint_passed_over"):  # nor one that begins anew under the same name
        anchor(world, rewritten)
    with refused("checkpoint_passed_over"):
        anchor(world, [*leaves, *log_of(4, b"new")], previous=8)
    assert world.state == before


def test_a_first_checkpoint_has_no_proof(world: World) -> None:
    with refused("checkpoint_inconsistent"):
        anchor(world, log_of(4), proof=["ab" * 32])
    with refused("checkpoint_passed_over"):
        anchor(world, log_of(4), previous=2)


def test_a_log_belongs_to_the_organisation_that_began_it(world: World) -> None:
    leaves = log_of(6)
    anchor(world, leaves[:4])
    with refused("log_of_another"):
        anchor(world, leaves, previous=4, as_org=LAKESIDE)
    anchor(world, log_of(2), origin="lakeside/audit", as_org=LAKESIDE)
    anchor(world, leaves, previous=4)


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_one_flipped_bit_of_a_checkpoints_proof_is_refused(old: int, more: int, data: st.DataObject) -> None:
    world = World(RIVERSIDE)
    leaves = log_of(old + more)
    anchor(world, leaves[:old])
    args = checkpoint_args(LOG, leaves, old)
    hashes = [bytes.fromhex(node) for node in (*args["proof"], args["root"])]
    place, bit = data.draw(st.integers(0, len(hashes) - 1)), data.draw(st.integers(0, 255))
    hashes[place] = (int.from_bytes(hashes[place]) ^ 1 << bit).to_bytes(32)
    with refused("checkpoint_inconsistent"):
        anchor(world, leaves, previous=old, proof=[h.hex() for h in hashes[:-1]], root=hashes[-1].hex())
    anchor(world, leaves, previous=old)


# All of them


@pytest.mark.parametrize("name", sorted(TRANSACTIONS))
def test_only_its_roles_may_submit_a_transaction(world: World, name: str) -> None:
    for role in {"keyholder", "gateway", "admin", "charlie"} - TRANSACTIONS[name][1]:
        with refused("role_not_allowed"):
            world.submit(name, as_role=role)


@pytest.mark.parametrize("name", sorted(TRANSACTIONS))
@pytest.mark.parametrize("args", [{}, {"consent": {}}, {"job": []}, {"size": "1"}])
def test_arguments_of_another_form_are_refused(world: World, name: str, args: dict[str, Any]) -> None:
    before = dict(world.state)
    with refused("invalid_arguments"):
        world.submit(name, **args)
    assert world.state == before


def test_an_unknown_transaction_and_a_stray_transient_are_refused(world: World) -> None:
    with refused("transaction_unknown"):
        world.submit("DeleteConsent")
    with refused("invalid_transient"):
        world.submit("RevokeConsent", consent=some_id(), secret={"openings": []})


def test_refusals_name_no_one(world: World) -> None:
    alice = grant(world)
    for name in TRANSACTIONS:
        with pytest.raises(Refused) as refusal:
            world.submit(name, consent=alice.id, x=json.dumps(alice.canonical))
        assert alice.id not in str(refusal.value)

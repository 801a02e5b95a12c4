"""The checker alone: hand-written histories, one rule broken in each."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.drills.history import Acknowledged, History, Key, Opening, Result, Seen, Write, check
from ledger.client import Reading
from ledger.contract import canonical

C, JOB, PUBLIC, CHUNK, OUTPUT = "c" * 64, "a" * 64, "b" * 64, "d" * 64 + "/1", "e" * 64
CONSENT: dict[str, Any] = {
    "commitment": "f" * 64,
    "expires": 1000,
    "marks": ["Org"],
    "state": "active",
    "version": 1,
}
RELEASE: dict[str, Any] = {
    "at": 100,
    "consents": [{"consent": C, "decision": "permit"}],
    "decision": "permit",
    "parts": [{"consents": [C], "key": PUBLIC, "part": 0}],
}
DELIVER: dict[str, Any] = {
    "at": 200,
    "attempt": 1,
    "outputs": [{"consents": [C], "output": OUTPUT}],
    "withheld": [],
}
STOP: dict[str, Any] = {"at": 300, "set": True}


def write(block: int, key: str, value: Any, *, raised: bool = False) -> Write:
    return Write((block, 0), key, None if value is None else canonical.dumps(value), raised)


GRANT = write(1, f"consent/{C}", CONSENT)
UNSET = write(1, f"revoked/{C}/Org", {"set": False}, raised=True)
DOOR = write(2, f"release/{JOB}/1", RELEASE)
DELIVERED = write(3, f"deliver/{JOB}", DELIVER)
REVOKED = write(4, f"revoked/{C}/Org", STOP, raised=True)


def seen(nonce: str, height: int, *doors: Write, mark: Any = None) -> Seen:
    values: dict[str, bytes | None] = {
        **{door.key: door.value for door in doors},
        f"consent/{C}": canonical.dumps(CONSENT),
        f"revoked/{C}/Org": canonical.dumps(mark or {"set": False}),
    }
    return Seen(nonce, (Reading("Org", height, values, {door.key: door.place[0] for door in doors}),))


def row(**changes: Any) -> Opening:
    return replace(Opening(150, "release", JOB, 1, 0, (C,), (CHUNK,), "p1"), **changes)


FIRST, SECOND = seen("n1", 3, DOOR), seen("n2", 4, DOOR, DELIVERED)
KEY = Key(10.0, JOB, 1, 0, CHUNK, PUBLIC)
RESULT = Result(20.0, JOB, OUTPUT)
READ = row(at=210, ground="output", part=None, opened=(OUTPUT,), proof="p2")
GOOD = History(
    writes=(GRANT, UNSET, DOOR, DELIVERED, REVOKED),
    openings=(row(), READ),
    proofs={"p1": FIRST, "p2": SECOND},
    keys=(KEY,),
    results=(RESULT,),
    stops=(Acknowledged(30.0, C),),
    revocations=(Acknowledged(31.0, C),),
    commitments={C: "f" * 64},
)


def test_a_history_that_keeps_every_promise_has_no_violation() -> None:
    assert check(GOOD) == []


def at(block: int, one: Write) -> Write:
    return replace(one, place=(block, 0))


BROKEN: dict[str, History] = {
    "release_after_revocation": replace(GOOD, writes=(GRANT, UNSET, at(2, REVOKED), at(3, DOOR))),
    "deliver_after_revocation": replace(GOOD, writes=(GRANT, UNSET, DOOR, at(3, REVOKED), at(4, DELIVERED))),
    "release_without_consent": replace(GOOD, writes=(DOOR, REVOKED)),
    "deliver_without_consent": replace(
        GOOD,
        writes=(GRANT, DOOR, write(3, GRANT.key, {**CONSENT, "state": "superseded"}), at(4, DELIVERED)),
    ),
    "release_after_expiry": replace(GOOD, writes=(GRANT, UNSET, write(2, DOOR.key, {**RELEASE, "at": 1000}))),
    "deliver_after_expiry": replace(
        GOOD, writes=(GRANT, DOOR, write(3, DELIVERED.key, {**DELIVER, "at": 1000}))
    ),
    "deliver_without_release": replace(GOOD, writes=(GRANT, UNSET, DELIVERED, REVOKED)),
    "delivered_twice": replace(GOOD, writes=(GRANT, DOOR, DELIVERED, at(4, DELIVERED))),
    "release_after_delivery": replace(
        GOOD, writes=(GRANT, DOOR, DELIVERED, write(4, f"release/{JOB}/2", RELEASE))
    ),
    "attempt_out_of_order": replace(GOOD, writes=(GRANT, write(2, f"release/{JOB}/2", RELEASE))),
    "mark_not_raised": replace(GOOD, writes=(GRANT, DOOR, DELIVERED, replace(REVOKED, raised=False))),
    "mark_cleared": replace(GOOD, writes=(GRANT, DOOR, DELIVERED, REVOKED, at(5, UNSET))),
    "consent_revived": replace(GOOD, writes=(GRANT, write(5, GRANT.key, {**CONSENT, "expires": None}))),
    "consent_spoilt": replace(GOOD, writes=(GRANT, write(5, GRANT.key, None))),
    "key_without_release": replace(GOOD, writes=(GRANT, UNSET, REVOKED)),
    "consent_not_released": replace(GOOD, openings=(row(consents=("9" * 64,)),)),
    "attempt_superseded": replace(
        GOOD,
        writes=(GRANT, DOOR, at(3, replace(DOOR, key=f"release/{JOB}/2"))),
        proofs={"p1": seen("n1", 4, DOOR)},
    ),
    "key_after_delivery": replace(GOOD, proofs={"p1": seen("n1", 4, DOOR), "p2": SECOND}),
    "result_without_deliver": replace(GOOD, writes=(GRANT, UNSET, DOOR, REVOKED)),
    "reading_without_door": replace(GOOD, proofs={"p1": seen("n1", 3), "p2": SECOND}),
    "reading_not_in_force": replace(GOOD, proofs={"p1": seen("n1", 3, DOOR, mark=STOP), "p2": SECOND}),
    "proof_does_not_hold": replace(GOOD, proofs={"p1": Seen("n1", ()), "p2": SECOND}),
    "commitment_differs": replace(GOOD, commitments={C: "0" * 64}),
    "nonce_reused": replace(GOOD, proofs={"p1": FIRST, "p2": replace(SECOND, nonce="n1")}),
    "reading_kept_too_long": replace(GOOD, openings=(row(), row(at=152), READ)),
    "height_went_back": replace(GOOD, proofs={"p1": seen("n1", 9, DOOR), "p2": SECOND}),
    "key_not_logged": replace(GOOD, openings=(READ,)),
    "result_not_logged": replace(GOOD, openings=(row(),)),
    "key_to_unnamed_public_key": replace(GOOD, keys=(replace(KEY, public_key="0" * 64),)),
    "key_after_stop": replace(GOOD, keys=(replace(KEY, asked=30.1),)),
    "key_after_revocation": replace(GOOD, stops=(), keys=(replace(KEY, asked=32.1),)),
    "result_after_stop": replace(GOOD, results=(replace(RESULT, asked=30.1),)),
    "result_after_revocation": replace(GOOD, stops=(), results=(replace(RESULT, asked=32.1),)),
    "revocation_lost": replace(GOOD, writes=(GRANT, UNSET, DOOR, DELIVERED)),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_named(rule: str) -> None:
    assert rule in {violation.rule for violation in check(BROKEN[rule])}


def test_values_may_be_younger_than_the_height_that_was_asked_before_them() -> None:
    assert check(replace(GOOD, proofs={"p1": seen("n1", 1, DOOR), "p2": SECOND})) == []


def test_a_door_of_another_block_is_not_the_one_that_stands() -> None:
    moved = seen("n1", 3, replace(DOOR, place=(1, 0)))
    assert [one.rule for one in check(replace(GOOD, proofs={"p1": moved, "p2": SECOND}))] == [
        "reading_without_door"
    ]


def test_within_delta_of_a_revocation_a_key_may_still_come() -> None:
    late = replace(GOOD, stops=(), keys=(replace(KEY, asked=31.9),), results=())
    assert check(late) == []


def test_every_rule_of_the_checker_has_a_history_that_breaks_it() -> None:
    import inspect
    import re

    from gateway.drills import history

    source = inspect.getsource(history)
    named = set(re.findall(r'(?:Violation\(|yield )"([a-z_]+)"', source))
    named |= {
        f"{door}_{what}"
        for door in ("release", "deliver")
        for what in re.findall(r'f"{door}_([a-z_]+)"', source)
    }
    named |= {
        f"{what}_{end}" for what in ("key", "result") for end in re.findall(r'f"{what}_([a-z_]+)"', source)
    }
    assert named <= BROKEN.keys()

"""JSON vectors with what is expected, failures included, through compile and decide and through the ledger.

A vector is `{"name", "consents": [FHIR], "request", "at", "items": [{…, "expect"}], "expect"}`; `expect`
holds the decision's fields, or `{"error": code}`. An item's `expect` is the code that `permits` gives.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.contract import canonical, times
from ledger.contract.consents import compile_consent
from ledger.contract.decision import Asking, compiled, decide, permits, permits_chunk
from ledger.contract.errors import Refused
from ledger.contract.requests import check_request
from tests.contract.world import RIVERSIDE, Granted, World, grant, release, some_id

VECTORS = [
    pytest.param(vector, id=f"{path.stem}: {vector['name']}")
    for path in sorted((Path(__file__).parent / "vectors").glob("*.json"))
    for vector in json.loads(path.read_text())
]


def compile_all(vector: Any) -> list[Any]:
    return [
        compile_consent(fhir, consent=str(index), patient="-")
        for index, fhir in enumerate(vector["consents"])
    ]


def seconds(text: str) -> int:
    span = times.span(text)
    assert span
    return span[0]


@pytest.mark.parametrize("vector", VECTORS)
def test_compile_and_decide(vector: Any) -> None:
    expect = vector["expect"]
    if "error" in expect:
        with pytest.raises(Refused) as refusal:
            compile_all(vector)
        assert refusal.value.code == expect["error"]
        return
    consents, at = compile_all(vector), seconds(vector["at"])
    found = decide(consents, vector["request"], at=at)
    answer = found.as_json()
    assert {name: answer[name] for name in expect} == expect
    # Compiled once or each time, from the rules as objects or as JSON: the same bytes.
    again = decide([compiled(one) for one in consents], Asking(vector["request"]), at=at)
    assert canonical.dumps(again.as_json()) == canonical.dumps(answer)
    rules = json.loads(canonical.dumps(found.rules))
    for item in vector["items"]:
        permitted, code = permits(rules, item)
        assert (permitted, code) == (item["expect"] == "permitted", item["expect"]), item
        verdict = permits_chunk(rules, item["type"], item["labels"] or ())
        assert verdict in ("mixed", "permit" if permitted else "deny"), item


@pytest.mark.parametrize("vector", [one for one in VECTORS if "error" not in one.values[0]["expect"]])
def test_the_ledger_decides_the_same(vector: Any) -> None:
    world = World(RIVERSIDE)
    world.now = seconds("2020-01-01")
    asked = vector["request"]
    if asked["model"]:
        world.submit(
            "RegisterModel", model=asked["model"], card="cc" * 32, provider="helix", state="approved"
        )
    granted: list[Granted] = []
    for fhir in vector["consents"]:
        if fhir["status"] == "active":
            granted.append(grant(world, fhir))
        else:
            with pytest.raises(Refused, match="consent_not_active"):
                grant(world, fhir)
    world.now, job = seconds(vector["at"]), some_id()
    check_request(asked)
    in_force = [one for one in granted if (one.canonical["expires"] or world.now + 1) > world.now]
    subjects = [[one.id for one in in_force]] if in_force else []
    release(world, job, *in_force, asked=asked, secret={"subjects": subjects})
    assert world.value(f"release/{job}/1")["decision"] == vector["expect"]["decision"]

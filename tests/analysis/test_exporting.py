"""What an export takes of a patient's permitted resources: types, filters, since, the newest version."""

import json
from typing import Any

from gateway.analysis.catalogue.evidence import Resource
from gateway.analysis.exporting import Export

PATIENT = "a" * 64


def lines(*bodies: dict[str, Any], **spec: Any) -> list[dict[str, Any]]:
    export = Export(
        {
            "key": "00" * 32,
            "types": ["Observation"],
            "since": None,
            "filters": {},
            "today": "2026-11-28",
            **spec,
        }
    )
    resources = [
        Resource(f"{each['resourceType']}/{each['id']}", f"{n:064x}", each) for n, each in enumerate(bodies)
    ]
    return [json.loads(line) for line in export.lines(PATIENT, resources).splitlines()]


def observation(
    id: str = "o", code: str = "2093-3", updated: str | None = None, **more: Any
) -> dict[str, Any]:
    meta = {} if updated is None else {"meta": {"lastUpdated": updated}}
    coding = {"coding": [{"system": "http://loinc.org", "code": code}]}
    return {"resourceType": "Observation", "id": id, "status": "final", "code": coding, **meta, **more}


def test_of_several_versions_the_newest_leaves() -> None:
    old = observation(updated="2024-01-01T00:00:00Z", valueInteger=1)
    new = observation(updated="2025-01-01T00:00:00Z", valueInteger=2)
    for given in ((old, new), (new, old)):
        (found,) = lines(*given)
        assert found["valueInteger"] == 2


def test_what_does_not_say_when_it_changed_is_taken_for_changed() -> None:
    since = 1_735_689_600  # 2025-01-01
    found = lines(
        observation("a", updated="2024-12-31T23:59:59Z"),
        observation("b", updated="2025-01-01T00:00:01Z"),
        observation("c"),
        observation("d", updated="soon"),
        since=since,
    )
    assert len(found) == 3


def test_every_group_of_filters_has_to_be_met_by_one_of_its_filters() -> None:
    by_scope = [[["code", [["http://loinc.org", "2093-3"]]]], [["code", [["http://loinc.org", "2085-9"]]]]]
    asked_for = [[["status", [[None, "final"]]]]]
    bodies = [
        observation("a", "2093-3"),
        observation("b", "2085-9", status="amended"),
        observation("c", "718-7"),
    ]
    found = lines(*bodies, filters={"Observation": [by_scope, asked_for]})
    assert [each["code"]["coding"][0]["code"] for each in found] == ["2093-3"]


def test_a_type_that_was_not_asked_for_does_not_leave() -> None:
    assert lines({"resourceType": "Condition", "id": "c"}) == []

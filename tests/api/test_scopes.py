"""SMART v2 scopes: what is understood, what a resource has to match, and what is refused."""

from typing import Any

import pytest

from gateway.accounts.scopes import READ, SEARCH, Scopes
from ledger.errors import InvalidInput

LAB = "http://terminology.hl7.org/CodeSystem/observation-category"


def observation(category: str = "laboratory", code: str = "2093-3") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": LAB, "code": category}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
    }


@pytest.mark.parametrize(
    ("scope", "action", "permitted"),
    [
        ("system/Observation.rs", READ, True),
        ("system/Observation.r", SEARCH, False),
        ("system/Observation.s", SEARCH, True),
        ("system/Observation.read", SEARCH, True),
        ("system/*.rs", READ, True),
        ("system/Condition.rs", READ, False),
        ("jobs", READ, False),
        (f"system/Observation.rs?category={LAB}|laboratory", READ, True),
        (f"system/Observation.rs?category={LAB}|vital-signs", READ, False),
        (f"system/Observation.rs?category={LAB}|vital-signs,{LAB}|laboratory", READ, True),
        ("system/Observation.rs?category=laboratory", READ, True),
        ("system/Observation.rs?category=|laboratory", READ, False),
        (f"system/Observation.rs?category={LAB}|", READ, True),
        ("system/Observation.rs?category=laboratory&code=http://loinc.org|2093-3", READ, True),
        ("system/Observation.rs?category=laboratory&code=http://loinc.org|718-7", READ, False),
        ("system/Observation.rs?category=http%3A%2F%2Fx%7Claboratory", READ, False),
        ("system/*.rs?category=laboratory", READ, True),
        ("system/Observation.rs?status=final", READ, True),
        ("system/Observation.r?code=718-7 system/Observation.r?category=laboratory", READ, True),
        ("system/Observation.r?code=718-7 system/Observation.r", READ, True),
    ],
)
def test_what_a_scope_covers(scope: str, action: str, permitted: bool) -> None:
    assert Scopes.read(scope).permits(observation(), action) is permitted


def test_a_resource_that_lacks_the_element_is_not_covered() -> None:
    scopes = Scopes.read("system/Observation.rs?category=laboratory")
    assert not scopes.permits({"resourceType": "Observation"}, READ)
    assert not scopes.permits({"resourceType": "Observation", "category": {"text": "laboratory"}}, READ)


@pytest.mark.parametrize(
    "scope",
    [
        "", "system/*.cruds", "system/*.", "system/*.sr", "system/*.*", "system/*.write",
        "system/Nonsense.rs", "system/observation.rs", "patient/*.rs", "user/*.rs", "launch", "openid",
        "system/Observation.rs?", "system/Observation.rs?category", "system/Observation.rs?subject=Patient/1",
        "system/Observation.rs?code=", "system/Observation.rs?code=|", "system/Observation.rs ?",
        "system/Observation.rs?code=a&_lastUpdated=gt2020", "system/Observation.rs?category:not=x",
        "jobs  jobs", " ".join(["jobs"] * 61),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(scope: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Scopes.read(scope)
    assert caught.value.code == "scope"

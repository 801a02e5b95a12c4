"""What a search of the FHIR side refuses, whatever it is sent. What it finds: tests/api/test_export.py."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("kind", ["Observation", "AuditEvent"])
@pytest.mark.parametrize(
    "query", ["_count=0", "_count=-1", "_count=1001", "_count=%D9%A3", f"_count={'9' * 5000}", "=x", "_x=1"]
)
def test_what_is_no_search_is_said_to_be_none(fhir: Callable[..., Any], kind: str, query: str) -> None:
    answer = fhir(f"/fhir/{kind}?{query}", "system/*.rs")
    (issue,) = answer.json()["issue"]
    assert answer.status_code == 400
    assert issue["details"]["coding"][0]["code"] == "parameter"

"""Every code that an AI client can be answered with has a test; here stand those that no other room shows."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rest_framework.exceptions import NotFound

from consent.models import Patient
from gateway.analysis import exports
from gateway.analysis.models import Job
from gateway.api.codes import CODES
from gateway.api.problems import exception_handler
from ledger.errors import GatewayError, KeyholderUnavailable, LedgerError, NotCommitted, ProofError
from tests.questions import ask_unread

pytestmark = pytest.mark.django_db

TESTS = Path(__file__).resolve().parents[1]
Call = Callable[..., Any]


def test_each_code_stands_in_a_test() -> None:
    written = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    assert [code for code in CODES if not re.search(f"[\"']{code}[\"']", written)] == []


@pytest.mark.parametrize(
    ("method", "headers", "status", "code"),
    [
        ("PUT", {}, 405, "method_not_allowed"),
        ("GET", {"Accept": "text/html"}, 406, "not_acceptable"),
        ("POST", {"Content_Type": "application/xml"}, 415, "unsupported_media_type"),
    ],
)
def test_what_http_itself_refuses(
    call: Call, method: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = call(method, "jobs", {}, **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotCommitted("Conflict.", validity="MVCC_READ_CONFLICT"), 503, "ledger_not_committed"),
        (ProofError("Another key signed."), 503, "ledger_proof_failed"),
        (NotFound(), 404, "not_found"),
    ],
)
def test_what_the_ledger_and_the_framework_say(error: Exception, status: int, code: str) -> None:
    answer = exception_handler(error, {})
    assert answer is not None
    assert (answer.status_code, answer.data["code"]) == (status, code)
    assert ("Retry-After" in answer) == isinstance(error, GatewayError)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (LedgerError, None, "ledger_unavailable"),
        (LedgerError, "ledger_damaged", "ledger_unavailable"),
        (KeyholderUnavailable, None, "keyholder_unavailable"),
        (GatewayError, "internal_error", "error"),
    ],
)
def test_how_our_processes_are_reached_is_not_told(
    error: type[GatewayError], code: str | None, told: str
) -> None:
    said = error("No process listens on x.sock: No such file. Start it first.", code=code)
    said.is_remote = True
    answer = exception_handler(said, {})
    assert answer is not None
    assert answer.data["detail"] == f"{CODES[told].title}."


def test_a_patient_whose_record_is_not_linked_is_not_asked(
    call: Call, question: dict[str, Any], alice: Patient
) -> None:
    alice.record_id = None
    alice.save()
    answer = call("POST", "consent-requests", question)
    assert (answer.status_code, answer.json()["code"]) == (409, "not_linked")


def test_an_export_that_failed_says_so(fhir: Call, helix: Any, alice: Patient) -> None:
    ask_unread(helix, alice, action="disclose", model="", kinds=["Observation"], sensitive=[])
    job = exports.submit(
        requester=helix, group=None, address="/fhir/$export", types=["Observation"], since=None, filters={}
    )
    Job.objects.filter(pk=job.pk).update(state=Job.State.FAILED, error_code="child_failed")
    answer = fhir(f"/fhir/bulk-status/{job.pk}", scope="system/*.rs")
    (issue,) = json.loads(answer.content)["issue"]
    assert (answer.status_code, issue["details"]["coding"][0]["code"]) == (500, "export_failed")

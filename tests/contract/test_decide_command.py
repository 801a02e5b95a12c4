"""`manage.py decide`: cases in, answers out, in a process of its own with no installation."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.contract.world import MODEL, fhir_consent

ROOT = Path(__file__).resolve().parents[2]
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"


def run(data: bytes, tmp_path: Path) -> tuple[list[Any], int]:
    done = subprocess.run(
        [sys.executable, "manage.py", "decide"],
        cwd=ROOT,
        input=data,
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "GATEWAY_HOME": str(tmp_path / "nothing-here")},
    )
    assert not (tmp_path / "nothing-here").exists()
    assert b"Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def observation(**changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "meta": {"security": [{"system": CONFIDENTIALITY, "code": "N"}]},
        "code": {"coding": [{"system": "http://loinc.org", "code": "2093-3"}]},
        "subject": {"reference": "Patient/alice"},
        "valueQuantity": {"value": 5.20, "unit": "mmol/L"},
        **changes,
    }


def case(**changes: Any) -> dict[str, Any]:
    request = {
        "purpose": "HRESCH",
        "recipient": "Organization/helix",
        "at": "2027-01-15T09:00:00+01:00",
        "model": MODEL,
        **changes.pop("request", {}),
    }
    return {
        "consents": [{**fhir_consent(), "id": "c1"}],
        "request": request,
        "resources": [observation()],
        **changes,
    }


def lines(*cases: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in cases)


def test_it_answers_each_case(tmp_path: Path) -> None:
    denied = {"consents": [], "request": case()["request"]}
    answers, status = run(lines(case(), denied), tmp_path)
    assert status == 0
    assert answers[0] == {
        "consent": "c1",
        "decision": "permit",
        "newest_wins_differs": False,
        "provision": "Consent.provision",
        "reasons": ["permitted"],
        "resources": {"Observation/o1": "permit"},
    }
    assert (answers[1]["decision"], answers[1]["consent"], answers[1]["reasons"]) == (
        "deny",
        None,
        ["no_consent"],
    )


def test_a_request_has_many_forms_and_one_meaning(tmp_path: Path) -> None:
    same = [
        {"purpose": {"system": ACT_REASON, "code": "HRESCH"}},
        {"purpose": [{"coding": [{"system": ACT_REASON, "code": "HRESCH"}]}]},
        {"purpose": ["HRESCH", "CLINTRCH"]},
        {"recipient": {"reference": "Organization/helix"}},
        {"action": "use"},
        {"action": {"coding": [{"code": "access"}]}},
        {"types": ["Observation"]},
        {"resources": [{"type": "Observation", "codes": ["http://loinc.org|2093-3"]}]},
        {"labels": ["N"]},
        {"patient": "Patient/alice"},
        {"at": "2027-01-15"},
        {"at": 1_800_000_000},
    ]
    other = [
        {"purpose": "HMARKT"},
        {"purpose": ["HRESCH", "HMARKT"]},
        {"purpose": {"system": "urn:x", "code": "HRESCH"}},
        {"purpose": "FUN"},
        {"purpose": None},
        {"recipient": "Organization/charlie"},
        {"recipient": {"identifier": {"system": "urn:npi", "value": "7"}}},
        {"recipient": None},
        {"model": None},
        {"action": "juggle"},
        {"types": ["Condition"]},
        {"resources": []},
        {"at": "2026-11-30"},
        {"at": "2030-07-01"},
    ]
    answers, status = run(lines(*(case(request=one) for one in [*same, *other])), tmp_path)
    assert status == 0
    for said, answer in zip([*same, *other], answers, strict=True):
        expected = "permit" if said in same else "deny"
        assert (answer["decision"], answer["resources"]) == (expected, {"Observation/o1": expected}), said


def test_what_is_not_covered_is_withheld(tmp_path: Path) -> None:
    resources = [
        observation(resourceType="Unicorn", id="of-an-unknown-type"),
        observation(resourceType="Condition", id="of-another-type"),
        observation(meta={}, code={"text": "?"}, id="unlabelled"),
        observation(subject={"reference": "Patient/bob"}, id="of-another-patient"),
        observation(id="twice"),
        observation(id="twice", subject={"reference": "Patient/bob"}),
        observation(id="twice"),
        observation(id="fine"),
    ]
    answers, _ = run(lines(case(resources=resources)), tmp_path)
    assert answers[0]["decision"] == "permit"
    verdicts = answers[0]["resources"]
    assert [name for name, verdict in verdicts.items() if verdict == "permit"] == ["Observation/fine"]
    assert len(verdicts) == 6


def test_bad_lines_are_answered_and_the_others_too(tmp_path: Path) -> None:
    bad = {
        b"{": "malformed_json",
        b'{"request":{},"request":{}}': "malformed_json",
        b'{"request":NaN}': "malformed_json",
        b"[" * 100_000: "malformed_json",
        b'{"x":' + b"9" * 1_000_000 + b"}": "malformed_json",
        b'{"x":"\\ud800"}': "malformed_json",
        b"\xff": "malformed_json",
        b"[]": "case_malformed",
        lines({**case(), "more": 1}).strip(): "case_malformed",
        lines(case(request={"wish": 1})).strip(): "case_malformed",
        lines(case(request={"at": None})).strip(): "case_malformed",
        lines(case(resources=[{}])).strip(): "case_malformed",
        lines(case(consents=[1])).strip(): "consent_malformed",
        lines(case(request={"patient": "Patient/bob"})).strip(): "several_patients",
    }
    answers, status = run(b"\n".join([*bad, b"", lines(case())]), tmp_path)
    assert status == 1
    assert [answer["error"] for answer in answers[:-1]] == list(bad.values())
    assert [answer["line"] for answer in answers[:-1]] == list(range(1, len(bad) + 1))
    assert answers[-1]["decision"] == "permit"
    assert "alice" not in json.dumps(answers)


def test_a_line_without_end_does_not_exhaust_memory(tmp_path: Path) -> None:
    giant = tmp_path / "giant"
    with giant.open("wb") as file:
        for _ in range(300):
            file.write(b"x" * 2**20)
        file.write(b"\n" + lines(case()))
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (400 * 2**20,) * 2);"
        "sys.argv = ['manage.py', 'decide']; exec(open('manage.py').read())"
    )
    with giant.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            stdin=file,
            capture_output=True,
            check=False,
            timeout=120,
        )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, answers[0]["error"], answers[1]["decision"]) == (1, "line_too_long", "permit")

"""The FHIR Consent of an answer, decided on by the contract: it permits what was chosen and no more."""

import json
from typing import Any

import pytest
from fhir.resources.R4B.consent import Consent as FHIRConsent

from consent import services
from ledger.contract.consents import compile_consent
from ledger.contract.decision import Decision, decide, permits_chunk
from tests.questions import MODEL, ask, grant

pytestmark = pytest.mark.django_db


def decided(consent: Any, *, at: int | None = None, kind: str = "Observation", **changes: Any) -> Decision:
    canonical = compile_consent(consent.fhir, consent=consent.id, patient="ef" * 32)
    request = {
        "action": "use",
        "model": MODEL,
        "purpose": "HRESCH",
        "recipient": consent.request.requester.reference,
        "resources": [{"type": kind, "codes": None}],
        "use": ["GRU"],
        "version": 1,
    }
    return decide([canonical], {**request, **changes}, at=at or int(consent.decided_at.timestamp()) + 1)


def test_it_permits_what_was_chosen(alice: Any, helix: Any) -> None:
    consent = grant(ask(helix, alice))
    found = decided(consent)
    assert (found.decision, found.consent) == ("permit", consent.id)
    assert permits_chunk(found.rules, "Observation", ["N"]) == "permit"


def test_it_is_valid_fhir_and_says_which_notice_was_read(alice: Any, helix: Any) -> None:
    consent = grant(ask(helix, alice), sensitive=["PSY"])
    FHIRConsent.model_validate_json(json.dumps(consent.fhir))
    assert consent.fhir["policy"][0]["uri"].startswith("ni:///sha-256;")
    assert alice.name not in json.dumps(consent.fhir)
    assert alice.record_id not in json.dumps(consent.fhir)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "cd" * 32},
        {"model": None},
        {"purpose": "HMARKT"},
        {"purpose": "TREAT"},
        {"recipient": "Organization/00000000-0000-0000-0000-000000000000"},
        {"use": ["NRES"]},
        {"use": []},
        {"action": "disclose"},
    ],
)
def test_it_permits_nothing_else(alice: Any, helix: Any, changes: dict[str, Any]) -> None:
    assert decided(grant(ask(helix, alice)), **changes).decision == "deny"


def test_a_kind_that_was_not_ticked_is_withheld(alice: Any, helix: Any) -> None:
    consent = grant(ask(helix, alice))
    assert decided(consent, kind="MedicationRequest").decision == "deny"
    rules = decided(consent).rules
    assert permits_chunk(rules, "MedicationRequest", ["N"]) == "deny"


@pytest.mark.parametrize(
    ("ticked", "labels", "expected"),
    [
        ([], ["N"], "permit"),
        ([], ["R", "PSY"], "deny"),
        ([], ["N", "PSY"], "deny"),
        ([], ["R"], "deny"),
        (["PSY"], ["R", "PSY"], "permit"),
        (["PSY"], ["R", "HIV"], "deny"),
        (["PSY"], ["R", "HIV", "PSY"], "deny"),
        (["PSY"], ["V", "PSY"], "deny"),
        (["PSY"], ["N"], "permit"),
        (["PSY"], ["R"], "deny"),
        (["PSY"], ["V"], "deny"),
    ],
)
def test_sensitive_records_need_a_tick_of_their_own(
    alice: Any, helix: Any, ticked: list[str], labels: list[str], expected: str
) -> None:
    rules = decided(grant(ask(helix, alice), sensitive=ticked)).rules
    assert permits_chunk(rules, "Observation", labels) == expected


def test_it_holds_from_the_moment_of_the_answer_to_its_end(alice: Any, helix: Any) -> None:
    consent = grant(ask(helix, alice), duration="90_days")
    start, end = int(consent.decided_at.timestamp()), int(consent.expires_at.timestamp())
    assert decided(consent, at=start - 5).decision == "deny"
    assert decided(consent, at=end).decision == "permit"
    assert decided(consent, at=end + 1).decision == "deny"


def test_a_no_permits_nothing(alice: Any, helix: Any) -> None:
    consent = services.refuse(request=ask(helix, alice), patient=alice)
    assert decided(consent).decision == "deny"

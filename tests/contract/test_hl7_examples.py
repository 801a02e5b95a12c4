"""HL7's twelve R4 Consent examples, decided as a careful reader would: in doubt, no."""

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.contract import times
from ledger.contract.consents import compile_consent
from ledger.contract.decision import Decision, decide, permits

EXAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "hl7-r4-examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="HL7's R4 examples are not beside the clone")

MEDICATION = {"type": "MedicationRequest", "id": "1", "labels": ["N"]}
TREAT, ETREAT = "TREAT", "ETREAT"


def decided(name: str, recipient: str, at: str, purpose: str = TREAT, **more: Any) -> Decision:
    fhir = json.loads((EXAMPLES / f"Consent-consent-example-{name}.json").read_text())
    span = times.span(at)
    assert span
    request = {"action": "access", "purpose": purpose, "recipient": recipient, **more}
    return decide([compile_consent(fhir, consent=name, patient="-")], request, at=span[0])


@pytest.mark.parametrize(
    ("name", "recipient", "at", "expected"),
    [
        # OPTIN bounded by a period: within it, to its last day and no longer.
        ("basic", "Practitioner/13", "2015-06-01", "permitted"),
        ("basic", "Practitioner/13", "2016-01-01T23:59:59Z", "permitted"),
        ("basic", "Practitioner/13", "2016-01-02", "consent_expired"),
        ("basic", "Practitioner/13", "1963-12-31", "consent_not_yet_valid"),
        ("notTime", "Practitioner/13", "2016-01-01", "consent_expired"),
        # OPTIN bounded by period and recipient.
        ("signature", "Practitioner/13", "2016-01-01", "permitted"),
        ("signature", "Practitioner/14", "2016-01-01", "recipient_not_named"),
        ("signature", "Practitioner/13", "2016-10-11", "consent_expired"),
        # Half an hour, stated in the zone +10:00.
        ("smartonfhir", "Practitioner/13", "2016-06-23T07:02:32Z", "consent_not_yet_valid"),
        ("smartonfhir", "Practitioner/13", "2016-06-23T07:02:33Z", "permitted"),
        ("smartonfhir", "Practitioner/13", "2016-06-23T17:32:33+10:00", "permitted"),
        ("smartonfhir", "Practitioner/13", "2016-06-23T07:32:34Z", "consent_expired"),
        # A root of type deny.
        ("notOrg", "Organization/f001", "2016-01-01", "denied_by_provision"),
        ("notOrg", "Organization/f002", "2016-01-01", "recipient_not_named"),
        # OPTIN, and a root that only points at someone: constraint or exception? Nobody is permitted.
        ("notThem", "Practitioner/f204", "2016-01-01", "not_understood"),
        ("notThem", "Practitioner/13", "2016-01-01", "recipient_not_named"),
        ("notAuthor", "Practitioner/13", "2016-01-01", "not_understood"),
        ("notThis", "Practitioner/13", "2016-01-01", "not_understood"),
        # OPTOUT.
        ("Out", "Practitioner/13", "2016-01-01", "denied_by_provision"),
        ("Out", "Organization/f001", "2016-01-01", "denied_by_provision"),
        ("grantor", "Patient/example", "2016-01-01", "denied_by_provision"),
        ("pkb", "Organization/f002", "2016-07-01", "recipient_not_named"),
    ],
)
def test_the_examples(name: str, recipient: str, at: str, expected: str) -> None:
    found = decided(name, recipient, at)
    assert (found.decision, found.reasons) == ("permit" if expected == "permitted" else "deny", (expected,))


def test_an_emergency_example_denies_emergencies_and_says_nothing_of_the_rest() -> None:
    assert decided("Emergency", "Organization/f001", "2016-01-01", ETREAT).reasons == ("denied_by_provision",)
    assert decided("Emergency", "Organization/f001", "2016-01-01", "HRESCH").reasons == (
        "purpose_not_permitted",
    )


def test_a_nested_permit_narrows_the_permit_around_it() -> None:
    rules = decided("smartonfhir", "Practitioner/13", "2016-06-23T07:10:00Z").rules
    assert permits(rules, MEDICATION) == (True, "permitted")
    assert permits(rules, {**MEDICATION, "type": "Observation"}) == (False, "not_covered")
    assert permits(rules, {**MEDICATION, "labels": []}) == (False, "unlabelled")


def test_a_denied_label_of_the_example_denies() -> None:
    found = decided("pkb", "Organization/f001", "2016-07-01", labels=["N"])
    assert (found.decision, found.reasons) == ("deny", ("denied_by_provision",))


def test_all_twelve_compile_to_the_same_bytes_twice() -> None:
    paths = sorted(EXAMPLES.glob("Consent-*.json"))
    assert len(paths) == 12
    for path in paths:
        fhir = json.loads(path.read_text())
        assert compile_consent(fhir, consent="c", patient="p") == compile_consent(
            fhir, consent="c", patient="p"
        )

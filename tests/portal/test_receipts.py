"""/choices/<id>/receipt.json and .pdf: ISO/IEC TS 27560, and a tagged PDF with the same content."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent import services
from consent.models import Consent, ConsentRequest
from gateway.demo.pages import say_yes
from tests.questions import commit, in_force

pytestmark = pytest.mark.django_db

# TS 27560 section 6: the fields without which a record is none (docs/portal.md).
HEADER = {"schema_version", "record_id", "pii_principal_id"}
PROCESSING = {"privacy_notice", "language", "purposes"}
PURPOSE = {
    "purpose", "pii_information", "pii_controllers", "storage_locations", "retention_period", "jurisdiction",
    "recipient_third_parties", "withdrawal_method",
}  # fmt: skip
PARTY = {"party_id", "party_address", "party_name", "party_contact", "party_type"}
EVENT = {"event_time", "validity_duration", "entity_id", "event_type", "event_state"}


def receipt(browser: Client, consent: Consent) -> dict[str, Any]:
    answer = browser.get(reverse("receipt_json", args=[consent.id]))
    assert answer["Content-Type"] == "application/json"
    assert answer["Content-Disposition"].startswith("attachment")
    found: dict[str, Any] = json.loads(answer.content)
    return found


def states(found: dict[str, Any]) -> list[str]:
    return [event["event_state"] for event in found["consent_record"]["event"]]


def test_every_mandatory_field_is_there(browser: Client, question: ConsentRequest) -> None:
    found = receipt(browser, in_force(question, sensitive=["PSY"]))
    assert {"receipt_id", "schema_version"} <= found.keys()
    record = found["consent_record"]
    assert record.keys() >= HEADER
    assert record["pii_processing"].keys() >= PROCESSING
    (purpose,) = record["pii_processing"]["purposes"]
    assert purpose.keys() >= PURPOSE
    assert all(value for value in purpose.values())
    parties = {party["party_id"]: party for party in record["party_identification"]}
    assert all(party.keys() >= PARTY for party in parties.values())
    assert {*purpose["pii_controllers"], *purpose["recipient_third_parties"]} == parties.keys()
    assert all(event.keys() >= EVENT for event in record["event"])


def test_it_says_what_was_chosen_and_what_was_read(browser: Client, question: ConsentRequest) -> None:
    say_yes(browser, question.id, {"kinds": ["Observation"], "sensitive": ["PSY"], "duration": "once"})
    consent = Consent.objects.get()
    found = receipt(browser, consent)
    record = found["consent_record"]
    assert record["record_id"] == consent.id
    assert record["pii_processing"]["privacy_notice"]["sha256"] == question.notice.digest
    (purpose,) = record["pii_processing"]["purposes"]
    told = {each["pii_attribute_id"]: each["sensitive_pii_category"] for each in purpose["pii_information"]}
    assert told == {"Observation": False, "PSY": True}
    assert found["consent_gateway"]["teach_back"] == {"use": 1, "refusal": 1, "stop": 1}
    assert found["consent_gateway"]["sealed_at"] is None
    assert found["consent_gateway"]["signed_with_passkey"] is False
    commit(consent)
    assert receipt(browser, consent)["consent_gateway"]["sealed_at"] is not None


def test_the_same_receipt_has_the_same_id_and_a_later_one_another(
    browser: Client, question: ConsentRequest, alice: Any
) -> None:
    consent = in_force(question)
    first = receipt(browser, consent)
    assert receipt(browser, consent) == first
    services.revoke(consent=consent, patient=alice, stop_now=lambda _: None)
    second = receipt(browser, consent)
    assert second["receipt_id"] != first["receipt_id"]
    assert states(first) == ["ConsentRequested", "ConsentGiven"]
    assert states(second) == ["ConsentRequested", "ConsentGiven", "ConsentWithdrawn"]


def test_an_end_and_a_no_have_receipts_too(browser: Client, question: ConsentRequest, alice: Any) -> None:
    consent = in_force(question)
    Consent.objects.update(expires_at=timezone.now() - timedelta(days=1))
    assert states(receipt(browser, consent))[-1] == "ConsentExpired"
    ConsentRequest.objects.update(state="pending")
    no = services.refuse(request=question, patient=alice)
    found = receipt(browser, no)
    assert states(found) == ["ConsentRequested", "ConsentRefused"]
    assert found["consent_record"]["pii_processing"]["purposes"][0]["pii_information"] == []


def test_jurisdiction_and_address_are_the_installations(
    browser: Client, question: ConsentRequest, settings: Any
) -> None:
    consent = in_force(question)
    (purpose,) = receipt(browser, consent)["consent_record"]["pii_processing"]["purposes"]
    assert purpose["jurisdiction"] == "not stated"
    settings.JURISDICTION, settings.CUSTODIAN_ADDRESS = "IE", "1 River Road, Riverside"
    record = receipt(browser, consent)["consent_record"]
    assert record["pii_processing"]["purposes"][0]["jurisdiction"] == "IE"
    assert record["party_identification"][0]["party_address"] == "1 River Road, Riverside"


def test_the_pdf_is_tagged_and_says_the_same(browser: Client, question: ConsentRequest) -> None:
    consent = in_force(question)
    answer = browser.get(reverse("receipt_pdf", args=[consent.id]))
    assert answer["Content-Type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-")
    assert b"/StructTreeRoot" in answer.content
    assert b"pdfuaid" in answer.content


@pytest.mark.parametrize("name", ["receipt_json", "receipt_pdf"])
def test_anothers_receipt_is_none(stranger: Client, question: ConsentRequest, name: str) -> None:
    consent = in_force(question)
    assert stranger.get(reverse(name, args=[consent.id])).status_code == 404
    assert stranger.get(reverse(name, args=["0" * 64])).status_code == 404


def test_done_and_the_choice_offer_it(browser: Client, question: ConsentRequest) -> None:
    consent = in_force(question)
    for page in (reverse("done", args=[question.id]), reverse("choice", args=[consent.id])):
        html = browser.get(page).content.decode()
        assert reverse("receipt_json", args=[consent.id]) in html
        assert reverse("receipt_pdf", args=[consent.id]) in html

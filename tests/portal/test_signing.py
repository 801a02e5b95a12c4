"""A yes that is signed: what the web process takes, and what it hands on to the keyholder."""

import dataclasses
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent.models import Consent, ConsentRequest
from gateway.demo.pages import to_check
from gateway.keyholder.client import Keyholder
from ledger import verify
from ledger.contract.canonical import dumps
from ledger.models import LedgerTransaction
from tests.conftest import ORIGIN
from tests.passkeys import Passkey, register
from tests.portal.test_sealed import ledger, on_ledger, relay  # noqa: F401
from tests.questions import ask

pytestmark = pytest.mark.django_db(transaction=True)

CHOICE = {"kinds": ["Observation"], "duration": "90_days"}


@pytest.fixture
def phone(alice: Any) -> Passkey:
    found = Passkey()
    register(alice.user, found)
    return found


@pytest.fixture
def keyholder(ledger: Any) -> Keyholder:  # noqa: F811
    return Keyholder(settings.KEYHOLDER_SOCKET)


def page_of(browser: Client, question: ConsentRequest, choice: dict[str, Any] = CHOICE) -> str:
    to_check(browser, question.id, choice)
    return browser.get(reverse("check", args=[question.id])).content.decode()


def shown(page: str, name: str) -> str:
    found = re.search(rf'{name}="([0-9a-f ]*)"', page)
    assert found, f"the page names no {name}"
    return found[1]


def send(browser: Client, question: ConsentRequest, page: str, assertion: Any) -> Any:
    shown_here = re.search(r'name="shown" value="([0-9a-f]+)"', page)
    assert shown_here
    form = {"shown": shown_here[1], "signature": json.dumps(assertion.to_json()) if assertion else ""}
    return browser.post(reverse("check", args=[question.id]), form)


def sign(passkey: Passkey, page: str, **forged: Any) -> Any:
    challenge = bytes.fromhex(shown(page, "data-challenge"))
    return passkey.sign(challenge, **{"origin": ORIGIN, "rp_id": "localhost", **forged})


def agree(browser: Client, question: ConsentRequest) -> Any:
    """Show again that it is you, by the password, and press the button."""
    there = reverse("check", args=[question.id])
    browser.post(reverse("account_reauthenticate"), {"password": "correct horse battery"})
    return browser.post(there, {"shown": shown(browser.get(there).content.decode(), 'name="shown" value')})


def test_what_she_signs_is_what_the_ledger_holds(
    browser: Client,
    question: ConsentRequest,
    phone: Passkey,
    keyholder: Keyholder,
    ledger: Any,  # noqa: F811
) -> None:
    page = page_of(browser, question)
    assert shown(page, "data-credentials") == phone.credential
    assert "Show that it is you" not in page
    assert send(browser, question, page, sign(phone, page)).status_code == 302
    consent = Consent.objects.get()
    assert consent.fhir["verification"][0]["verified"] is True
    assert consent.signature["credential"] == phone.credential
    relay(ledger)
    assert on_ledger(ledger, f"consent/{consent.id}")["commitment"] == shown(page, "data-challenge")
    kept = keyholder.signed_consent(consent=consent.id, patient=question.patient_id)
    assert kept["signature"]["credential"] == phone.credential
    # The keyholder knows her passkey now, and takes nothing unsigned: the page offers no way around it.
    assert keyholder.signers(patient=question.patient_id)["signing"] == [phone.credential]
    other = ask(question.requester, question.patient)
    page = page_of(browser, other)
    assert "I cannot use my passkey now" not in page
    there = f"{reverse('check', args=[other.id])}?without=1"
    answer = browser.post(there, {"shown": shown(page, 'name="shown" value')})
    assert answer.status_code == 409
    assert "There is a problem" in answer.content.decode()
    assert not other.consents.exists()


def test_the_same_signature_twice_is_one_yes(
    browser: Client, question: ConsentRequest, phone: Passkey, keyholder: Keyholder
) -> None:
    page = page_of(browser, question)
    assertion = sign(phone, page)
    for _ in range(2):
        answer = send(browser, question, page, assertion)
        assert answer["Location"] == reverse("done", args=[question.id])
    assert Consent.objects.count() == LedgerTransaction.objects.count() == 1


@pytest.mark.parametrize(
    "forged",
    [
        {"origin": "https://evil.example"},
        {"rp_id": "evil.example"},
        {"flags": 1},  # nobody checked who used it
        {"kind": "webauthn.create"},
    ],
)
def test_a_forged_signature_is_told_at_once(
    browser: Client, question: ConsentRequest, phone: Passkey, keyholder: Keyholder, forged: dict[str, Any]
) -> None:
    page = page_of(browser, question)
    answer = send(browser, question, page, sign(phone, page, **forged))
    assert answer.status_code == 409
    assert "Your passkey did not sign this" in answer.content.decode()
    assert not Consent.objects.exists()
    # Nor is the passkey known from it.
    assert keyholder.signers(patient=question.patient_id)["known"] == []


def test_a_strangers_an_altered_and_no_signature_are_refused(
    browser: Client, question: ConsentRequest, phone: Passkey, charlie: Any, keyholder: Keyholder
) -> None:
    stranger = Passkey()
    register(charlie.user, stranger)
    page = page_of(browser, question)
    good = sign(phone, page)
    for bad in (
        sign(stranger, page),
        dataclasses.replace(sign(stranger, page), credential=phone.credential),
        dataclasses.replace(good, signature=good.signature[:-1] + bytes([good.signature[-1] ^ 1])),
        dataclasses.replace(good, client_data=good.client_data + b" "),
        None,
    ):
        assert send(browser, question, page, bad).status_code == 409
    assert not Consent.objects.exists()
    assert send(browser, question, page, good).status_code == 302


def test_a_signature_of_another_question_is_refused(
    browser: Client, question: ConsentRequest, phone: Passkey, keyholder: Keyholder
) -> None:
    other = ask(question.requester, question.patient)
    first = sign(phone, page_of(browser, question))
    page = page_of(browser, other)
    assert send(browser, other, page, first).status_code == 409
    assert not Consent.objects.exists()


def test_two_windows_what_was_signed_is_what_was_on_the_screen(
    browser: Client, question: ConsentRequest, phone: Passkey, keyholder: Keyholder
) -> None:
    """The second window chooses more; the first one's signature is for less, and is taken for neither."""
    first = page_of(browser, question)
    second = page_of(browser, question, {"kinds": ["Observation", "Condition"], "duration": "until"})
    assert shown(first, "data-challenge") != shown(second, "data-challenge")
    answer = send(browser, question, first, sign(phone, first))
    assert answer["Location"] == reverse("check", args=[question.id])
    assert not Consent.objects.exists()
    # What the page shows now can be signed.
    again = browser.get(answer["Location"]).content.decode()
    assert "Your answers changed" in again
    assert "Health problems" in again
    assert send(browser, question, again, sign(phone, again)).status_code == 302
    assert Consent.objects.get().kinds == ["Condition", "Observation"]


def test_a_page_that_was_open_too_long_is_drafted_anew(
    browser: Client, question: ConsentRequest, phone: Passkey, keyholder: Keyholder, monkeypatch: Any
) -> None:
    page = page_of(browser, question)
    later = timezone.now() + timedelta(hours=2)
    monkeypatch.setattr("gateway.portal.signing.timezone.now", lambda: later)
    answer = send(browser, question, page, sign(phone, page))
    assert answer.status_code == 409
    assert "Your passkey did not sign this" in answer.content.decode()
    assert not Consent.objects.exists()


def test_a_change_is_signed_too(
    browser: Client,
    question: ConsentRequest,
    phone: Passkey,
    keyholder: Keyholder,
    ledger: Any,  # noqa: F811
) -> None:
    page = page_of(browser, question)
    send(browser, question, page, sign(phone, page))
    relay(ledger)
    before = Consent.objects.get()
    there = reverse("check_change", args=[before.id])
    browser.post(reverse("change", args=[before.id]), {"kinds": ["Condition"], "duration": "until"})
    page = browser.get(there).content.decode()
    assertion = sign(phone, page)
    what = shown(page, 'name="shown" value')
    browser.post(there, {"shown": what, "signature": json.dumps(assertion.to_json())})
    newer = Consent.objects.get(replaces=before)
    relay(ledger)
    newer.refresh_from_db()
    assert newer.ledger_state == Consent.LedgerState.IN_FORCE
    assert on_ledger(ledger, f"consent/{newer.id}")["commitment"] == shown(page, "data-challenge")
    assert on_ledger(ledger, f"consent/{before.id}")["state"] == "superseded"


def test_without_the_keyholder_nothing_can_be_signed_and_no_still_works(
    browser: Client, question: ConsentRequest, phone: Passkey
) -> None:
    page = page_of(browser, question)
    assert "We cannot take your signature just now" in page
    assert "Agree and share" not in page
    answer = browser.post(reverse("check", args=[question.id]), {"shown": shown(page, 'name="shown" value')})
    assert answer.status_code == 503
    assert not Consent.objects.exists()
    assert browser.post(reverse("refuse", args=[question.id])).status_code == 302


def test_while_none_is_known_she_may_do_without_and_the_choice_says_so(
    browser: Client, question: ConsentRequest, phone: Passkey, keyholder: Keyholder
) -> None:
    page = page_of(browser, question)
    assert "I cannot use my passkey now" in page
    there = reverse("check", args=[question.id])
    assert "Show that it is you" in browser.get(f"{there}?without=1").content.decode()
    browser.post(reverse("account_reauthenticate"), {"password": "correct horse battery"})
    page = browser.get(f"{there}?without=1").content.decode()
    assert "without a passkey" in page
    answer = browser.post(f"{there}?without=1", {"shown": shown(page, 'name="shown" value')})
    assert answer["Location"] == reverse("done", args=[question.id])
    consent = Consent.objects.get()
    assert consent.signature is None
    assert consent.fhir["verification"] == [{"verified": False}]


def test_without_a_passkey_she_shows_again_that_it_is_her(
    browser: Client, question: ConsentRequest, keyholder: Keyholder
) -> None:
    page = page_of(browser, question)
    assert "Agree and share" not in page
    answer = browser.post(reverse("check", args=[question.id]), {"shown": shown(page, 'name="shown" value')})
    assert answer.status_code == 409
    assert not Consent.objects.exists()
    assert agree(browser, question).status_code == 302
    assert Consent.objects.get().fhir["verification"] == [{"verified": False}]


def test_who_has_an_app_shows_its_code_and_not_the_password(
    browser: Client, alice: Any, question: ConsentRequest, keyholder: Keyholder
) -> None:
    from allauth.mfa.totp.internal import auth

    secret = auth.generate_totp_secret()
    auth.TOTP.activate(alice.user, secret)
    page = page_of(browser, question)
    assert reverse("mfa_reauthenticate") in page
    assert agree(browser, question).status_code == 409
    code = auth.format_hotp_value(auth.hotp_value(secret, next(auth.yield_hotp_counters_from_time())))
    browser.post(reverse("mfa_reauthenticate"), {"code": code})
    page = browser.get(reverse("check", args=[question.id])).content.decode()
    assert "Agree and share" in page
    answer = browser.post(reverse("check", args=[question.id]), {"shown": shown(page, 'name="shown" value')})
    assert answer.status_code == 302


def test_a_question_that_needs_a_signature_takes_no_yes_without(
    browser: Client,
    alice: Any,
    helix: Any,
    keyholder: Keyholder,
    ledger: Any,  # noqa: F811
) -> None:
    question = ask(helix, alice, signature_required=True)
    page = page_of(browser, question)
    assert "This question needs a yes that you sign" in page
    assert agree(browser, question).status_code == 409
    assert not Consent.objects.exists()
    phone = Passkey()
    register(alice.user, phone)
    page = page_of(browser, question)
    assert "I cannot use my passkey now" not in page
    assert send(browser, question, page, sign(phone, page)).status_code == 302
    relay(ledger)
    assert Consent.objects.get().ledger_state == Consent.LedgerState.IN_FORCE


def test_after_a_visit_to_the_clinic_the_page_says_from_when(
    browser: Client, alice: Any, question: ConsentRequest, phone: Passkey, keyholder: Keyholder
) -> None:
    keyholder.enrol_passkey(patient=alice.pk, credential=phone.credential, public_key=phone.public_key)
    keyholder.drop_passkeys(patient=alice.pk)
    page = page_of(browser, question)
    assert "nobody can say yes for you" in page
    assert "Agree and share" not in page
    assert "No, do not share" in page


def test_a_passkey_of_hers_that_is_gone_leads_to_the_clinic(
    browser: Client, alice: Any, question: ConsentRequest, keyholder: Keyholder
) -> None:
    gone = Passkey()
    keyholder.enrol_passkey(patient=alice.pk, credential=gone.credential, public_key=gone.public_key)
    assert "The clinic can help" in page_of(browser, question)
    assert agree(browser, question).status_code == 409
    assert not Consent.objects.exists()


def test_who_was_not_proofed_enrols_nothing(
    browser: Client, alice: Any, question: ConsentRequest, phone: Passkey, keyholder: Keyholder
) -> None:
    alice.proofed_at = None
    alice.save()
    to_check(browser, question.id, CHOICE)
    answer = browser.get(reverse("check", args=[question.id]))
    assert answer.status_code == 409
    assert "check who you are" in answer.content.decode()
    assert keyholder.signers(patient=alice.pk)["known"] == []


# What she keeps of it


def verified(file: bytes, tmp_path: Path, trust: Path | str) -> int:
    kept = tmp_path / "signed.json"
    kept.write_bytes(file)
    return verify.main([str(kept), "--trust", str(trust)])


def test_what_she_keeps_verifies_offline_and_an_altered_copy_does_not(
    browser: Client, stranger: Client, question: ConsentRequest, phone: Passkey, keyholder: Keyholder,
    ledger: Any, installation: Any, tmp_path: Path,  # noqa: F811
) -> None:  # fmt: skip
    page = page_of(browser, question)
    send(browser, question, page, sign(phone, page))
    consent = Consent.objects.get()
    there = reverse("signed_consent", args=[consent.id])
    assert browser.get(there).status_code == 409  # not sealed yet
    relay(ledger)
    assert there in browser.get(reverse("choice", args=[consent.id])).content.decode()
    assert stranger.get(there).status_code == 404
    file = browser.get(there).content
    trust = installation.home / "ledger" / "ledger.pub"
    assert verified(file, tmp_path, trust) == 0
    assert verified(file, tmp_path, "00" * 32) == 1
    assert b"Observation" not in file
    # Every byte counts.
    for at in range(0, len(file), 7):
        changed = bytearray(file)
        changed[at] ^= 1
        assert verify.verify_signed_consent(bytes(changed), verify.Trust.read(str(trust))).exit != 0, at
    # Another passkey's signature over the same commitment, or hers over another.
    kept = json.loads(file)
    for challenge in (bytes.fromhex(kept["commitment"]), bytes(32)):
        forged = {**kept, "signature": {**kept["signature"]}}
        by = Passkey() if challenge != bytes(32) else phone
        made = by.sign(challenge, origin=ORIGIN, rp_id="localhost").to_json()
        forged["signature"] |= {name: value for name, value in made.items() if name != "credential"}
        assert verified(dumps(forged), tmp_path, trust) == 1
    # Her signature, and the evidence of another consent of hers.
    other = ask(question.requester, question.patient)
    page = page_of(browser, other)
    send(browser, other, page, sign(phone, page))
    relay(ledger)
    second = json.loads(browser.get(reverse("signed_consent", args=[other.consents.get().id])).content)
    assert verified(dumps({**kept, "evidence": second["evidence"]}), tmp_path, trust) == 1
    assert verified(dumps({**kept, "consent": second["consent"]}), tmp_path, trust) == 1


def test_what_was_not_signed_has_nothing_to_keep(
    browser: Client, question: ConsentRequest, keyholder: Keyholder
) -> None:
    page_of(browser, question)
    agree(browser, question)
    consent = Consent.objects.get()
    assert browser.get(reverse("signed_consent", args=[consent.id])).status_code == 409
    assert (
        "was not signed with a passkey" in browser.get(reverse("done", args=[question.id])).content.decode()
    )

"""A clinician confirms an emergency with her passkey: the pages, and what stays of it."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent import news
from consent.models import News, random_id
from gateway.accounts.models import User
from gateway.accounts.passkeys import clinician_of, enrol_clinician, passkeys_of
from gateway.emergency import services
from gateway.emergency.models import Emergency
from gateway.keyholder.client import Keyholder
from ledger import verify
from ledger.audit.models import AuditRow
from ledger.contract import canonical
from ledger.errors import RefusedTransition
from ledger.webauthn import access_digest, passkey_challenge
from tests.conftest import ORIGIN
from tests.emergency.conftest import WORDS
from tests.emergency.test_pages import WHO, WHY, at, bobs, danas, text
from tests.emergency.test_services import accessed
from tests.passkeys import Passkey, register

__all__ = ["bobs", "danas"]  # fixtures

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def strangers(settings: Any) -> None:
    """The session's keyholder remembers passkeys by a pseudonym that hangs on this secret."""
    settings.SECRET_KEY = random_id()


@pytest.fixture
def phone(ward: User) -> Passkey:
    """bob's, with which he signs in."""
    made = Passkey()
    register(ward, made)
    return made


def asked(client: Client, alice: Any) -> Emergency:
    client.post(at("staff_emergency_who", alice), WHO)
    client.post(at("staff_emergency_why", alice), WHY)
    return Emergency.objects.get()


def sign(passkey: Passkey, page: str) -> str:
    found = re.search(r'data-challenge="([0-9a-f]{64})" data-credentials="([0-9a-f ]+)"', page)
    assert found is not None
    assert passkey.credential in found[2].split()
    signed = passkey.sign(bytes.fromhex(found[1]), origin=ORIGIN, rp_id="localhost")
    return canonical.dumps(signed.to_json()).decode()


def test_from_the_reason_to_the_records_and_the_proof(
    records: None, bobs: Client, danas: Client, alice: Any, ward: User, phone: Passkey, installation: Any
) -> None:
    found = asked(bobs, alice)
    assert (found.state, found.confirmed) == ("asked", "")
    page = text(bobs.get(at("staff_emergency_open", found)))
    assert "The patient was told. Nothing is open yet." in page
    assert "Allergies" not in page
    answer = bobs.post(at("staff_emergency_confirm", found), {"signature": sign(phone, page)}, follow=True)
    assert "Allergies" in text(answer)
    found.refresh_from_db()
    assert (found.state, found.confirmed) == ("recorded", "passkey")
    assert AuditRow.objects.filter(kind="passkey.enrolled").count() == 1

    review = text(danas.get(at("staff_emergency_review", found)))
    assert "Their own passkey" in review
    file = danas.get(at("staff_emergency_signed", found)).content
    trust = verify.Trust.read(str(installation.home / "ledger" / "ledger.pub"))
    assert verify.verify_signed_emergency(file, trust).verdict == "verified"
    assert alice.pk.encode() not in file

    # The relay says again what the keyholder knows, whatever the row says.
    Emergency.objects.update(confirmed="session")
    services.record_accessed(accessed(found.pk))
    found.refresh_from_db()
    assert found.confirmed == "passkey"


def test_a_row_that_names_another_than_who_signed_is_not_believed(
    records: None, danas: Client, alice: Any, ward: User, installation: Any
) -> None:
    """As a web process that was taken over could do it: a key of its own under a name that nobody has."""
    keyholder, own, now = Keyholder(installation.keyholder_socket), Passkey(), timezone.now()
    details = {"clinician": random_id(), "confirmed": "passkey", "reason": "ETREAT", "words": WORDS}
    keyholder.enrol_clinician(
        clinician=details["clinician"], credential=own.credential, public_key=own.public_key
    )
    row = Emergency.objects.create(
        patient=alice,
        opened_by=ward,
        reason="ETREAT",
        explanation=WORDS,
        state="recorded",
        confirmed="passkey",
        tx_id="cd" * 32,
        opened_at=now,
        expires_at=now + timedelta(hours=1),
        review_by=now + timedelta(hours=72),
    )
    news.tell(patient=alice, kind=News.Kind.EMERGENCY, about=row.pk)
    asked = {"access": row.pk, "details": details, "expires": int(now.timestamp()) + 3600}
    digest = access_digest(kind="emergency", patient=alice.pk, **asked)
    signature = own.sign(bytes.fromhex(digest), origin=ORIGIN, rp_id="localhost").to_json()
    keyholder.emergency_access(patient=alice.pk, signature=signature, **asked)

    review = text(danas.get(at("staff_emergency_review", row)))
    assert "Treat it as an attack" in review
    assert ward.email not in review
    for _ in range(2):
        services.record_accessed(accessed(row.pk))
    found = Emergency.objects.get()
    assert (found.opened_by, found.confirmed, found.explanation) == (None, "passkey", WORDS)
    assert AuditRow.objects.filter(kind="access.emergency").count() == 1


@pytest.mark.parametrize("field", ["opened_by", "reason", "explanation"])
def test_a_row_that_was_altered_is_not_believed(
    records: None, bobs: Client, danas: Client, alice: Any, dana: User, ward: User, phone: Passkey, field: str
) -> None:
    found = asked(bobs, alice)
    page = text(bobs.get(at("staff_emergency_open", found)))
    bobs.post(at("staff_emergency_confirm", found), {"signature": sign(phone, page)})
    assert "Treat it as an attack" not in text(danas.get(at("staff_emergency_review", found)))
    altered = {"opened_by": dana, "reason": "DISASTER", "explanation": "What was never said"}[field]
    Emergency.objects.update(**{field: altered})
    review = text(danas.get(at("staff_emergency_review", found)))
    assert "Treat it as an attack" in review
    assert "Emergency treatment" in review
    assert WORDS in review
    services.record_accessed(accessed(found.pk))
    row = Emergency.objects.get()
    assert (row.opened_by, row.reason, row.explanation) == (None, "ETREAT", WORDS)


def test_where_the_keyholder_cannot_say_the_review_claims_no_passkey(
    records: None, bobs: Client, danas: Client, alice: Any, phone: Passkey, settings: Any, tmp_path: Path
) -> None:
    found = asked(bobs, alice)
    page = text(bobs.get(at("staff_emergency_open", found)))
    bobs.post(at("staff_emergency_confirm", found), {"signature": sign(phone, page)})
    settings.KEYHOLDER_SOCKET = str(tmp_path / "away.sock")
    for tx_id in ("cd" * 32, ""):
        Emergency.objects.update(tx_id=tx_id)
        review = danas.get(at("staff_emergency_review", found))
        assert review.status_code == 200
        assert "Their own passkey" not in text(review)


def test_going_on_without_says_so(
    records: None, bobs: Client, danas: Client, alice: Any, phone: Passkey
) -> None:
    found = asked(bobs, alice)
    # Without the script the first button sends no signature, and that is no word for going on without one.
    assert bobs.post(at("staff_emergency_confirm", found), {"signature": ""}).status_code == 409
    answer = bobs.post(at("staff_emergency_confirm", found), {"without": "1"}, follow=True)
    assert "Allergies" in text(answer)
    assert "No passkey signed it" in text(danas.get(at("staff_emergency_review", found)))
    assert danas.get(at("staff_emergency_signed", found)).status_code == 409


def test_without_a_passkey_it_opens_at_once_and_says_so(
    records: None, bobs: Client, danas: Client, alice: Any
) -> None:
    found = asked(bobs, alice)
    assert (found.state, found.confirmed) == ("recorded", "session")
    assert "No passkey signed it" in text(danas.get(at("staff_emergency_review", found)))


def test_a_forged_signature_opens_nothing_and_it_can_be_signed_again(
    records: None, bobs: Client, alice: Any, ward: User, phone: Passkey
) -> None:
    found = asked(bobs, alice)
    page = text(bobs.get(at("staff_emergency_open", found)))
    for forged in (sign(phone, page).replace('"credential":"', '"credential":"00'), "nonsense"):
        answer = bobs.post(at("staff_emergency_confirm", found), {"signature": forged})
        assert answer.status_code == 409
        found.refresh_from_db()
        assert (found.state, found.confirmed) == ("asked", "")
    bobs.post(at("staff_emergency_confirm", found), {"signature": sign(phone, page)})
    found.refresh_from_db()
    assert (found.state, found.confirmed) == ("recorded", "passkey")


def test_of_two_confirmations_at_once_the_first_counts(
    records: None, bobs: Client, alice: Any, ward: User, phone: Passkey, installation: Any
) -> None:
    one = asked(bobs, alice)
    other = Emergency.objects.get()  # as a second request read it, before the first was kept
    keyholder = Keyholder(installation.keyholder_socket)
    enrol_clinician(ward, passkeys_of(ward)[0])
    signed = phone.sign(bytes.fromhex(services.challenge(one)), origin=ORIGIN, rp_id="localhost").to_json()
    went_on: list[Emergency] = []

    class Slow(Keyholder):
        """The second request comes while the first waits for the keyholder."""

        def emergency_access(self, **asked: Any) -> Any:
            went_on.append(services.confirm(emergency=other, by=ward, signature=None, keyholder=keyholder))
            return super().emergency_access(**asked)

    slow = Slow(installation.keyholder_socket)
    services.confirm(emergency=one, by=ward, signature=signed, keyholder=slow)
    one.refresh_from_db()
    assert (one.state, one.confirmed) == ("recorded", "passkey")
    assert went_on[0].confirmed == "passkey"


def test_a_passkey_that_the_keyholder_does_not_know_is_offered_no_signature(
    records: None, bobs: Client, alice: Any, ward: User, phone: Passkey, installation: Any
) -> None:
    other = Passkey()
    Keyholder(installation.keyholder_socket).enrol_clinician(
        clinician=clinician_of(ward), credential=other.credential, public_key=other.public_key
    )
    page = text(bobs.get(at("staff_emergency_open", asked(bobs, alice))))
    assert "None of your passkeys can confirm it now." in page
    assert "data-challenge" not in page


def test_who_waits_too_long_begins_again(records: None, bobs: Client, alice: Any, phone: Passkey) -> None:
    found = asked(bobs, alice)
    Emergency.objects.update(opened_at=timezone.now() - timedelta(minutes=5))
    assert "It was not confirmed within four minutes." in text(bobs.get(at("staff_emergency_open", found)))
    assert "without their yes" in text(bobs.get(at("staff_emergency", alice)))


def test_a_colleague_confirms_nothing(records: None, bobs: Client, danas: Client, alice: Any, dana: Any,
                                      phone: Passkey) -> None:  # fmt: skip
    found = asked(bobs, alice)
    assert danas.post(at("staff_emergency_confirm", found)).status_code == 403
    with pytest.raises(RefusedTransition):
        services.confirm(emergency=found, by=dana, signature=None)


def test_a_second_passkey_by_the_word_of_the_first(
    records: None, bobs: Client, ward: User, phone: Passkey, installation: Any
) -> None:
    keyholder, tablet = Keyholder(installation.keyholder_socket), Passkey()
    whose = clinician_of(ward)
    keyholder.enrol_clinician(clinician=whose, credential=phone.credential, public_key=phone.public_key)
    register(ward, tablet, "My tablet")
    there = ward.authenticator_set.order_by("-pk").first()  # type: ignore[attr-defined]
    listed = text(bobs.get("/accounts/2fa/webauthn/"))
    assert "It confirms your emergencies." in listed
    assert "Let it confirm" in listed
    challenge = passkey_challenge(patient=whose, credential=tablet.credential, public_key=tablet.public_key)
    voucher = phone.sign(challenge, origin=ORIGIN, rp_id="localhost").to_json()
    bobs.post(reverse("account_reauthenticate"), {"password": "correct horse battery"})
    page = bobs.post(at("staff_emergency_vouch", there), {"signature": canonical.dumps(voucher).decode()})
    assert page.status_code == 302, text(page)
    assert set(keyholder.clinician_signers(clinician=whose)["signing"]) == {
        phone.credential,
        tablet.credential,
    }


def test_the_proof_file_is_read_by_the_program(
    records: None, bobs: Client, danas: Client, alice: Any, phone: Passkey, installation: Any, tmp_path: Path
) -> None:
    found = asked(bobs, alice)
    page = text(bobs.get(at("staff_emergency_open", found)))
    bobs.post(at("staff_emergency_confirm", found), {"signature": sign(phone, page)})
    kept = tmp_path / "emergency.json"
    kept.write_bytes(danas.get(at("staff_emergency_signed", found)).content)
    trust = str(installation.home / "ledger" / "ledger.pub")
    assert verify.main([str(kept), "--trust", trust]) == 0
    kept.write_bytes(kept.read_bytes().replace(b'"completed":false', b'"completed":true'))
    assert verify.main([str(kept), "--trust", trust]) != 0

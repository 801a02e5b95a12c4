"""An emergency that the clinician signs with her passkey: whose word counts, and what it shows others."""

import time
from pathlib import Path
from typing import Any

import pytest

from gateway.keyholder.clinicians import PASSKEY, SESSION
from gateway.keyholder.signing import QUIET_SECONDS
from ledger import verify
from ledger.contract import canonical
from ledger.contract.transactions import run
from ledger.errors import AccessDenied, InvalidInput, RefusedTransition
from ledger.rpc import to_b64
from ledger.webauthn import access_digest, passkey_challenge
from tests.keyholder.house import House, new_id
from tests.ledger.conformance import submit
from tests.ledger.fake_network import ORGANISATIONS, FakeNetwork
from tests.passkeys import ORIGIN, PRESENT, Passkey

BOB, BEN = "ab" * 32, "cd" * 32


@pytest.fixture
def ward(house: House) -> House:
    house.serve(house.ledger, origin=ORIGIN, emergencies=20)
    return house


@pytest.fixture
def phone(ward: House) -> Passkey:
    """bob's, known."""
    return know(ward)


def know(house: House, clinician: str = BOB) -> Passkey:
    made = Passkey()
    house.service.clinicians.enrol(
        clinician=clinician, credential=made.credential, public_key=made.public_key
    )
    return made


def asked(house: House, patient: str, *, confirmed: str = PASSKEY, clinician: str = BOB) -> dict[str, Any]:
    details = {"clinician": clinician, "confirmed": confirmed, "reason": "ETREAT", "words": "Unconscious"}
    expires = int(time.time() + house.clock.ahead) + 3600
    return {"access": new_id(), "patient": patient, "details": details, "expires": expires}


def digest(asked: dict[str, Any], **changes: Any) -> bytes:
    return bytes.fromhex(access_digest(kind="emergency", **{**asked, **changes}))


def begin(house: House, asked: dict[str, Any], signature: Any = None) -> str:
    assert house.service.emergency_access(**asked, signature=signature)["state"] == "committed"
    return str(asked["access"])


def read(house: House, access: str) -> int:
    sealed = {one.chunk: house.blobs[one.chunk] for one in house.service.emergency_index(access=access)}
    return len(house.service.read_emergency(access=access, sealed=sealed))


def refusal(call: Any) -> str:
    with pytest.raises((AccessDenied, RefusedTransition)) as found:
        call()
    return found.value.code


def test_what_she_signed_opens_and_says_so(ward: House, phone: Passkey) -> None:
    one = asked(ward, ward.patient())
    access = begin(ward, one, phone.sign(digest(one)))
    assert read(ward, access) == 2
    assert ward.service.access_told(access=access)["signed"]
    assert begin(ward, one) == access  # asked again: what is kept counts
    assert ward.service.signed_emergency(access=access)["signature"]["credential"] == phone.credential


def test_without_a_passkey_it_opens_and_says_that(ward: House) -> None:
    access = begin(ward, asked(ward, ward.patient(), confirmed=SESSION))
    assert read(ward, access) == 2
    assert not ward.service.access_told(access=access)["signed"]
    assert refusal(lambda: ward.service.signed_emergency(access=access)) == "not_signed"


def test_each_can_be_required(ward: House, phone: Passkey) -> None:
    before = begin(ward, asked(ward, ward.patient(), confirmed=SESSION))
    ward.serve(ward.ledger, origin=ORIGIN, emergencies=20, emergencies_signed=True)
    assert refusal(lambda: read(ward, before)) == "emergency_unsigned"
    unsigned = asked(ward, ward.patient(), confirmed=SESSION)
    assert refusal(lambda: begin(ward, unsigned)) == "emergency_unsigned"
    one = asked(ward, ward.patient())
    assert read(ward, begin(ward, one, phone.sign(digest(one)))) == 2


def test_what_is_said_and_what_came_agree(ward: House, phone: Passkey) -> None:
    one, other = asked(ward, ward.patient()), asked(ward, ward.patient(), confirmed=SESSION)
    assert refusal(lambda: begin(ward, one)) == "emergency_differs"
    assert refusal(lambda: begin(ward, other, phone.sign(digest(other)))) == "emergency_differs"


def test_her_signature_is_for_this_emergency_alone(ward: House, phone: Passkey) -> None:
    one = asked(ward, ward.patient())
    for changes in (
        {"access": new_id()},
        {"patient": new_id()},
        {"expires": one["expires"] + 1},
        {"details": {**one["details"], "words": "Something else"}},
    ):
        signature = phone.sign(digest(one, **changes))
        assert refusal(lambda s=signature: begin(ward, one, s)) == "signature_challenge"
    assert refusal(lambda: begin(ward, one, phone.sign(digest(one), flags=PRESENT))) == (
        "signature_verification"
    )
    elsewhere = phone.sign(digest(one), origin="https://other.example")
    assert refusal(lambda: begin(ward, one, elsewhere)) == "signature_origin"
    assert ward.store.access(one["access"]) is None


def test_nobody_signs_for_a_colleague(ward: House, phone: Passkey) -> None:
    know(ward, BEN)
    one = asked(ward, ward.patient(), clinician=BEN)
    assert refusal(lambda: begin(ward, one, phone.sign(digest(one)))) == "passkey_unknown"
    one = asked(ward, ward.patient())
    assert refusal(lambda: begin(ward, one, Passkey().sign(digest(one)))) == "passkey_unknown"


def test_a_signature_that_was_altered_in_the_store_opens_nothing(ward: House, phone: Passkey) -> None:
    one = asked(ward, ward.patient())
    access = begin(ward, one, phone.sign(digest(one)))
    with ward.store.transaction() as db:
        db.execute("UPDATE clinicians SET public_key = ?", (Passkey().public_key,))
    assert refusal(lambda: read(ward, access)) == "signature_wrong"
    with ward.store.transaction() as db:
        db.execute("UPDATE accesses SET signature = NULL")
    assert refusal(lambda: read(ward, access)) == "emergency_signature_missing"


def test_another_passkey_needs_the_first_ones_word(ward: House, phone: Passkey) -> None:
    tablet = Passkey()
    said = {"clinician": BOB, "credential": tablet.credential, "public_key": tablet.public_key}
    assert refusal(lambda: ward.service.clinicians.enrol(**said)) == "voucher_missing"
    challenge = passkey_challenge(patient=BOB, credential=tablet.credential, public_key=tablet.public_key)
    forged = Passkey().sign(challenge)
    assert refusal(lambda: ward.service.clinicians.enrol(**said, voucher=forged)) == "passkey_unknown"
    ward.service.clinicians.enrol(**said, voucher=phone.sign(challenge))
    assert set(ward.service.clinicians.signers(BOB)["signing"]) == {phone.credential, tablet.credential}


def test_a_dropped_passkey_signs_no_more_and_a_first_one_a_day_later(ward: House, phone: Passkey) -> None:
    one = asked(ward, ward.patient())
    access = begin(ward, one, phone.sign(digest(one)))
    ward.service.clinicians.drop(clinician=BOB, credential=phone.credential)
    assert read(ward, access) == 2  # what was signed stays signed
    other = asked(ward, ward.patient())
    assert refusal(lambda: begin(ward, other, phone.sign(digest(other)))) == "passkey_not_signing"
    assert ward.service.clinicians.signers(BOB)["quiet_until"]
    found = know(ward)
    assert ward.service.clinicians.signers(BOB)["signing"] == []
    ward.clock.ahead = QUIET_SECONDS + 1
    assert ward.service.clinicians.signers(BOB)["signing"] == [found.credential]


def test_where_each_is_signed_the_web_process_takes_nobodys_last_passkey(ward: House, phone: Passkey) -> None:
    ward.serve(ward.ledger, origin=ORIGIN, emergencies=20, emergencies_signed=True)
    clinicians, tablet = ward.service.clinicians, Passkey()
    taken = {"clinician": BOB, "credential": phone.credential}
    assert refusal(lambda: clinicians.drop(**taken)) == "emergency_passkey_last"
    one = asked(ward, ward.patient())
    assert read(ward, begin(ward, one, phone.sign(digest(one)))) == 2

    challenge = passkey_challenge(patient=BOB, credential=tablet.credential, public_key=tablet.public_key)
    clinicians.enrol(
        clinician=BOB,
        credential=tablet.credential,
        public_key=tablet.public_key,
        voucher=phone.sign(challenge),
    )
    for _ in range(2):
        clinicians.drop(**taken)
    assert clinicians.signers(BOB)["signing"] == [tablet.credential]
    assert (
        refusal(lambda: clinicians.drop(clinician=BOB, credential=tablet.credential))
        == "emergency_passkey_last"
    )
    clinicians.drop(clinician=BOB, credential=Passkey().credential)  # one that was never known


def test_whose_passkey_does_both_keeps_it_for_both(ward: House, phone: Passkey) -> None:
    """As a patient she has another one that signs, as a clinician none; then the other way round."""
    ward.serve(ward.ledger, origin=ORIGIN, emergencies=20, emergencies_signed=True)
    alice, tablet, signing = ward.patient(), Passkey(), ward.service.signing
    vouched_for = {"credential": tablet.credential, "public_key": tablet.public_key}
    signing.enrol_passkey(patient=alice, credential=phone.credential, public_key=phone.public_key)
    voucher = phone.sign(passkey_challenge(patient=alice, **vouched_for))
    signing.enrol_passkey(patient=alice, **vouched_for, voucher=voucher)
    both = {"patient": alice, "clinician": BOB}
    assert refusal(lambda: ward.service.drop_passkey(credential=phone.credential, **both)) == (
        "emergency_passkey_last"
    )
    assert signing.signers(alice)["signing"] == [phone.credential, tablet.credential]

    signing.drop_passkey(patient=alice, credential=tablet.credential)
    voucher = phone.sign(passkey_challenge(patient=BOB, **vouched_for))
    ward.service.clinicians.enrol(clinician=BOB, **vouched_for, voucher=voucher)
    assert refusal(lambda: ward.service.drop_passkey(credential=phone.credential, **both)) == "passkey_last"
    assert ward.service.clinicians.signers(BOB)["signing"] == [phone.credential, tablet.credential]

    ward.service.drop_passkey(credential=tablet.credential, **both)
    assert ward.service.clinicians.signers(BOB)["signing"] == [phone.credential]
    with pytest.raises(InvalidInput):
        ward.service.drop_passkey(credential=tablet.credential)


def test_a_store_of_the_format_before_is_taken_over(ward: House) -> None:
    access = begin(ward, {**asked(ward, ward.patient()), "details": {"clinician": BOB}})
    ward.start_keyholder_on(format=7, origin=ORIGIN, emergencies=20)
    assert read(ward, access) == 2
    one, phone = asked(ward, ward.patient()), know(ward)
    assert read(ward, begin(ward, one, phone.sign(digest(one)))) == 2


# What it shows others


@pytest.mark.parametrize("completed", [False, True])
def test_it_verifies_without_us_and_an_altered_copy_does_not(
    ward: House, phone: Passkey, completed: bool
) -> None:
    begin(ward, asked(ward, ward.patient(), confirmed=SESSION))  # another one beside it
    one = asked(ward, ward.patient())
    access = begin(ward, one, phone.sign(digest(one)))
    if completed:
        ward.service.complete_emergencies()
    found = ward.service.signed_emergency(access=access)
    assert found["completed"] is completed
    names = ("authenticator_data_b64", "client_data_b64", "origin", "public_key_b64", "signature_b64")
    file = {
        **found,
        "access": access,
        "format": verify.EMERGENCY_FORMAT,
        "signature": {name: found["signature"][name] for name in names},
    }
    trust = verify.Trust.read(str(ward.home / "ledger" / "ledger.pub"))
    data = canonical.dumps(file)
    assert verify.verify_signed_emergency(data, trust).verdict == "verified"
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1
        assert verify.verify_signed_emergency(bytes(changed), trust).exit != 0, at
    another = canonical.dumps({**file, "access": new_id()})
    assert verify.verify_signed_emergency(another, trust).exit != 0


def test_before_the_others_completed_it_a_reader_who_asks_for_two_cannot_tell(tmp_path: Path) -> None:
    """Its own organisation records an emergency alone: that is no forgery."""
    phone, access = Passkey(), new_id()
    expires = int(time.time()) + 3600
    signed = access_digest(access=access, details={}, expires=expires, kind="emergency", patient=new_id())
    signature = phone.sign(bytes.fromhex(signed)).to_json()
    with FakeNetwork(tmp_path, run, orgs=ORGANISATIONS, needed=2) as network:
        network.register()
        ledger = network.ledger("keyholder")
        args = {"access": access, "digest": signed, "expires": expires}
        recorded = ledger.evidence(submit(ledger, "EmergencyAccess", args).tx_id)
        completed = ledger.evidence(submit(ledger, "CompleteEmergency", {"access": access}).tx_id)
        ledger.close()
    file = {
        "access": access,
        "completed": False,
        "digest": signed,
        "evidence": recorded,
        "format": verify.EMERGENCY_FORMAT,
        "organisation": ORGANISATIONS[0],
        "signature": {
            "authenticator_data_b64": signature["authenticator_data_b64"],
            "client_data_b64": signature["client_data_b64"],
            "origin": ORIGIN,
            "public_key_b64": to_b64(phone.public_key),
            "signature_b64": signature["signature_b64"],
        },
    }

    def verdict(needed: int, **changes: Any) -> str:
        trust = verify.Trust.read(str(network.folder / "trust"), needed)
        return verify.verify_signed_emergency(canonical.dumps({**file, **changes}), trust).verdict

    assert verdict(1) == "verified"
    assert verdict(2) == "cannot tell"
    assert verdict(2, completed=True, evidence=completed) == "verified"
    assert verdict(2, completed=True) == "tampered"
    assert verdict(2, access=new_id()) == "tampered"

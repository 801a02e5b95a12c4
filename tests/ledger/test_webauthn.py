"""What a passkey signed: each check of ledger/webauthn.py has a forgery that only it refuses."""

import dataclasses
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ledger.webauthn import (
    Assertion,
    SignatureRefused,
    check_assertion,
    check_public_key,
    passkey_challenge,
    relying_party,
)
from tests.passkeys import ORIGIN, Passkey, new_es256

CHALLENGE = bytes(range(32))
KEYS = {
    "ES256": new_es256,
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


def check(assertion: Assertion, passkey: Passkey, **changes: Any) -> None:
    expected = {
        "credential": passkey.credential,
        "public_key": passkey.public_key,
        "challenge": CHALLENGE,
        "origin": ORIGIN,
    }
    check_assertion(assertion, **{**expected, **changes})


@pytest.fixture(scope="module", params=KEYS)
def passkey(request: Any) -> Passkey:
    return Passkey(KEYS[request.param]())


def test_a_signature_holds(passkey: Passkey) -> None:
    check_public_key(passkey.public_key)
    check(passkey.sign(CHALLENGE), passkey)
    check(passkey.sign(CHALLENGE, crossOrigin=False, extra="of the browser's"), passkey)
    # Backed up (BE and BS), and with extensions that the passkey says it has.
    check(passkey.sign(CHALLENGE, flags=0b10011101, tail=b"\xa0"), passkey)


@pytest.mark.parametrize(
    ("forged", "code"),
    [
        ({"kind": "webauthn.create"}, "signature_type"),
        ({"kind": "payment.get"}, "signature_type"),
        ({"origin": "https://gateway.example.evil.example"}, "signature_origin"),
        ({"origin": "http://gateway.example"}, "signature_origin"),
        ({"crossOrigin": True}, "signature_origin"),
        ({"crossOrigin": None}, "signature_origin"),
        ({"topOrigin": ORIGIN}, "signature_origin"),
        ({"rp_id": "evil.example"}, "signature_site"),
        ({"flags": 0b100}, "signature_presence"),
        ({"flags": 0b001}, "signature_verification"),
        ({"flags": 0b10101}, "signature_malformed"),  # backed up, and not eligible for it
        ({"flags": 0b1000101}, "signature_malformed"),  # a new credential has no place here
        ({"tail": b"\xa0"}, "signature_malformed"),  # extensions that no flag announces
        ({"flags": 0b10000101}, "signature_malformed"),  # and the other way round
    ],
)
def test_what_does_not_fit_is_refused(passkey: Passkey, forged: dict[str, Any], code: str) -> None:
    with pytest.raises(SignatureRefused) as refused:
        check(passkey.sign(CHALLENGE, **forged), passkey)
    assert refused.value.code == code


def test_a_signature_for_something_else_is_refused(passkey: Passkey) -> None:
    for other in (CHALLENGE[::-1], CHALLENGE[:-1], CHALLENGE + b"\x00", b""):
        with pytest.raises(SignatureRefused) as refused:
            check(passkey.sign(other), passkey)
        assert refused.value.code == "signature_challenge"


def test_another_passkeys_signature_is_refused(passkey: Passkey) -> None:
    other = Passkey()
    with pytest.raises(SignatureRefused) as refused:
        check(other.sign(CHALLENGE), passkey)
    assert refused.value.code == "signature_key"
    with pytest.raises(SignatureRefused) as refused:  # under the right name, with another key
        check(dataclasses.replace(other.sign(CHALLENGE), credential=passkey.credential), passkey)
    assert refused.value.code == "signature_wrong"


def test_every_flipped_bit_is_refused() -> None:
    passkey = Passkey()
    signed = passkey.sign(CHALLENGE)
    for name in ("authenticator_data", "client_data", "signature"):
        data = getattr(signed, name)
        for position in range(len(data)):
            for bit in (0, 7):
                flipped = bytearray(data)
                flipped[position] ^= 1 << bit
                with pytest.raises(SignatureRefused):
                    check(dataclasses.replace(signed, **{name: bytes(flipped)}), passkey)


@pytest.mark.parametrize(
    "client_data",
    [
        b"",
        b"[]",
        b"\xff",
        b'"webauthn.get"',
        b'{"type":"webauthn.get"',
        b'{"type":"webauthn.create","type":"webauthn.get"}',
        b"\xef\xbb\xbf{}",
        b" " * 9000,
    ],
)
def test_client_data_that_is_no_object_is_refused(client_data: bytes) -> None:
    passkey = Passkey()
    said = passkey.sign(CHALLENGE).authenticator_data
    with pytest.raises(SignatureRefused) as refused:
        check(passkey.sign_bytes(said, client_data), passkey)
    assert refused.value.code == "signature_malformed"


def test_a_challenge_has_one_spelling() -> None:
    """A challenge in another base64 is not what a browser gives, so it is not ours."""
    passkey = Passkey()
    signed = passkey.sign(bytes([255] * 32))
    client = json.loads(signed.client_data)
    for spelling in (client["challenge"] + "=", client["challenge"].replace("_", "/"), None, 7):
        data = json.dumps({**client, "challenge": spelling}).encode()
        with pytest.raises(SignatureRefused) as refused:
            check(passkey.sign_bytes(signed.authenticator_data, data), passkey, challenge=bytes([255] * 32))
        assert refused.value.code == "signature_challenge"


def test_authenticator_data_that_is_too_short_is_refused() -> None:
    passkey = Passkey()
    signed = passkey.sign(CHALLENGE)
    for length in (0, 32, 36):
        with pytest.raises(SignatureRefused) as refused:
            check(passkey.sign_bytes(signed.authenticator_data[:length], signed.client_data), passkey)
        assert refused.value.code == "signature_malformed"


@pytest.mark.parametrize(
    "key",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 1024),
    ],
)
def test_a_kind_of_key_that_we_do_not_know_signs_nothing(key: Any) -> None:
    passkey = Passkey(key())
    with pytest.raises(SignatureRefused):
        check_public_key(passkey.public_key)
    with pytest.raises(SignatureRefused) as refused:
        check(passkey.sign(CHALLENGE), passkey)
    assert refused.value.code == "signature_wrong"
    with pytest.raises(SignatureRefused):
        check_public_key(b"no key")


@pytest.mark.parametrize(
    "change",
    [
        {"signature_b64": "not base64"},
        {"signature_b64": None},
        {"credential": "XY"},
        {"credential": "AB"},
        {"credential": ""},
        {"credential": 5},
        {"more": "than there is"},
        {"client_data_b64": "A" * 12000},
    ],
)
def test_a_form_that_we_do_not_know_is_refused(change: dict[str, Any]) -> None:
    form = Passkey().sign(CHALLENGE).to_json()
    assert Assertion.from_json(form).to_json() == form
    with pytest.raises(SignatureRefused) as refused:
        Assertion.from_json({**form, **change})
    assert refused.value.code == "signature_malformed"


def test_vouching_names_patient_credential_and_key() -> None:
    said = {"patient": "aa" * 32, "credential": "bb" * 20, "public_key": b"key"}
    challenges = [
        passkey_challenge(**{**said, **change})  # type: ignore[arg-type]
        for change in ({}, {"patient": "ab" * 32}, {"credential": "bc"}, {"public_key": b"yek"})
    ]
    assert len(set(challenges)) == 4
    assert all(len(each) == 32 for each in challenges)


def test_the_relying_party_is_the_host() -> None:
    assert relying_party("http://localhost:8000") == "localhost"
    assert relying_party(ORIGIN) == "gateway.example"

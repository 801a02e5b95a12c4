"""A passkey made of software: it signs what a real one would, and whatever a forger would like it to."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.webauthn import Assertion

if TYPE_CHECKING:
    from gateway.accounts.models import User

ORIGIN = "https://gateway.example"
PRESENT, VERIFIED, ATTESTED = 1, 4, 64


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def new_es256() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Passkey:
    key: Any = field(default_factory=new_es256)
    credential: str = field(default_factory=lambda: secrets.token_hex(20))

    @property
    def public_key(self) -> bytes:
        found: bytes = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return found

    def sign(
        self,
        challenge: bytes,
        *,
        origin: str = ORIGIN,
        rp_id: str = "gateway.example",
        flags: int = PRESENT | VERIFIED,
        kind: str = "webauthn.get",
        tail: bytes = b"",
        **more: Any,
    ) -> Assertion:
        """`more` are members of the client data."""
        client = {"type": kind, "challenge": base64url(challenge), "origin": origin, **more}
        return self.sign_bytes(
            hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + bytes(4) + tail,
            json.dumps(client).encode(),
        )

    def sign_bytes(self, authenticator_data: bytes, client_data: bytes) -> Assertion:
        message = authenticator_data + hashlib.sha256(client_data).digest()
        match self.key:
            case ec.EllipticCurvePrivateKey():
                signature = self.key.sign(message, ec.ECDSA(SHA256()))
            case ed25519.Ed25519PrivateKey():
                signature = self.key.sign(message)
            case rsa.RSAPrivateKey():
                signature = self.key.sign(message, padding.PKCS1v15(), SHA256())
            case _:
                raise TypeError
        return Assertion(self.credential, authenticator_data, client_data, signature)


def register(user: "User", passkey: Passkey, name: str = "My phone") -> None:
    """As the page "Add a passkey" keeps it."""
    from allauth.mfa.models import Authenticator
    from fido2.cose import ES256
    from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData

    rp, flags = hashlib.sha256(b"localhost").digest(), PRESENT | VERIFIED | ATTESTED
    made = AttestedCredentialData.create(
        bytes(16), bytes.fromhex(passkey.credential), ES256.from_cryptography_key(passkey.key.public_key())
    )
    said = AuthenticatorData.create(rp, flags, 0, made)
    id = base64url(bytes.fromhex(passkey.credential))
    response = {
        "clientDataJSON": base64url(
            json.dumps(
                {"type": "webauthn.create", "challenge": "AA", "origin": "http://localhost:8000"}
            ).encode()
        ),
        "attestationObject": base64url(AttestationObject.create("none", said, {})),
    }
    credential = {"id": id, "rawId": id, "type": "public-key", "response": response}
    Authenticator.objects.create(
        user=user, type=Authenticator.Type.WEBAUTHN, data={"name": name, "credential": credential}
    )

"""A person's passkeys, as signing in knows them; which of them sign choices, the keyholder says.

What a passkey signs, and whose signature counts: docs/adr/0011-the-patient-signs.md.
"""

from dataclasses import dataclass
from typing import Any

from allauth.mfa.models import Authenticator
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.accounts.models import User


@dataclass(frozen=True)
class Passkey:
    """`credential` is its id in hex, `public_key` a DER SubjectPublicKeyInfo."""

    id: int
    name: str
    credential: str
    public_key: bytes


def passkeys_of(user: User) -> list[Passkey]:
    """The passkeys of this person that can sign choices, oldest first."""
    found = []
    for row in Authenticator.objects.filter(user=user, type=Authenticator.Type.WEBAUTHN).order_by("pk"):
        passkey = row.wrap()
        data = passkey.authenticator_data.credential_data
        key = _der(data.public_key)
        if key is not None:
            found.append(Passkey(row.pk, passkey.name, data.credential_id.hex(), key))
    return found


def _der(cose: dict[int, Any]) -> bytes | None:
    """A COSE key (RFC 9053 section 7) as DER; None: a kind that signs no choices."""

    def number(label: int) -> int:
        return int.from_bytes(cose[label], "big")

    try:
        match cose[3]:
            case -7 if cose[-1] == 1:
                key: Any = ec.EllipticCurvePublicNumbers(number(-2), number(-3), ec.SECP256R1()).public_key()
            case -8 if cose[-1] == 6:
                key = ed25519.Ed25519PublicKey.from_public_bytes(cose[-2])
            case -257:
                key = rsa.RSAPublicNumbers(number(-2), number(-1)).public_key()
            case _:
                return None
    except (KeyError, ValueError):
        return None
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

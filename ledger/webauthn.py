"""A patient's signature: verifies what a passkey signed. No framework, no clock, no network, no state.

The one check that the web process and the keyholder share. `ledger/verify.py`, which a third party runs,
has its own. Source: Web Authentication Level 3, sections 6.1 and 7.2.
"""

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NoReturn
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ledger.contract import canonical
from ledger.contract.errors import Refused
from ledger.errors import RefusedTransition
from ledger.rpc import from_b64, to_b64

MAX_BYTES = 8192  # of each part of an assertion
USER_PRESENT, USER_VERIFIED, BACKUP_ELIGIBLE, BACKED_UP, HAS_CREDENTIAL, HAS_EXTENSIONS = (
    1 << bit for bit in (0, 2, 3, 4, 6, 7)
)
HEADER = 37  # SHA-256 of the RP id, flags, counter
PASSKEY = b"consent-gateway passkey 1\x00"
COPY = b"consent-gateway own copy 1\x00"

Json = dict[str, Any]


class SignatureRefused(RefusedTransition):
    """The signature does not show what it should; `code` says which check said no."""

    code = "signature_wrong"


@dataclass(frozen=True)
class Assertion:
    """What a passkey answered: which credential (hex), and the three byte strings of the response."""

    credential: str
    authenticator_data: bytes
    client_data: bytes
    signature: bytes

    @classmethod
    def from_json(cls, value: object) -> "Assertion":
        """From `{"credential", "authenticator_data_b64", "client_data_b64", "signature_b64"}`.

        Raises SignatureRefused (`signature_malformed`).
        """
        names = ("authenticator_data_b64", "client_data_b64", "signature_b64")
        if not isinstance(value, dict) or value.keys() != {"credential", *names}:
            _refuse("signature_malformed", "The signature is not of the form that a passkey gives.")
        try:
            parts = [from_b64(value[name]) for name in names]
            credential = bytes.fromhex(value["credential"]).hex()
        except Exception:
            _refuse("signature_malformed", "The signature is not of the form that a passkey gives.")
        if not credential or credential != value["credential"] or max(map(len, parts)) > MAX_BYTES:
            _refuse("signature_malformed", "The signature is not of the form that a passkey gives.")
        return cls(credential, *parts)

    @classmethod
    def read(cls, text: str) -> "Assertion":
        """From what a form sends: the same as JSON. Raises SignatureRefused (`signature_malformed`)."""
        try:
            value = canonical.loads(text.encode(errors="replace"), limit=8 * MAX_BYTES)
        except Refused:
            _refuse("signature_malformed", "The signature is not of the form that a passkey gives.")
        return cls.from_json(value)

    def to_json(self) -> Json:
        return {
            "credential": self.credential,
            "authenticator_data_b64": to_b64(self.authenticator_data),
            "client_data_b64": to_b64(self.client_data),
            "signature_b64": to_b64(self.signature),
        }


def origin_of(url: str) -> str:
    """The origin of a URL as a browser writes it: scheme, host, and the port if not the scheme's own."""
    parts = urlsplit(url.lower())
    port = parts.port if parts.port != {"http": 80, "https": 443}.get(parts.scheme) else None
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{port}" if port else "")


def relying_party(origin: str) -> str:
    """The RP id of an origin: its host, which is what our pages ask passkeys for."""
    return urlsplit(origin).hostname or ""


def passkey_challenge(*, patient: str, credential: str, public_key: bytes) -> bytes:
    """What a passkey signs to vouch for another one of the same patient: 32 bytes."""
    said = {"credential": credential, "patient": patient, "public_key": sha256(public_key).hexdigest()}
    return sha256(PASSKEY + canonical.dumps(said)).digest()


def copy_challenge(*, patient: str, access: str, expires: int) -> bytes:
    """What a passkey signs to have a copy of its patient's own records until `expires`: 32 bytes."""
    return sha256(COPY + canonical.dumps({"access": access, "expires": expires, "patient": patient})).digest()


def access_digest(*, access: str, details: Json, expires: int, kind: str, patient: str) -> str:
    """What the ledger gets of a person's access (`kind` emergency or subject), in hex: it binds the access to
    the patient, to what was said, and to its end. A clinician's passkey signs that of her emergency."""
    said = {"access": access, "details": details, "expires": expires, "kind": kind, "patient": patient}
    return canonical.digest(said)


def check_assertion(
    assertion: Assertion, *, credential: str, public_key: bytes, challenge: bytes, origin: str
) -> None:
    """That the passkey `credential` (hex) signed `challenge` on a page of `origin`, with its user verified.

    `public_key` is a DER SubjectPublicKeyInfo: P-256 (ES256), Ed25519 (EdDSA) or RSA of at least 2048 bits
    (RS256). The signature counter is not looked at: passkeys that are synchronised have none, and a challenge
    of ours is used once. Raises SignatureRefused.
    """
    # (1) it is the passkey that is meant
    if assertion.credential != credential:
        _refuse("signature_key", "Another passkey signed this.")
    # (2) what the browser says: an assertion, of this challenge, on a page of ours and in no frame of another
    data = _client_data(assertion.client_data)
    if data.get("type") != "webauthn.get":
        _refuse("signature_type", "This is not a signature of a passkey in use.")
    if not _is_challenge(data.get("challenge"), challenge):
        _refuse("signature_challenge", "This signature is for something else.")
    if data.get("origin") != origin or data.get("crossOrigin", False) is not False or "topOrigin" in data:
        _refuse("signature_origin", "This was signed on another site.")
    # (3) what the passkey says: made for this site, with the user there and verified, and nothing beside
    said = assertion.authenticator_data
    if len(said) < HEADER:
        _refuse("signature_malformed", "The signature is not of the form that a passkey gives.")
    flags = said[32]
    if not hmac.compare_digest(said[:32], sha256(relying_party(origin).encode()).digest()):
        _refuse("signature_site", "This passkey was made for another site.")
    if not flags & USER_PRESENT:
        _refuse("signature_presence", "Nobody touched the passkey.")
    if not flags & USER_VERIFIED:
        _refuse("signature_verification", "The passkey did not check who used it.")
    if flags & BACKED_UP and not flags & BACKUP_ELIGIBLE:
        _refuse("signature_malformed", "The signature is not of the form that a passkey gives.")
    if flags & HAS_CREDENTIAL or (len(said) > HEADER) != bool(flags & HAS_EXTENSIONS):
        _refuse("signature_malformed", "The signature is not of the form that a passkey gives.")
    # (4) its key signed both
    if not _holds(public_key, assertion.signature, said + sha256(assertion.client_data).digest()):
        _refuse("signature_wrong", "The signature does not hold.")


def check_public_key(public_key: bytes) -> None:
    """That this is a key whose signatures can be checked. Raises SignatureRefused (`signature_key`)."""
    if _load(public_key) is None:
        _refuse("signature_key", "This kind of passkey cannot sign choices. Use another one.")


def _client_data(data: bytes) -> Json:
    try:
        found = canonical.loads(data, limit=MAX_BYTES)
    except Refused:
        found = None
    if not isinstance(found, dict):
        _refuse("signature_malformed", "The signature is not of the form that a passkey gives.")
    return found


def _is_challenge(text: object, challenge: bytes) -> bool:
    """base64url without padding, and only the one spelling that a browser gives."""
    own = to_b64(challenge).rstrip("=").replace("+", "-").replace("/", "_")
    return isinstance(text, str) and hmac.compare_digest(text.encode(), own.encode())


def _load(public_key: bytes) -> Any:
    try:
        key = load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm):
        return None
    match key:
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return key
        case ed25519.Ed25519PublicKey():
            return key
        case rsa.RSAPublicKey() if 2048 <= key.key_size <= 8192:
            return key
    return None


def _holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    key = _load(public_key)
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, message, ec.ECDSA(SHA256()))
            case ed25519.Ed25519PublicKey():
                key.verify(signature, message)
            case rsa.RSAPublicKey():
                key.verify(signature, message, padding.PKCS1v15(), SHA256())
            case _:
                return False
    except InvalidSignature:
        return False
    return True


def _refuse(code: str, message: str) -> NoReturn:
    raise SignatureRefused(message, code=code)

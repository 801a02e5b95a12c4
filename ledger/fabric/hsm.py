"""A Fabric identity's key in an HSM, reached by PKCS#11. The key never enters this process; its PIN does.

Needs the optional package python-pkcs11 (`pip install 'consent-gateway[hsm]'`), imported at the first use.
"""

import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from ledger.errors import SignerUnavailable

if TYPE_CHECKING:
    import pkcs11

COORDINATE_BYTES = 32  # of r, and of s, on P-256
# What a new start of the library may mend; the rest waits for a person, and disturbs no other identity.
PASSING = frozenset({"signer_failed", "signer_token_missing"})


@dataclass(frozen=True)
class Token:
    """Where a key is: the vendor's library, the token's label, the key's label or id, where its PIN stands.

    In a connection profile: `{"module": file, "token": label, "label": text, "id": hex, "pin_env": name}`,
    of `label` and `id` one or both, and in place of `pin_env` perhaps `pin_file`. Never the PIN itself.
    """

    module: str
    token: str
    label: str | None = None
    id: bytes | None = None
    pin_env: str | None = None
    pin_file: Path | None = None

    @classmethod
    def read(cls, entry: Mapping[str, Any], folder: Path) -> "Token":
        """From a profile in `folder`. Raises ValueError, which repeats nothing of the entry's values."""
        names = {"module", "token", "label", "id", "pin_env", "pin_file"}
        if not set(entry) <= names or not all(isinstance(value, str) for value in entry.values()):
            raise ValueError(f"an HSM key has only these, each a text: {', '.join(sorted(names))}")
        if not entry.get("module") or not entry.get("token"):
            raise ValueError("an HSM key needs its module and its token's label")
        if not entry.get("label") and not entry.get("id"):
            raise ValueError("an HSM key needs its label or its id")
        if bool(entry.get("pin_env")) == bool(entry.get("pin_file")):
            raise ValueError("an HSM key needs pin_env or pin_file, and not both")
        return cls(
            module=entry["module"],
            token=entry["token"],
            label=entry.get("label"),
            id=bytes.fromhex(entry["id"]) if entry.get("id") else None,
            pin_env=entry.get("pin_env"),
            pin_file=folder / entry["pin_file"] if entry.get("pin_file") else None,
        )

    def pin(self) -> str:
        """Raises SignerUnavailable (`signer_pin_missing`, `signer_pin_exposed`)."""
        if self.pin_env is not None:
            pin = os.environ.get(self.pin_env, "")
        else:
            pin = _read_private(self.pin_file or Path())
        if not pin:
            raise SignerUnavailable(
                "The HSM's PIN is not there: set the environment variable, or write the file, that the "
                "connection profile names.",
                code="signer_pin_missing",
            )
        return pin


def _read_private(path: Path) -> str:
    """The one line of a file that its owner alone may read; empty where there is none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(file) as opened:
            mode = os.fstat(file).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise SignerUnavailable(
                    "The HSM's PIN file may be readable by its owner alone: set its mode to 0600.",
                    code="signer_pin_exposed",
                )
            return opened.read(1024).strip()
    except (OSError, UnicodeDecodeError):
        return ""


@dataclass
class _Module:
    """One PKCS#11 library of this process: a login and a new start count for all of its users."""

    path: str
    # Sessions are not for several threads, and a library that starts anew ends every session at once.
    lock: threading.Lock = field(default_factory=threading.Lock)
    starts: int = 0  # a handle of an earlier start may by now be another user's

    def library(self) -> "pkcs11._pkcs11.lib":
        """Loaded and begun. Raises SignerUnavailable (`signer_not_installed`, `signer_module_missing`)."""
        try:
            import pkcs11
        except ImportError:
            raise SignerUnavailable(
                "A key in an HSM needs the package python-pkcs11: install consent-gateway[hsm].",
                code="signer_not_installed",
            ) from None
        try:
            return pkcs11.lib(self.path)
        except Exception:
            raise SignerUnavailable(
                "The HSM's PKCS#11 library cannot be loaded: look at `module` in the connection profile.",
                code="signer_module_missing",
            ) from None

    def start_again(self) -> None:
        """Have the library look for its tokens anew; nothing of before can be used after it."""
        self.starts += 1
        self.library().reinitialize()


_modules: dict[str, _Module] = {}
_modules_lock = threading.Lock()


def _module(path: str) -> _Module:
    with _modules_lock:
        return _modules.setdefault(path, _Module(path))


class HsmSigner:
    """Implements `identity.Signer` with a P-256 key in a token. Safe to use from several threads.

    It connects at the first signature, and once more where the token was reset. A PIN that the token refused
    is not tried again until it is another, so that nothing locks the token. What the token signed is checked
    against the certificate before it is used.
    """

    def __init__(self, token: Token, certificate: bytes) -> None:
        """`certificate` is PEM. Raises ValueError when it is not of a P-256 key."""
        public = x509.load_pem_x509_certificate(certificate).public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise ValueError("a Fabric identity's key must be on the curve P-256")
        self._public = public
        self._token = token
        self._module = _module(token.module)
        self._session: pkcs11.Session | None = None
        self._key: Any = None
        self._starts = -1  # of the module when `_session` was opened
        self._refused_pin: str | None = None

    def sign_digest(self, digest: bytes) -> tuple[int, int]:
        """The ECDSA signature (r, s) over a SHA-256 digest of 32 bytes. Raises SignerUnavailable."""
        with self._module.lock:
            try:
                return self._sign(digest)
            except SignerUnavailable as error:
                if error.code not in PASSING:
                    raise
            self._start_again()  # the token was reset, or taken out and put back
            return self._sign(digest)

    def _sign(self, digest: bytes) -> tuple[int, int]:
        library = self._module.library()
        from pkcs11 import Mechanism, PKCS11Error

        try:
            if self._session is None or self._starts != self._module.starts:
                self._key, self._starts = None, self._module.starts
                self._session = self._log_in(library.get_token(token_label=self._token.token))
            if self._key is None:
                self._key = self._find(self._session)
            signature = self._key.sign(digest, mechanism=Mechanism.ECDSA)
        except PKCS11Error as error:
            raise _unavailable(error) from None
        r = int.from_bytes(signature[:COORDINATE_BYTES], "big")
        s = int.from_bytes(signature[COORDINATE_BYTES:], "big")
        try:
            der = utils.encode_dss_signature(r, s)
            self._public.verify(der, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        except InvalidSignature:
            self._key = None
            raise SignerUnavailable(
                "The HSM's key is not the certificate's: look at the key's label and id in the connection "
                "profile.",
                code="signer_key_differs",
            ) from None
        return r, s

    def _start_again(self) -> None:
        from pkcs11 import PKCS11Error

        self._session = None
        try:
            self._module.start_again()
        except PKCS11Error as error:
            raise _unavailable(error) from None

    def _log_in(self, token: "pkcs11.Token") -> "pkcs11.Session":
        from pkcs11.exceptions import PinIncorrect, PinInvalid, PinLenRange, UserAlreadyLoggedIn

        pin = self._token.pin()
        if pin == self._refused_pin:
            raise _wrong_pin()
        try:
            return token.open(user_pin=pin)
        except UserAlreadyLoggedIn:  # another identity of this process; a login is for the whole process
            return token.open()
        except (PinIncorrect, PinInvalid, PinLenRange):
            self._refused_pin = pin
            raise _wrong_pin() from None

    def _find(self, session: "pkcs11.Session") -> Any:
        from pkcs11 import Attribute, KeyType, ObjectClass

        wanted: dict[Attribute, Any] = {
            Attribute.CLASS: ObjectClass.PRIVATE_KEY,
            Attribute.KEY_TYPE: KeyType.EC,
        }
        if self._token.label is not None:
            wanted[Attribute.LABEL] = self._token.label
        if self._token.id is not None:
            wanted[Attribute.ID] = self._token.id
        found = list(session.get_objects(wanted))
        if len(found) != 1:
            raise SignerUnavailable(
                "The HSM's token has no key, or more than one, of the label and id in the connection "
                "profile.",
                code="signer_key_missing",
            )
        return found[0]


def _wrong_pin() -> SignerUnavailable:
    return SignerUnavailable(
        "The HSM refused its PIN. It is not tried again until it is changed, lest the token lock.",
        code="signer_pin_wrong",
    )


def _unavailable(error: Exception) -> SignerUnavailable:
    """The library's error by a code of ours. Its own text may say anything and is not repeated."""
    from pkcs11 import exceptions

    if isinstance(error, (exceptions.NoSuchToken, exceptions.TokenNotPresent, exceptions.DeviceRemoved)):
        return SignerUnavailable(
            "The HSM's token is not there: is it plugged in, is its label the connection profile's?",
            code="signer_token_missing",
        )
    if isinstance(error, exceptions.MultipleTokensReturned):
        return SignerUnavailable(
            "Several tokens have the label that the connection profile names.", code="signer_token_ambiguous"
        )
    if isinstance(error, exceptions.PinLocked):
        return SignerUnavailable(
            "The HSM locked its token after wrong PINs: its security officer must unlock it.",
            code="signer_pin_locked",
        )
    return SignerUnavailable(f"The HSM could not sign ({type(error).__name__}). It is asked again.")

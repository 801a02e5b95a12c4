"""Whom a reader of the embedded ledger believes: the one key in `ledger.pub`. Needs no connection."""

from collections.abc import Sequence
from pathlib import Path

from ledger.client import Proof, Reading
from ledger.embedded.blocks import ORG, READ, parse, verifies
from ledger.embedded.folder import read_public_key
from ledger.errors import GatewayError, ProofError
from ledger.rpc import from_b64


class EmbeddedTrust:
    """Implements ledger.client.Trust; `key` is the ledger's public key, hex."""

    needed = 1
    own = ORG

    def __init__(self, key: str) -> None:
        self._key = key
        self.identity = f"embedded {key}"

    @classmethod
    def from_folder(cls, folder: str | Path) -> "EmbeddedTrust":
        return cls(read_public_key(Path(folder)))

    def check(self, proof: Proof, *, keys: Sequence[str], nonce: bytes) -> list[Reading]:
        """See ledger.client.Trust.check.

        1. there is one answer, of the one organisation, by the pinned key
        2. the signature is over this payload
        3. the payload answers this question: these keys, in this order, with this nonce
        4. it is whole: a height, and a value or null for each key
        """
        try:
            # 1
            (answer,) = proof.answers
            if proof.kind != "embedded" or answer.org != ORG or answer.signer.hex() != self._key:
                raise ValueError
            # 2
            if not verifies(self._key, answer.signature.hex(), READ + answer.payload):
                raise ValueError
            # 3
            payload = parse(answer.payload)
            asked = {"kind": "read", "keys": list(keys), "nonce": nonce.hex(), "org": ORG}
            if any(payload[name] != value for name, value in asked.items()):
                raise ValueError
            # 4
            height, values = payload["height"], payload["values_b64"]
            if type(height) is not int or height < 1 or len(values) != len(keys):
                raise ValueError
            found = {
                key: None if value is None else from_b64(value)
                for key, value in zip(keys, values, strict=True)
            }
        except (ValueError, KeyError, TypeError, GatewayError):
            raise ProofError("The ledger's answer does not hold. Nothing is opened.") from None
        return [Reading(ORG, height, found)]

    def check_own(self, proof: Proof, *, keys: Sequence[str], nonce: bytes) -> Reading:
        """See ledger.client.Trust.check_own: there is no other organisation."""
        return self.check(proof, keys=keys, nonce=nonce)[0]

"""Who signs on Fabric: an identity is an organisation's certificate and a signer that holds its key."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from fabric_protos.msp import identities_pb2

from ledger.fabric.hsm import HsmSigner, Token

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Signer(Protocol):
    """Holds a P-256 key somewhere: in a file (below), in an HSM (`ledger/fabric/hsm.py`)."""

    def sign_digest(self, digest: bytes) -> tuple[int, int]:
        """The ECDSA signature (r, s) over a SHA-256 digest of 32 bytes. Raises SignerUnavailable."""
        ...


class PemSigner:
    """A key in a PEM file (PKCS#8 or SEC 1, unencrypted, readable by this process's account only)."""

    def __init__(self, pem: bytes) -> None:
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("a Fabric identity's key must be on the curve P-256")
        self._key = key

    def sign_digest(self, digest: bytes) -> tuple[int, int]:
        signature = self._key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        return utils.decode_dss_signature(signature)


@dataclass(frozen=True)
class Identity:
    """An MSP id, its certificate (PEM), and the signer of its key."""

    org: str
    certificate: bytes
    signer: Signer

    @classmethod
    def from_files(cls, org: str, certificate: Path, key: Path) -> "Identity":
        return cls(org, certificate.read_bytes(), PemSigner(key.read_bytes()))

    @classmethod
    def from_token(cls, org: str, certificate: Path, token: Token) -> "Identity":
        """Its key in an HSM. Nothing is asked of the HSM before the first signature."""
        pem = certificate.read_bytes()
        return cls(org, pem, HsmSigner(token, pem))

    @cached_property
    def creator(self) -> bytes:
        """The SerializedIdentity that stands in every header we sign."""
        identity = identities_pb2.SerializedIdentity(mspid=self.org, id_bytes=self.certificate)
        data: bytes = identity.SerializeToString()
        return data

    def sign(self, message: bytes) -> bytes:
        """DER of ECDSA over SHA-256 of `message`, with the low s that Fabric demands.

        Raises SignerUnavailable where the key is in an HSM that cannot be asked.
        """
        r, s = self.signer.sign_digest(hashlib.sha256(message).digest())
        return utils.encode_dss_signature(r, min(s, P256_ORDER - s))

"""Whom we believe on Fabric: m organisations' signed answers to one read, checked without a connection.

An answer holds two things that one peer signed under our nonce: first the height of its chain, then the
values. Both are bound to what was asked by `proposal_hash`. Kept as they are, they verify again years later.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2

from ledger.client import Answer, Proof, Reading
from ledger.contract import canonical
from ledger.errors import ProofError
from ledger.fabric.profile import Profile
from ledger.fabric.proposals import proposal_hash, without_transient

KIND = "fabric"
# One nonce makes two proposals; their own nonces are told apart by what they ask.
HEIGHT = b"height"
STATE = b"state"


def root_certificates(profile: str | Path) -> list[bytes]:
    """The organisations' pinned roots, DER: what a third party compares by fingerprint."""
    roots = [root for one in Profile.load(profile).organisations.values() for root in one.roots]
    return [x509.load_pem_x509_certificate(root).public_bytes(Encoding.DER) for root in roots]


class Unproven(Exception):
    """One answer does not hold; the text says at which step, and nothing of the answer."""


def pack(height_proposal: bytes, height: Any, state_proposal: bytes, state: Any) -> bytes:
    """An `Answer.payload`: all of what one peer signed but for the last signature, as JSON."""

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return json.dumps(
        {
            "height": {
                "answer": text(height.payload),
                "proposal": text(without_transient(height_proposal)),
                "signature": text(height.endorsement.signature),
                "signer": text(height.endorsement.endorser),
            },
            "state": {"answer": text(state.payload), "proposal": text(without_transient(state_proposal))},
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


@dataclass(frozen=True)
class _Signed:
    """One signed simulation: what was asked, and what one peer signed."""

    proposal: bytes
    answer: bytes
    signature: bytes
    signer: bytes


class FabricTrust:
    """Implements `ledger.client.Trust`. `clock` (seconds since 1970) dates the peers' certificates."""

    def __init__(self, profile: Profile, *, clock: Callable[[], float] = time.time) -> None:
        self.needed = profile.needed
        self.own = profile.own
        self._channel = profile.channel
        self._chaincode = profile.chaincode
        self.identity = f"fabric {profile.channel} {profile.chaincode}"
        self._roots: Mapping[str, tuple[bytes, ...]] = {
            name: organisation.roots for name, organisation in profile.organisations.items()
        }
        self._clock = clock

    @classmethod
    def from_profile(cls, path: str | Path) -> "FabricTrust":
        return cls(Profile.load(path))

    def check(self, proof: Proof, *, keys: Sequence[str], nonce: bytes) -> list[Reading]:
        """The readings that hold, one for each organisation. Raises ProofError when fewer than `needed` do.

        An answer that does not hold counts for nothing, like that of a peer that is away.
        """
        return self._check(proof, proof.answers, keys, nonce, needed=self.needed)

    def check_own(self, proof: Proof, *, keys: Sequence[str], nonce: bytes) -> Reading:
        """Our own organisation's reading, whatever the others answered. Raises ProofError."""
        own = [answer for answer in proof.answers if answer.org == self.own]
        return self._check(proof, own, keys, nonce, needed=1)[0]

    def _check(
        self, proof: Proof, answers: Sequence[Answer], keys: Sequence[str], nonce: bytes, *, needed: int
    ) -> list[Reading]:
        if proof.kind != KIND:
            raise ProofError("The proof is not one of a Fabric channel.")
        readings: dict[str, Reading] = {}
        broken: list[str] = []
        for answer in answers:
            try:
                reading = self._reading(answer, list(keys), nonce)
            except Unproven as why:
                broken.append(str(why))
                continue
            readings.setdefault(reading.org, reading)
        if len(readings) < needed:
            because = f" ({'; '.join(sorted(set(broken)))})" if broken else ""
            raise ProofError(f"{len(readings)} organisations proved the state, {needed} are needed{because}.")
        return list(readings.values())

    def _reading(self, answer: Answer, keys: list[str], nonce: bytes) -> Reading:
        # 1. The answer is whole, and both parts are signed by one peer.
        height, state = _unpack(answer)
        if height.signer != state.signer:
            raise Unproven("height and state were signed by two peers")
        # 2. That peer belongs to the organisation that it stands for.
        key = self._peer_key(answer.org, state.signer)
        # 3. It signed the height of our channel's chain, for this nonce.
        info, _ = self._signed(
            height,
            key,
            chaincode="qscc",
            args=[b"GetChainInfo", self._channel.encode()],
            nonce=nonce + HEIGHT,
        )
        # 4. Then it signed the values of the keys that we asked, for this nonce.
        asked = canonical.dumps({"keys": keys, "nonce": nonce.hex()})
        payload, results = self._signed(
            state, key, chaincode=self._chaincode, args=[b"Read", asked], nonce=nonce + STATE
        )
        values = _values(payload, keys)
        # 5. Its simulation read each of these keys, and wrote nothing.
        versions = _versions(results, self._chaincode, keys, values)
        return Reading(
            org=answer.org,
            height=int(ledger_pb2.BlockchainInfo.FromString(info).height),
            values=values,
            blocks=versions,
        )

    def _peer_key(self, org: str, signer: bytes) -> ec.EllipticCurvePublicKey:
        roots = self._roots.get(org)
        if roots is None:
            raise Unproven("an organisation that is not pinned")
        certificate, name = certificate_of(signer)
        if name != org:
            raise Unproven("the signer is of another organisation")
        issuer = issuer_of(certificate, roots)
        # The dates of both, by our own clock.
        now = datetime.fromtimestamp(self._clock(), UTC)
        for one in (certificate, issuer):
            if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
                raise Unproven("a certificate is expired or not yet valid")
        units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        if "peer" not in [unit.value for unit in units]:
            raise Unproven("the signer is not a peer")
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise Unproven("the signer's key is not an elliptic curve key")
        return key

    def _signed(
        self,
        signed: _Signed,
        key: ec.EllipticCurvePublicKey,
        *,
        chaincode: str,
        args: list[bytes],
        nonce: bytes,
    ) -> tuple[bytes, bytes]:
        """(response payload, read-write set) that the peer signed for exactly this question."""
        # a. The signature, over answer ‖ signer.
        try:
            key.verify(signed.signature, signed.answer + signed.signer, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Unproven("a signature does not hold") from None
        try:
            # b. What was signed belongs to this proposal.
            answer = proposal_response_pb2.ProposalResponsePayload.FromString(signed.answer)
            if answer.proposal_hash != proposal_hash(signed.proposal):
                raise Unproven("the answer is to another proposal")
            # c. The proposal is our question: channel, chaincode, arguments, nonce.
            proposal = proposal_pb2.Proposal.FromString(signed.proposal)
            header = common_pb2.Header.FromString(proposal.header)
            channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
            extension = proposal_pb2.ChaincodeHeaderExtension.FromString(channel_header.extension)
            signature_header = common_pb2.SignatureHeader.FromString(header.signature_header)
            payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
            spec = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input).chaincode_spec
            action = proposal_pb2.ChaincodeAction.FromString(answer.extension)
        except Unproven:
            raise
        except Exception:
            raise Unproven("an answer cannot be read") from None
        names = {extension.chaincode_id.name, spec.chaincode_id.name, action.chaincode_id.name}
        if channel_header.channel_id != self._channel or names != {chaincode}:
            raise Unproven("the answer is of another channel or chaincode")
        if list(spec.input.args) != args:
            raise Unproven("another question was asked")
        if signature_header.nonce != nonce:
            raise Unproven("the answer has another nonce")
        # d. Only an answer of 200 is evidence.
        if action.response.status != 200:
            raise Unproven("the answer is an error")
        return action.response.payload, action.results


def _unpack(answer: Answer) -> tuple[_Signed, _Signed]:
    try:
        parts = json.loads(answer.payload)
        height = {name: base64.b64decode(value, validate=True) for name, value in parts["height"].items()}
        state = {name: base64.b64decode(value, validate=True) for name, value in parts["state"].items()}
        return _Signed(**height), _Signed(**state, signature=answer.signature, signer=answer.signer)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unproven("an answer is malformed") from None


@lru_cache(maxsize=256)
def certificate_of(signer: bytes) -> tuple[x509.Certificate, str]:
    """The certificate and the MSP id of a SerializedIdentity. Raises Unproven."""
    try:
        identity = identities_pb2.SerializedIdentity.FromString(signer)
        return x509.load_pem_x509_certificate(identity.id_bytes), identity.mspid
    except Exception:
        raise Unproven("a signer's certificate cannot be read") from None


@lru_cache(maxsize=256)
def issuer_of(certificate: x509.Certificate, roots: tuple[bytes, ...]) -> x509.Certificate:
    """The one of `roots` (PEM) that issued it. Raises Unproven."""
    for root in roots:
        pinned = x509.load_pem_x509_certificate(root)
        try:
            certificate.verify_directly_issued_by(pinned)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return pinned
    raise Unproven("the signer's certificate is not of a pinned root")


def _values(payload: bytes, keys: list[str]) -> dict[str, bytes | None]:
    try:
        values = json.loads(payload)["values"]
        decoded = [None if value is None else base64.b64decode(value, validate=True) for value in values]
        return dict(zip(keys, decoded, strict=True))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unproven("an answer's values cannot be read") from None


def _versions(
    results: bytes, chaincode: str, keys: list[str], values: Mapping[str, bytes | None]
) -> dict[str, int]:
    """The block that wrote each key that has a value, from the signed read set."""
    reads: dict[str, int | None] = {}
    try:
        for entry in rwset_pb2.TxReadWriteSet.FromString(results).ns_rwset:
            sets = kv_rwset_pb2.KVRWSet.FromString(entry.rwset)
            if sets.writes or sets.metadata_writes:
                raise Unproven("a read wrote something")
            if entry.namespace == chaincode:
                for read in sets.reads:
                    reads[read.key] = read.version.block_num if read.HasField("version") else None
    except Unproven:
        raise
    except Exception:
        raise Unproven("a read set cannot be read") from None
    blocks: dict[str, int] = {}
    for key in keys:
        if key not in reads or (reads[key] is None) != (values[key] is None):
            raise Unproven("the values are not what was read")
        if (block := reads[key]) is not None:
            blocks[key] = block
    return blocks

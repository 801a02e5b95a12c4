"""Checks a channel from its first block on, trusting nothing but the connection profile's roots.

The blocks come from our own organisation's peer. Every header, signature, endorsement and version is checked
again, the state is derived from what valid transactions wrote, and the peer's answers are held against it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fabric_protos.common import common_pb2, configtx_pb2, configuration_pb2, policies_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.msp import identities_pb2, msp_principal_pb2
from fabric_protos.peer import policy_pb2
from fabric_protos.peer.lifecycle import chaincode_definition_pb2, db_pb2

from ledger.client import ENDORSEMENT_POLICY_FAILURE, MVCC_READ_CONFLICT, VALID
from ledger.contract.canonical import load_canonical
from ledger.errors import LedgerError
from ledger.fabric.blocks import SignedEntry, data_hash, header_bytes, header_hash, signed_transactions
from ledger.fabric.client import FabricLedger
from ledger.fabric.profile import Profile
from ledger.fabric.trust import Unproven, certificate_of, issuer_of
from ledger.fsck import CHECKPOINTS, Progress, Report, log_grew

IDENTITY = "gateway"
BLOCK_SECONDS = 10.0  # in which the next block must come
KEYS_AT_ONCE = 500
ROUNDS = 5  # of comparing what differs, while new blocks come
LIFECYCLE = "_lifecycle"
POLICY = "VALIDATION_PARAMETER"

Version = tuple[int, int]
Key = tuple[str, str]
"""(namespace, key)"""


class _BadError(Exception):
    def __init__(self, problem: str, block: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.block = block


@dataclass
class State:
    """What the blocks so far lead to."""

    values: dict[Key, tuple[bytes, Version]] = field(default_factory=dict)
    policies: dict[Key, bytes] = field(default_factory=dict)


def check(profile: str | Path, *, progress: Progress | None = None) -> Report:
    """The report on the channel of this profile. Raises LedgerError, ValueError (the profile's).

    For each block, in order:

    1. its number follows, its header holds the hash of the block before and of its own transactions
    2. orderers of the pinned roots signed its header (a quorum where they are BFT)
    For each of its transactions that stands as valid:
    3. its submitter, of a pinned root, signed it, and it is the first of its id
    4. endorsers of pinned roots signed it, as many as each key that it writes asks for
    5. every key that it read still had the version it had
    6. a checkpoint of an audit log proves that it extends the one before
    and none stands as invalid for what it was not.
    At last our peer answers each of the chaincode's keys with the value that was derived.
    """
    loaded = Profile.load(profile)
    ledger = FabricLedger(loaded, loaded.identity(IDENTITY))
    try:
        return _Check(loaded, ledger, progress or (lambda done, total: None)).run()
    finally:
        ledger.close()


class _Check:
    def __init__(self, profile: Profile, ledger: FabricLedger, progress: Progress) -> None:
        self._profile, self._ledger, self._progress = profile, ledger, progress
        self._state = State()
        self._blocks = self._transactions = 0
        self._previous = b""
        self._seen: set[str] = set()
        self._consenters: dict[int, Any] = {}

    def run(self) -> Report:
        unchecked = () if self._profile.orderer_roots else ("who ordered the blocks (no orderers pinned)",)
        try:
            self._read_on()
            self._compare()
        except _BadError as bad:
            return Report(False, self._blocks, self._transactions, 0, bad.block, bad.problem, unchecked)
        return Report(True, self._blocks, self._transactions, len(self._ours()), unchecked=unchecked)

    def _read_on(self) -> None:
        """The blocks that we have not seen yet, up to the height that our peer has now."""
        height = self._ledger.height()
        if self._blocks >= height:
            return
        for block in self._ledger.blocks(self._blocks, wait=BLOCK_SECONDS):
            try:
                self._block(block)
            except _BadError as bad:
                raise _BadError(bad.problem, self._blocks) from None
            except Unproven as why:
                raise _BadError(str(why), self._blocks) from None
            except Exception:  # protobuf's, of many kinds
                raise _BadError("the block is malformed", self._blocks) from None
            self._blocks += 1
            self._progress(self._blocks, height)
            if self._blocks >= height:
                return
        raise LedgerError("Our peer does not hand out its next block. See its log, then try again.")

    def _block(self, block: Any) -> None:
        # 1
        if block.header.number != self._blocks:
            raise _BadError("the block is missing")
        if block.header.previous_hash != self._previous:
            raise _BadError("it does not follow from the block before")
        if block.header.data_hash != data_hash(block):
            raise _BadError("its transactions are not those that its header names")
        self._previous = header_hash(block)
        # 2
        if self._blocks and self._profile.orderer_roots:
            self._ordered(block)
        changed: set[Key] = set()  # whose policy a transaction of this block sets, valid or not
        for entry in signed_transactions(block):
            try:
                self._transaction(entry, changed)
            except (_BadError, Unproven) as bad:
                raise _BadError(f"transaction {entry.index}: {bad}") from None
            self._seen.add(entry.tx_id)
            self._transactions += 1
        if consenters := _consenters(block):
            self._consenters = consenters

    def _ordered(self, block: Any) -> None:
        metadata = common_pb2.Metadata.FromString(block.metadata.metadata[common_pb2.SIGNATURES])
        signed, header = set(), header_bytes(block)
        for one in metadata.signatures:
            if one.identifier_header:
                number = common_pb2.IdentifierHeader.FromString(one.identifier_header).identifier
                signer, part = self._consenters.get(number, b""), one.identifier_header
            else:
                signer = common_pb2.SignatureHeader.FromString(one.signature_header).creator
                part = one.signature_header
            try:
                certificate, _ = certificate_of(signer)
                issuer_of(certificate, self._profile.orderer_roots)
                if "orderer" in _units(certificate) and _holds(
                    certificate, one.signature, metadata.value + part + header
                ):
                    signed.add(signer)
            except Unproven:
                continue
        nodes = len(self._consenters)
        # Of n BFT orderers, of which f = (n - 1) / 3 may lie: more than half of n + f. Raft trusts each.
        needed = -(-(nodes + (nodes - 1) // 3 + 1) // 2) if nodes else 1
        if len(signed) < needed:
            raise _BadError("the orderers' signatures do not hold")

    def _transaction(self, entry: SignedEntry, changed: set[Key]) -> None:
        sets = {
            one.namespace: kv_rwset_pb2.KVRWSet.FromString(one.rwset)
            for one in rwset_pb2.TxReadWriteSet.FromString(entry.results).ns_rwset
        }
        written = {
            (space, write.key) for space, one in sets.items() for write in [*one.writes, *one.metadata_writes]
        }
        try:
            if entry.validity == VALID:
                self._submitted(entry)
                self._endorsed(entry, written)
                if not self._is_current(sets):
                    raise _BadError("it stands as valid, and read what was changed meanwhile")
                self._log_grew(entry, sets)
                self._apply(entry, sets)
            elif entry.validity == MVCC_READ_CONFLICT and self._is_current(sets):
                raise _BadError("it stands as a conflict, and there was none")
            elif entry.validity == "DUPLICATE_TXID" and entry.tx_id not in self._seen:
                raise _BadError("it stands as a copy, and is the first of its id")
            elif entry.validity == ENDORSEMENT_POLICY_FAILURE and not written & changed:
                self._was_refused(entry, written)
        finally:
            changed |= {(space, write.key) for space, one in sets.items() for write in one.metadata_writes}

    def _submitted(self, entry: SignedEntry) -> None:
        # 3
        if entry.tx_id in self._seen:
            raise _BadError("its id was used before")
        certificate, org = certificate_of(entry.creator)
        issuer_of(certificate, self._roots(org))
        if not _holds(certificate, entry.signature, entry.payload):
            raise _BadError("its submitter's signature does not hold")
        if not entry.is_own_id or not entry.answers_proposal:
            raise _BadError("what was endorsed is not what was proposed")

    def _endorsed(self, entry: SignedEntry, written: set[Key]) -> None:
        # 4
        orgs = self._endorsers(entry)
        if not orgs or not all(self._satisfied(key, orgs) for key in written):
            raise _BadError("it lacks endorsements")

    def _endorsers(self, entry: SignedEntry) -> set[str]:
        """The organisations whose peers' endorsements hold. Raises Unproven, _BadError where one does not."""
        orgs = set()
        for endorser, signature in entry.endorsements:
            certificate, org = certificate_of(endorser)
            issuer_of(certificate, self._roots(org))
            valid = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
            if "peer" not in _units(certificate) or not valid[0] <= entry.seconds <= valid[1]:
                raise _BadError("an endorser was no peer, or its certificate was not valid")
            if not _holds(certificate, signature, entry.answer + endorser):
                raise _BadError("an endorser's signature does not hold")
            orgs.add(org)
        return orgs

    def _satisfied(self, key: Key, orgs: set[str]) -> bool:
        """By the key's own policy, else by the chaincode's as it stood committed, else by the profile's."""
        if own := self._state.policies.get(key):
            return _satisfied(policies_pb2.SignaturePolicyEnvelope.FromString(own), orgs)
        namespace = key[0]
        if (
            namespace == LIFECYCLE
        ):  # an approval is its own organisation's; Fabric holds it to the channel's rules
            return True
        info = self._state.values.get((LIFECYCLE, f"namespaces/fields/{namespace}/ValidationInfo"))
        if info is not None:
            raw = db_pb2.StateData.FromString(info[0]).Bytes
            rule = chaincode_definition_pb2.ChaincodeValidationInfo.FromString(raw).validation_parameter
            policy = policy_pb2.ApplicationPolicy.FromString(rule)
            if policy.WhichOneof("Type") == "signature_policy":
                return _satisfied(policy.signature_policy, orgs)
        return len(orgs) >= self._profile.needed

    def _was_refused(self, entry: SignedEntry, written: set[Key]) -> None:
        try:
            self._endorsed(entry, written)
        except (_BadError, Unproven):
            return
        raise _BadError("it stands as not endorsed, and was")

    def _is_current(self, sets: dict[str, Any]) -> bool:
        # 5
        for space, one in sets.items():
            for read in one.reads:
                seen = (read.version.block_num, read.version.tx_num) if read.HasField("version") else None
                found = self._state.values.get((space, read.key))
                if (found[1] if found else None) != seen:
                    return False
        return True

    def _log_grew(self, entry: SignedEntry, sets: dict[str, Any]) -> None:
        # 6
        ours = self._profile.chaincode
        for write in sets[ours].writes if ours in sets else ():
            if not write.key.startswith(CHECKPOINTS):
                continue
            before, _ = self._state.values.get((ours, write.key), (None, None))
            if entry.args[0] != b"Checkpoint" or not log_grew(
                write.key, load_canonical(entry.args[1]), before, write.value
            ):
                raise _BadError("the checkpoint does not extend the one before")

    def _apply(self, entry: SignedEntry, sets: dict[str, Any]) -> None:
        version = (entry.block, entry.index)
        for space, one in sets.items():
            for write in one.writes:
                if write.is_delete:
                    self._state.values.pop((space, write.key), None)
                    self._state.policies.pop((space, write.key), None)
                else:
                    self._state.values[space, write.key] = (write.value, version)
            for write in one.metadata_writes:
                key = (space, write.key)
                if key not in self._state.values:
                    continue
                self._state.values[key] = (self._state.values[key][0], version)
                for item in write.entries:
                    if item.name == POLICY:
                        self._state.policies[key] = item.value

    # The peer's own state

    def _ours(self) -> list[str]:
        return sorted(key for space, key in self._state.values if space == self._profile.chaincode)

    def _compare(self) -> None:
        """Ask our peer for every key; what differs is asked again after the blocks that came meanwhile."""
        keys = self._ours()
        for _ in range(ROUNDS):
            keys = list(self._differing(keys))
            if not keys:
                return
            blocks = self._blocks
            self._read_on()
            if self._blocks == blocks:
                break
        _, (block, _) = self._state.values[self._profile.chaincode, keys[0]]
        raise _BadError(f"our peer answers {len(keys)} keys with another value than was written", block)

    def _differing(self, keys: Sequence[str]) -> Iterator[str]:
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            for key, value in zip(some, self._ledger.evaluate(some), strict=True):
                if value != self._state.values[self._profile.chaincode, key][0]:
                    yield key

    def _roots(self, org: str) -> tuple[bytes, ...]:
        organisation = self._profile.organisations.get(org)
        if organisation is None:
            raise _BadError("somebody of an organisation that is not pinned signed")
        return organisation.roots


def _units(certificate: Any) -> list[str]:
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return [str(unit.value) for unit in units]


def _holds(certificate: Any, signature: bytes, message: bytes) -> bool:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _satisfied(policy: Any, orgs: set[str]) -> bool:
    members = [
        msp_principal_pb2.MSPRole.FromString(one.principal).msp_identifier for one in policy.identities
    ]

    def holds(rule: Any) -> bool:
        if rule.WhichOneof("Type") == "signed_by":
            return members[rule.signed_by] in orgs
        return bool(sum(map(holds, rule.n_out_of.rules)) >= rule.n_out_of.n)

    return holds(policy.rule)


def _consenters(block: Any) -> dict[int, bytes]:
    """The BFT orderers by number, as SerializedIdentity, where this is a configuration block of theirs."""
    if not block.data.data:
        return {}
    payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(block.data.data[0]).payload)
    header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
    if header.type != common_pb2.CONFIG:
        return {}
    config = configtx_pb2.ConfigEnvelope.FromString(payload.data).config
    group = config.channel_group.groups.get("Orderer")
    if group is None or "Orderers" not in group.values:
        return {}
    found = configuration_pb2.Orderers.FromString(group.values["Orderers"].value).consenter_mapping
    return {
        one.id: identities_pb2.SerializedIdentity(mspid=one.msp_id, id_bytes=one.identity).SerializeToString()
        for one in found
    }

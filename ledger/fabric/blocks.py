"""Fabric's blocks taken apart: transactions, validity, events, who endorsed, what was read and written.

No IO. A block reader needs nothing else: `FabricLedger.blocks` hands it the blocks. Sources: Fabric's protos
`common/common.proto` (Block), `peer/transaction.proto`, `ledger/rwset`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)

from ledger.client import VALID


@dataclass(frozen=True)
class ChaincodeEvent:
    chaincode: str
    name: str
    payload: bytes


@dataclass(frozen=True)
class Write:
    """`value` None is a deletion; `policy` says that the key's endorsement policy was set."""

    chaincode: str
    key: str
    value: bytes | None
    policy: bool = False


@dataclass(frozen=True)
class Entry:
    """One transaction in a block. `index` is its place; `seconds` its own timestamp."""

    block: int
    index: int
    tx_id: str
    validity: str
    seconds: int
    creator: str
    chaincode: str
    args: tuple[bytes, ...]
    endorsers: tuple[str, ...]
    event: ChaincodeEvent | None
    writes: tuple[Write, ...]

    @property
    def is_valid(self) -> bool:
        return self.validity == VALID


def transactions(block: Any) -> Iterator[Entry]:
    """The chaincode transactions of a `common.Block`, in order, valid or not; config blocks hold none."""
    codes = block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER]
    for index, data in enumerate(block.data.data):
        payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(data).payload)
        header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
        if header.type != common_pb2.ENDORSER_TRANSACTION:
            continue
        actions = transaction_pb2.Transaction.FromString(payload.data).actions
        if len(actions) != 1:
            continue
        place = (block.header.number, index, _code(codes, index))
        yield _entry(place, payload, header, actions[0])


def _code(codes: bytes, index: int) -> str:
    code = codes[index] if index < len(codes) else transaction_pb2.INVALID_OTHER_REASON
    name: str = transaction_pb2.TxValidationCode.Name(code)
    return name


def _entry(place: tuple[int, int, str], payload: Any, header: Any, action: Any) -> Entry:
    number, index, validity = place
    signature_header = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
    body = transaction_pb2.ChaincodeActionPayload.FromString(action.payload)
    spec = _spec(body.chaincode_proposal_payload)
    answered = proposal_response_pb2.ProposalResponsePayload.FromString(body.action.proposal_response_payload)
    simulated = proposal_pb2.ChaincodeAction.FromString(answered.extension)
    event = None
    if simulated.events:
        raised = chaincode_event_pb2.ChaincodeEvent.FromString(simulated.events)
        event = ChaincodeEvent(simulated.chaincode_id.name, raised.event_name, raised.payload)
    return Entry(
        block=number,
        index=index,
        tx_id=header.tx_id,
        validity=validity,
        seconds=header.timestamp.seconds,
        creator=identities_pb2.SerializedIdentity.FromString(signature_header.creator).mspid,
        chaincode=spec.chaincode_id.name,
        args=tuple(spec.input.args),
        endorsers=tuple(
            identities_pb2.SerializedIdentity.FromString(one.endorser).mspid
            for one in body.action.endorsements
        ),
        event=event,
        writes=tuple(writes(simulated.results)),
    )


def _spec(proposal_payload: bytes) -> Any:
    """Which chaincode was asked for what, by a ChaincodeProposalPayload."""
    proposed = proposal_pb2.ChaincodeProposalPayload.FromString(proposal_payload)
    return chaincode_pb2.ChaincodeInvocationSpec.FromString(proposed.input).chaincode_spec


def writes(results: bytes) -> Iterator[Write]:
    """What a simulation (a serialised TxReadWriteSet) would write at commit."""
    for entry in rwset_pb2.TxReadWriteSet.FromString(results).ns_rwset:
        sets = kv_rwset_pb2.KVRWSet.FromString(entry.rwset)
        for write in sets.writes:
            yield Write(entry.namespace, write.key, None if write.is_delete else write.value)
        for write in sets.metadata_writes:
            yield Write(entry.namespace, write.key, None, policy=True)


def data_hash(block: Any) -> bytes:
    """What the header's `data_hash` must be: SHA-256 of the block's transactions, one after the other."""
    return hashlib.sha256(b"".join(block.data.data)).digest()


def header_hash(block: Any) -> bytes:
    """What the next header's `previous_hash` must be."""
    return hashlib.sha256(header_bytes(block)).digest()


def header_bytes(block: Any) -> bytes:
    """The header as it is hashed and signed: DER SEQUENCE (number, previous hash, data hash)."""
    number = block.header.number
    integer = number.to_bytes(number.bit_length() // 8 + 1, "big")
    parts = b"".join(
        bytes([tag]) + _der_length(len(value)) + value
        for tag, value in ((2, integer), (4, block.header.previous_hash), (4, block.header.data_hash))
    )
    return b"\x30" + _der_length(len(parts)) + parts


def _der_length(length: int) -> bytes:
    if length < 128:
        return bytes([length])
    digits = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(digits)]) + digits


@dataclass(frozen=True)
class SignedEntry:
    """A chaincode transaction with all that was signed, for whoever checks it again.

    `args` are the function's name and its arguments. `payload` is what the submitter signed, `answer` what
    each endorser signed (followed by its own identity); `endorsements` are (SerializedIdentity, signature),
    `results` a TxReadWriteSet.
    """

    block: int
    index: int
    tx_id: str
    validity: str
    seconds: int
    args: tuple[bytes, ...]
    creator: bytes
    payload: bytes
    signature: bytes
    answer: bytes
    endorsements: tuple[tuple[bytes, bytes], ...]
    results: bytes
    is_own_id: bool  # the id is the hash of the submitter's nonce and identity
    answers_proposal: bool  # what was endorsed answers the proposal that stands here


def signed_transactions(block: Any) -> Iterator[SignedEntry]:
    """The chaincode transactions of a block, in order. Raises ValueError for one without its one action."""
    codes = block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER]
    for index, data in enumerate(block.data.data):
        envelope = common_pb2.Envelope.FromString(data)
        payload = common_pb2.Payload.FromString(envelope.payload)
        header = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
        if header.type != common_pb2.ENDORSER_TRANSACTION:
            continue
        (action,) = transaction_pb2.Transaction.FromString(payload.data).actions
        body = transaction_pb2.ChaincodeActionPayload.FromString(action.payload)
        answer = body.action.proposal_response_payload
        answered = proposal_response_pb2.ProposalResponsePayload.FromString(answer)
        signed = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
        proposed = (
            payload.header.channel_header + payload.header.signature_header + body.chaincode_proposal_payload
        )
        yield SignedEntry(
            block=block.header.number,
            index=index,
            tx_id=header.tx_id,
            validity=_code(codes, index),
            seconds=header.timestamp.seconds,
            args=tuple(_spec(body.chaincode_proposal_payload).input.args),
            creator=signed.creator,
            payload=envelope.payload,
            signature=envelope.signature,
            answer=answer,
            endorsements=tuple((one.endorser, one.signature) for one in body.action.endorsements),
            results=proposal_pb2.ChaincodeAction.FromString(answered.extension).results,
            is_own_id=hashlib.sha256(signed.nonce + signed.creator).hexdigest() == header.tx_id,
            answers_proposal=hashlib.sha256(proposed).digest() == answered.proposal_hash,
        )

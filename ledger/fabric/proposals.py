"""The messages of a transaction: proposals that we sign, and what comes back, taken apart and checked.

No IO. Sources: Fabric's protos `peer/proposal.proto`, `peer/transaction.proto`, `common/common.proto`.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2

from ledger.fabric.identity import Identity


class Mismatch(Exception):
    """A peer answered with something that does not belong to what we asked. Nothing of it is used."""


@dataclass(frozen=True)
class Proposal:
    """A signed proposal. `data` is the Proposal message with the transient data in it."""

    tx_id: str
    data: bytes
    signature: bytes

    @property
    def signed(self) -> Any:
        return proposal_pb2.SignedProposal(proposal_bytes=self.data, signature=self.signature)


def propose(
    identity: Identity,
    *,
    channel: str,
    chaincode: str,
    args: Sequence[bytes],
    transient: Mapping[str, bytes] | None = None,
    nonce: bytes | None = None,
    clock: Callable[[], float] = time.time,
) -> Proposal:
    """A proposal of `args` (the function's name first). `tx_id` = hex SHA-256(nonce ‖ creator).

    `clock` gives its time, in seconds since 1970 UTC.
    """
    nonce = nonce or secrets.token_bytes(24)
    tx_id = hashlib.sha256(nonce + identity.creator).hexdigest()
    chaincode_id = chaincode_pb2.ChaincodeID(name=chaincode)
    channel_header = common_pb2.ChannelHeader(
        type=common_pb2.ENDORSER_TRANSACTION,
        tx_id=tx_id,
        channel_id=channel,
        extension=proposal_pb2.ChaincodeHeaderExtension(chaincode_id=chaincode_id).SerializeToString(),
    )
    channel_header.timestamp.FromNanoseconds(int(clock() * 1e9))
    signature_header = common_pb2.SignatureHeader(creator=identity.creator, nonce=nonce)
    invocation = chaincode_pb2.ChaincodeInvocationSpec(
        chaincode_spec=chaincode_pb2.ChaincodeSpec(
            chaincode_id=chaincode_id, input=chaincode_pb2.ChaincodeInput(args=args)
        )
    )
    header = common_pb2.Header(
        channel_header=channel_header.SerializeToString(),
        signature_header=signature_header.SerializeToString(),
    )
    payload = proposal_pb2.ChaincodeProposalPayload(
        input=invocation.SerializeToString(), TransientMap=dict(transient or {})
    )
    data = proposal_pb2.Proposal(
        header=header.SerializeToString(), payload=payload.SerializeToString()
    ).SerializeToString()
    return Proposal(tx_id, data, identity.sign(data))


def without_transient(proposal: bytes) -> bytes:
    """The same Proposal message without its transient data: what may be kept and shown as evidence."""
    message = proposal_pb2.Proposal.FromString(proposal)
    payload = proposal_pb2.ChaincodeProposalPayload.FromString(message.payload)
    payload.ClearField("TransientMap")
    message.payload = payload.SerializeToString()
    data: bytes = message.SerializeToString()
    return data


def proposal_hash(proposal: bytes) -> bytes:
    """What endorsers sign for it: SHA-256(channel header ‖ signature header ‖ payload without transient)."""
    message = proposal_pb2.Proposal.FromString(without_transient(proposal))
    header = common_pb2.Header.FromString(message.header)
    return hashlib.sha256(header.channel_header + header.signature_header + message.payload).digest()


def sign_prepared(identity: Identity, proposal: Proposal, envelope: Any) -> tuple[bytes, bytes]:
    """Sign the transaction that the Gateway assembled: (serialised Envelope, the contract's result).

    Raises Mismatch unless it is the transaction that we proposed, and carries no transient data.
    """
    try:
        payload = common_pb2.Payload.FromString(envelope.payload)
        actions = transaction_pb2.Transaction.FromString(payload.data).actions
        action = transaction_pb2.ChaincodeActionPayload.FromString(actions[0].payload)
        answered = proposal_response_pb2.ProposalResponsePayload.FromString(
            action.action.proposal_response_payload
        )
        result = proposal_pb2.ChaincodeAction.FromString(answered.extension).response.payload
        ours = proposal_pb2.Proposal.FromString(without_transient(proposal.data))
    except Exception as error:
        raise Mismatch("the prepared transaction cannot be read") from error
    # 1. One action, under our own header.
    if len(actions) != 1 or payload.header.SerializeToString() != ours.header:
        raise Mismatch("the prepared transaction is another one")
    # 2. Our own input, and nothing secret beside it.
    if action.chaincode_proposal_payload != ours.payload:
        raise Mismatch("the prepared transaction has another input")
    # 3. The endorsers signed our proposal.
    if answered.proposal_hash != proposal_hash(proposal.data):
        raise Mismatch("the endorsers signed another proposal")
    signed = common_pb2.Envelope(payload=envelope.payload, signature=identity.sign(envelope.payload))
    return signed.SerializeToString(), result

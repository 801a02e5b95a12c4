"""One connection to one peer: the Gateway's four steps, its Endorser, and its blocks.

Each call has its own deadline. A failure is a `Failure` with the grpc code and what each endorser said;
`client.py` turns it into the product's errors.
"""

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import events_pb2_grpc, peer_pb2_grpc, transaction_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

from ledger.fabric.identity import Identity
from ledger.fabric.proposals import Proposal

MAX_MESSAGE_BYTES = 100 * 1024 * 1024
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A peer that comes back is found again within a second, not after grpc's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
DETAILS = "grpc-status-details-bin"
CHAINCODE_RESPONSE = re.compile(r"chaincode response (\d{3}), (.*)", re.DOTALL)


@dataclass(frozen=True)
class Deadlines:
    """Seconds for each step. `read` bounds a whole signed read; keep it below the age that is believed."""

    endorse: float = 15
    submit: float = 5
    evaluate: float = 5
    read: float = 0.8


@dataclass(frozen=True)
class Detail:
    """What one node said: a chaincode's response (status, message), or the node's own failure (status 0)."""

    org: str
    status: int
    message: str


class Failure(Exception):
    """A call that did not succeed. Its text names the grpc code only: details may come from anyone."""

    def __init__(self, code: grpc.StatusCode, details: list[Detail]) -> None:
        super().__init__(code.name)
        self.code = code
        self.details = details


def failure(error: grpc.RpcError) -> Failure:
    """Read a grpc error with the Gateway's ErrorDetails (google.rpc.Status: 3 = repeated Any)."""
    details: list[Detail] = []
    metadata: Any = error.trailing_metadata() or ()
    for name, value in metadata:
        if name != DETAILS:
            continue
        for part in UnknownFieldSet(Empty.FromString(value)):
            if part.field_number == 3:
                detail = gateway_pb2.ErrorDetail.FromString(AnyMessage.FromString(part.data).value)
                details.append(_detail(detail.msp_id, detail.message))
    if not details:
        details.append(_detail("", error.details() or ""))
    return Failure(error.code(), details)


def _detail(org: str, message: str) -> Detail:
    if match := CHAINCODE_RESPONSE.search(message):
        return Detail(org, int(match[1]), match[2])
    return Detail(org, 0, message)


class Peer:
    """One peer of one organisation, called as one identity. Connects by itself, again and again."""

    def __init__(
        self, address: str, *, tls_roots: bytes, identity: Identity, channel: str, deadlines: Deadlines
    ) -> None:
        self._identity = identity
        self._channel = channel
        self._deadlines = deadlines
        self._grpc = grpc.secure_channel(address, grpc.ssl_channel_credentials(tls_roots), OPTIONS)
        self._gateway = gateway_pb2_grpc.GatewayStub(self._grpc)
        self._endorser = peer_pb2_grpc.EndorserStub(self._grpc)
        self._deliver = events_pb2_grpc.DeliverStub(self._grpc)

    def close(self) -> None:
        self._grpc.close()

    def endorse(self, proposal: Proposal) -> Any:
        """Have the proposal endorsed by whom the policies ask for: an unsigned Envelope. Raises Failure."""
        request = gateway_pb2.EndorseRequest(
            transaction_id=proposal.tx_id,
            channel_id=self._channel,
            proposed_transaction=proposal.signed,
        )
        try:
            return self._gateway.Endorse(request, timeout=self._deadlines.endorse).prepared_transaction
        except grpc.RpcError as error:
            raise failure(error) from None

    def submit(self, tx_id: str, envelope: bytes) -> None:
        """Hand a signed Envelope to the orderers. Raises Failure."""
        request = gateway_pb2.SubmitRequest(
            transaction_id=tx_id,
            channel_id=self._channel,
            prepared_transaction=common_pb2.Envelope.FromString(envelope),
        )
        try:
            self._gateway.Submit(request, timeout=self._deadlines.submit)
        except grpc.RpcError as error:
            raise failure(error) from None

    def commit_status(self, tx_id: str, *, timeout: float) -> tuple[str, int]:
        """Wait until the transaction stands in a block: (validity, block). Raises Failure."""
        request = gateway_pb2.CommitStatusRequest(
            transaction_id=tx_id, channel_id=self._channel, identity=self._identity.creator
        ).SerializeToString()
        signed = gateway_pb2.SignedCommitStatusRequest(
            request=request, signature=self._identity.sign(request)
        )
        try:
            answer = self._gateway.CommitStatus(signed, timeout=timeout)
        except grpc.RpcError as error:
            raise failure(error) from None
        return transaction_pb2.TxValidationCode.Name(answer.result), answer.block_number

    def evaluate(self, proposal: Proposal) -> bytes:
        """Run a query on one peer; unsigned. Raises Failure."""
        request = gateway_pb2.EvaluateRequest(
            transaction_id=proposal.tx_id,
            channel_id=self._channel,
            proposed_transaction=proposal.signed,
            target_organizations=[self._identity.org],
        )
        try:
            answer = self._gateway.Evaluate(request, timeout=self._deadlines.evaluate)
        except grpc.RpcError as error:
            raise failure(error) from None
        payload: bytes = answer.result.payload
        return payload

    def ask(self, proposal: Proposal, *, timeout: float) -> Any:
        """Begin asking this very peer to simulate and sign: a grpc future of a ProposalResponse."""
        return self._endorser.ProcessProposal.future(proposal.signed, timeout=timeout)

    def blocks(self, start: int, *, stop: int | None = None) -> "BlockStream":
        """Whole blocks from number `start` on; to `stop` (its end included), or for ever. Close it."""
        seek = ab_pb2.SeekInfo(
            start=ab_pb2.SeekPosition(specified=ab_pb2.SeekSpecified(number=start)),
            stop=ab_pb2.SeekPosition(
                specified=ab_pb2.SeekSpecified(number=2**63 - 1 if stop is None else stop)
            ),
            behavior=ab_pb2.SeekInfo.BLOCK_UNTIL_READY,
        )
        header = common_pb2.ChannelHeader(type=common_pb2.DELIVER_SEEK_INFO, channel_id=self._channel)
        header.timestamp.FromNanoseconds(time.time_ns())
        signature_header = common_pb2.SignatureHeader(
            creator=self._identity.creator, nonce=secrets.token_bytes(24)
        )
        payload = common_pb2.Payload(
            header=common_pb2.Header(
                channel_header=header.SerializeToString(),
                signature_header=signature_header.SerializeToString(),
            ),
            data=seek.SerializeToString(),
        ).SerializeToString()
        envelope = common_pb2.Envelope(payload=payload, signature=self._identity.sign(payload))
        return BlockStream(self._deliver.Deliver(iter([envelope])))


class BlockStream:
    """An iterator of `common.Block`; `close` ends it from any thread."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __iter__(self) -> Iterator[Any]:
        """Raises Failure when the peer ends the stream with anything but success."""
        try:
            for answer in self._call:
                if answer.WhichOneof("Type") == "block":
                    yield answer.block
                elif answer.status == common_pb2.SUCCESS:
                    return
                else:
                    name = common_pb2.Status.Name(answer.status)
                    raise Failure(grpc.StatusCode.UNAVAILABLE, [Detail("", 0, name)])
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                raise failure(error) from None

    def close(self) -> None:
        self._call.cancel()

"""The chaincode's end of a Fabric peer's stream: what `ledger/chaincode.py` stands on.

Chaincode as a service: the peer dials in, and one stream carries every transaction of that peer at once.
One writer owns the stream; each transaction runs in a thread of its own. Nothing here knows the contract,
and nothing here logs a key, a value or an argument.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from fabric_protos.common import common_pb2, policies_pb2
from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.msp import identities_pb2, msp_principal_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    chaincode_shim_pb2,
    chaincode_shim_pb2_grpc,
    proposal_pb2,
    proposal_response_pb2,
)
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

log = logging.getLogger(__name__)

Message = chaincode_shim_pb2.ChaincodeMessage
Type = chaincode_shim_pb2.ChaincodeMessage.Type

VALIDATION_PARAMETER = "VALIDATION_PARAMETER"
MAX_MESSAGE_BYTES = 100 * 1024 * 1024
# The peer gives a transaction 30 s (chaincode.executetimeout); a single answer that takes longer never comes.
ANSWER_SECONDS = 30
STREAMS = 16
TRANSACTIONS = 128


class PeerError(Exception):
    """The peer answered an error, nothing, or something that cannot be. The transaction must fail."""


@dataclass(frozen=True)
class Response:
    """What a transaction answers to the peer. Below 400 the peer endorses it; otherwise nothing is signed."""

    status: int
    payload: bytes = b""
    message: str = ""
    event: tuple[str, bytes] | None = None


class Stub:
    """One transaction's view of its proposal and of the world state. Not shared between threads.

    Writes are kept back until `flush`, so a transaction that raises has written nothing, and a read never
    sees them (Fabric's rule).
    """

    def __init__(self, stream: "_Stream", message: Any) -> None:
        self._stream = stream
        self._replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._writes: list[Any] = []
        self._failed = False
        self.channel: str = message.channel_id
        self.tx_id: str = message.txid
        self.args: list[bytes] = list(chaincode_pb2.ChaincodeInput.FromString(message.payload).args)
        proposal = proposal_pb2.Proposal.FromString(message.proposal.proposal_bytes)
        header = common_pb2.Header.FromString(proposal.header)
        channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
        signature_header = common_pb2.SignatureHeader.FromString(header.signature_header)
        creator = identities_pb2.SerializedIdentity.FromString(signature_header.creator)
        self.seconds: int = channel_header.timestamp.seconds
        self.msp: str = creator.mspid
        self.certificate: bytes = creator.id_bytes
        self._payload: bytes = proposal.payload

    @property
    def transient(self) -> dict[str, bytes]:
        """The secret inputs; the peer drops them before anything is signed or stored."""
        return dict(proposal_pb2.ChaincodeProposalPayload.FromString(self._payload).TransientMap)

    # Reads

    def get(self, key: str) -> bytes | None:
        """The committed value, or None (Fabric cannot tell an empty value from none)."""
        return self._ask(Type.GET_STATE, chaincode_shim_pb2.GetState(key=key)) or None

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The committed values in the order of `keys`; in as few round trips as the peer allows."""
        size = self._stream.reads_at_once
        if size == 0:
            return [self.get(key) for key in keys]
        values: list[bytes | None] = []
        for start in range(0, len(keys), size):
            some = list(keys[start : start + size])
            answer = self._ask(Type.GET_STATE_MULTIPLE, chaincode_shim_pb2.GetStateMultiple(keys=some))
            found = chaincode_shim_pb2.GetStateMultipleResult.FromString(answer).values
            if len(found) != len(some):
                raise self._broken("the peer answered another number of values than was asked")
            values.extend(value or None for value in found)
        return values

    def range(self, start: str, end: str) -> Iterator[tuple[str, bytes]]:
        """Committed pairs with start <= key < end, in key order. Keys of composite form are never met."""
        query = chaincode_shim_pb2.GetStateByRange(startKey=start or "\x01", endKey=end)
        page = chaincode_shim_pb2.QueryResponse.FromString(self._ask(Type.GET_STATE_BY_RANGE, query))
        try:
            while True:
                for row in page.results:
                    pair = kv_query_result_pb2.KV.FromString(row.resultBytes)
                    yield pair.key, pair.value
                if not page.has_more:
                    return
                following = chaincode_shim_pb2.QueryStateNext(id=page.id)
                page = chaincode_shim_pb2.QueryResponse.FromString(
                    self._ask(Type.QUERY_STATE_NEXT, following)
                )
        finally:
            if not self._failed:
                self._ask(Type.QUERY_STATE_CLOSE, chaincode_shim_pb2.QueryStateClose(id=page.id))

    # Writes

    def put(self, key: str, value: bytes) -> None:
        """Write `value` at commit."""
        if not key or not value:
            raise ValueError("an empty key or value cannot be told from none")
        record = chaincode_shim_pb2.WriteRecord
        self._writes.append(record(key=key, value=value, type=record.Type.PUT_STATE))

    def require(self, key: str, needed: int, orgs: Sequence[str]) -> None:
        """From commit on, writing `key` needs the peers of `needed` of `orgs` (VALIDATION_PARAMETER)."""
        policy = endorsed_by(needed, orgs)
        metadata = chaincode_shim_pb2.StateMetadata(metakey=VALIDATION_PARAMETER, value=policy)
        record = chaincode_shim_pb2.WriteRecord
        self._writes.append(record(key=key, metadata=metadata, type=record.Type.PUT_STATE_METADATA))

    def flush(self) -> None:
        """Hand the writes to the peer. Raises PeerError, also when an earlier answer was one."""
        if self._failed:
            raise PeerError("an earlier answer of the peer was an error")
        size = self._stream.writes_at_once
        if size:
            for start in range(0, len(self._writes), size):
                some = self._writes[start : start + size]
                self._ask(Type.WRITE_BATCH_STATE, chaincode_shim_pb2.WriteBatchState(rec=some))
            return
        for write in self._writes:
            if write.type == chaincode_shim_pb2.WriteRecord.Type.PUT_STATE:
                self._ask(Type.PUT_STATE, chaincode_shim_pb2.PutState(key=write.key, value=write.value))
            else:
                put = chaincode_shim_pb2.PutStateMetadata(key=write.key, metadata=write.metadata)
                self._ask(Type.PUT_STATE_METADATA, put)

    # The stream

    def _ask(self, kind: Any, body: Any) -> bytes:
        """One question, one answer. Raises PeerError."""
        self._stream.send(self._message(kind, body.SerializeToString()))
        try:
            reply = self._replies.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise self._broken("the peer did not answer in time") from None
        if reply is None:
            raise self._broken("the peer went away")
        if reply.type != Type.RESPONSE:
            raise self._broken("the peer answered an error")
        payload: bytes = reply.payload
        return payload

    def _broken(self, why: str) -> PeerError:
        self._failed = True
        return PeerError(why)

    def _message(self, kind: Any, payload: bytes) -> Any:
        return Message(type=kind, payload=payload, txid=self.tx_id, channel_id=self.channel)

    def _deliver(self, reply: Any) -> None:
        """Called by the stream's reader: an answer of the peer, or None when the stream has ended."""
        self._replies.put(reply)


Invoke = Callable[[Stub], Response]


def endorsed_by(needed: int, orgs: Sequence[str]) -> bytes:
    """A SignaturePolicyEnvelope, serialised: the peers of at least `needed` of `orgs` (MSP ids)."""
    role = msp_principal_pb2.MSPRole
    principal = msp_principal_pb2.MSPPrincipal
    identities = [
        principal(
            principal_classification=principal.ROLE,
            principal=role(msp_identifier=org, role=role.PEER).SerializeToString(),
        )
        for org in sorted(orgs)
    ]
    rule = policies_pb2.SignaturePolicy
    signers = rule.NOutOf(n=needed, rules=[rule(signed_by=index) for index in range(len(identities))])
    envelope = policies_pb2.SignaturePolicyEnvelope(
        version=0, identities=identities, rule=rule(n_out_of=signers)
    )
    data: bytes = envelope.SerializeToString(deterministic=True)
    return data


def batch_sizes(ready: bytes) -> tuple[int, int]:
    """Keys for each batched write and read that a peer offers in READY; 0 where it offers none.

    ChaincodeAdditionalParams (Fabric 3.1): 1 write batches, 2 their size, 3 read batches, 4 their size.
    """
    fields = {field.field_number: field.data for field in UnknownFieldSet(Empty.FromString(ready))}
    writes = fields.get(2, 0) if fields.get(1) else 0
    reads = fields.get(4, 0) if fields.get(3) else 0
    return int(writes), int(reads)


class _Stream:
    """One peer's stream: its only writer, and the transactions that wait for answers."""

    def __init__(self, chaincode_id: str, invoke: Invoke, pool: ThreadPoolExecutor) -> None:
        self._chaincode_id = chaincode_id
        self._invoke = invoke
        self._pool = pool
        self._out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._live: dict[tuple[str, str], Stub] = {}
        self._lock = threading.Lock()
        self.writes_at_once = 0
        self.reads_at_once = 0

    def send(self, message: Any) -> None:
        self._out.put(message)

    def outgoing(self) -> Iterator[Any]:
        """What goes to the peer, in order, until the stream ends. One caller only."""
        name = chaincode_pb2.ChaincodeID(name=self._chaincode_id).SerializeToString()
        yield Message(type=Type.REGISTER, payload=name)
        while (message := self._out.get()) is not None:
            yield message

    def read(self, incoming: Iterable[Any]) -> None:
        """Take what the peer sends until it hangs up; then every waiting transaction fails."""
        try:
            for message in incoming:
                self._take(message)
        except grpc.RpcError:
            log.info("the peer hung up")
        finally:
            with self._lock:
                waiting = list(self._live.values())
            for stub in waiting:
                stub._deliver(None)
            self._out.put(None)

    def _take(self, message: Any) -> None:
        kind = message.type
        if kind in (Type.RESPONSE, Type.ERROR):
            with self._lock:
                stub = self._live.get((message.channel_id, message.txid))
            if stub is not None:
                stub._deliver(message)
        elif kind == Type.TRANSACTION:
            self._begin(message)
        elif kind == Type.INIT:
            self._complete(message, Response(500, message="no_init: this chaincode has no Init function"))
        elif kind == Type.READY:
            self.writes_at_once, self.reads_at_once = batch_sizes(message.payload)
        elif kind == Type.KEEPALIVE:
            self.send(message)

    def _begin(self, message: Any) -> None:
        try:
            stub = Stub(self, message)
        except Exception as error:  # whatever a peer sends, the stream goes on
            log.warning("a proposal cannot be read: %s", type(error).__name__)
            self._complete(message, Response(500, message="bad_proposal: the proposal cannot be read"))
            return
        with self._lock:
            self._live[(stub.channel, stub.tx_id)] = stub
        self._pool.submit(self._run, stub, message)

    def _run(self, stub: Stub, message: Any) -> None:
        try:
            response = self._invoke(stub)
            if response.status < 400:
                stub.flush()
        except PeerError as error:
            log.warning("transaction %.12s: %s", stub.tx_id, error)
            response = Response(500, message="peer_error: the peer could not answer; try again")
        except Exception as error:
            log.error("transaction %.12s: %s at %s", stub.tx_id, type(error).__name__, _place(error))
            response = Response(500, message="internal_error: the chaincode failed")
        finally:
            with self._lock:
                self._live.pop((stub.channel, stub.tx_id), None)
        self._complete(message, response)

    def _complete(self, message: Any, response: Response) -> None:
        answer = proposal_response_pb2.Response(
            status=response.status, message=response.message, payload=response.payload
        )
        completed = Message(
            type=Type.COMPLETED,
            payload=answer.SerializeToString(),
            txid=message.txid,
            channel_id=message.channel_id,
        )
        if response.event is not None and response.status < 400:
            name, payload = response.event
            event = chaincode_event_pb2.ChaincodeEvent(
                chaincode_id=self._chaincode_id, tx_id=message.txid, event_name=name, payload=payload
            )
            completed.chaincode_event.CopyFrom(event)
        self.send(completed)


def _place(error: BaseException) -> str:
    """File and line where it happened: unlike the error's text, never anything of the transaction."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"


class _Service(chaincode_shim_pb2_grpc.ChaincodeServicer):  # type: ignore[misc]
    def __init__(self, chaincode_id: str, invoke: Invoke, pool: ThreadPoolExecutor) -> None:
        self._chaincode_id = chaincode_id
        self._invoke = invoke
        self._pool = pool

    def Connect(self, request_iterator: Iterable[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        stream = _Stream(self._chaincode_id, self._invoke, self._pool)
        threading.Thread(target=stream.read, args=(request_iterator,), daemon=True).start()
        yield from stream.outgoing()


@dataclass(frozen=True)
class Tls:
    """PEM: the server's key and chain; with `client_ca`, only peers with a certificate from it may call."""

    key: bytes
    certificate: bytes
    client_ca: bytes | None = None


class Server:
    """A chaincode server. `port` is the one that it listens on (for address `host:0`, a free one)."""

    def __init__(self, invoke: Invoke, *, chaincode_id: str, address: str, tls: Tls | None) -> None:
        self._pool = ThreadPoolExecutor(TRANSACTIONS, thread_name_prefix="transaction")
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
            ("grpc.http2.max_ping_strikes", 0),
        ]
        self._server = grpc.server(ThreadPoolExecutor(STREAMS, thread_name_prefix="peer"), options=options)
        service = _Service(chaincode_id, invoke, self._pool)
        chaincode_shim_pb2_grpc.add_ChaincodeServicer_to_server(service, self._server)
        if tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            credentials = grpc.ssl_server_credentials(
                [(tls.key, tls.certificate)], tls.client_ca, tls.client_ca is not None
            )
            self.port = self._server.add_secure_port(address, credentials)

    def start(self) -> None:
        self._server.start()

    def stop(self, grace: float = 1) -> None:
        """Let transactions finish for `grace` seconds, then end every stream."""
        self._server.stop(grace).wait()
        self._pool.shutdown(wait=False, cancel_futures=True)

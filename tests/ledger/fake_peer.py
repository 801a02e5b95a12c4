"""A peer without Fabric: it speaks the chaincode's stream, simulates, signs, validates and commits.

The rules are Fabric's: a simulation reads the committed state only and notes each version that it read; a
commit checks signatures, endorsement policies (a key's own before the chaincode's), versions and ranges.
"""

import hashlib
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fabric_protos.common import common_pb2, ledger_pb2, policies_pb2
from fabric_protos.ledger.queryresult import kv_query_result_pb2
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.msp import identities_pb2, msp_principal_pb2
from fabric_protos.peer import (
    chaincode_event_pb2,
    chaincode_pb2,
    chaincode_shim_pb2,
    chaincode_shim_pb2_grpc,
    proposal_pb2,
    proposal_response_pb2,
    transaction_pb2,
)

from ledger.fabric import blocks
from ledger.fabric.identity import Identity
from ledger.fabric.proposals import proposal_hash, without_transient

CHANNEL = "consent"
CHAINCODE = "consentgateway"
ROWS = 2  # a page of a range: small, so that paging is met
Message = chaincode_shim_pb2.ChaincodeMessage
Type = chaincode_shim_pb2.ChaincodeMessage.Type
Version = tuple[int, int]


@dataclass
class Simulation:
    """One transaction while it runs: what it read and wrote."""

    done: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    reads: dict[str, Version | None] = field(default_factory=dict)
    ranges: list[tuple[str, str, list[tuple[str, Version]]]] = field(default_factory=list)
    writes: dict[str, bytes] = field(default_factory=dict)
    policies: dict[str, bytes] = field(default_factory=dict)
    cursors: dict[str, list[Any]] = field(default_factory=dict)

    def results(self) -> bytes:
        """TxReadWriteSet, sorted by key as Fabric's is."""
        sets = kv_rwset_pb2.KVRWSet()
        for key in sorted(self.reads):
            sets.reads.append(kv_rwset_pb2.KVRead(key=key, version=_version(self.reads[key])))
        for start, end, rows in self.ranges:
            raw = [kv_rwset_pb2.KVRead(key=key, version=_version(version)) for key, version in rows]
            sets.range_queries_info.append(
                kv_rwset_pb2.RangeQueryInfo(
                    start_key=start,
                    end_key=end,
                    itr_exhausted=True,
                    raw_reads=kv_rwset_pb2.QueryReads(kv_reads=raw),
                )
            )
        for key in sorted(self.writes):
            sets.writes.append(kv_rwset_pb2.KVWrite(key=key, value=self.writes[key]))
        for key in sorted(self.policies):
            entry = kv_rwset_pb2.KVMetadataEntry(name="VALIDATION_PARAMETER", value=self.policies[key])
            sets.metadata_writes.append(kv_rwset_pb2.KVMetadataWrite(key=key, entries=[entry]))
        namespace = rwset_pb2.NsReadWriteSet(namespace=CHAINCODE, rwset=sets.SerializeToString())
        return bytes(rwset_pb2.TxReadWriteSet(ns_rwset=[namespace]).SerializeToString())


def _version(version: Version | None) -> Any:
    return None if version is None else kv_rwset_pb2.Version(block_num=version[0], tx_num=version[1])


class FakePeer:
    """One organisation's peer. `cut_off` keeps it from new blocks; `broken` makes its state unreadable."""

    def __init__(
        self, identity: Identity, roots: dict[str, x509.Certificate], *, needed: int, batched: bool
    ) -> None:
        self.identity = identity
        self.needed = needed
        self.batched = batched
        self.cut_off = False
        self.broken = False
        self.asked: Counter[str] = Counter()  # what the chaincode asked of us, by kind
        self.chain: list[Any] = []
        self.height = threading.Condition()
        self._roots = roots
        self._state: dict[str, tuple[bytes, Version]] = {}
        self._policies: dict[str, bytes] = {}
        self._found: dict[str, Version] = {}  # tx id -> its first place
        self._live: dict[str, Simulation] = {}
        self._lock = threading.RLock()
        self._out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._channel: grpc.Channel | None = None
        self._ready = threading.Event()
        self._gone = False

    # The chaincode's stream

    def dial(self, address: str, credentials: Any) -> None:
        """Connect to the chaincode's server, as a peer does."""
        self._channel = grpc.secure_channel(address, credentials)
        stub = chaincode_shim_pb2_grpc.ChaincodeStub(self._channel)
        incoming = stub.Connect(iter(self._out.get, None))
        threading.Thread(target=self._serve, args=(incoming,), daemon=True).start()
        if not self._ready.wait(10):
            raise TimeoutError("the chaincode did not register")

    def hang_up(self) -> None:
        self._out.put(None)
        if self._channel is not None:
            self._channel.close()

    def _serve(self, incoming: Iterator[Any]) -> None:
        try:
            for message in incoming:
                self._answer(message)
        except (grpc.RpcError, ValueError):
            pass
        self._gone = True
        for simulation in list(self._live.values()):
            simulation.done.put(None)

    def _answer(self, message: Any) -> None:
        if message.type == Type.REGISTER:
            self._out.put(Message(type=Type.REGISTERED))
            # ChaincodeAdditionalParams: batches of two writes and of two reads.
            self._out.put(Message(type=Type.READY, payload=bytes([8, 1, 16, 2, 24, 1, 32, 2]) * self.batched))
            self._ready.set()
            return
        simulation = self._live.get(message.txid)
        if simulation is None:
            return
        if message.type == Type.COMPLETED:
            simulation.done.put(message)
            return
        self.asked[Type.Name(message.type)] += 1
        kind, payload = Type.RESPONSE, b""
        if self.broken:
            kind, payload = Type.ERROR, b"the disk is gone"
        else:
            payload = self._do(simulation, message)
        self._out.put(Message(type=kind, payload=payload, txid=message.txid, channel_id=message.channel_id))

    def _do(self, simulation: Simulation, message: Any) -> bytes:
        shim = chaincode_shim_pb2
        kind, payload = message.type, message.payload
        if kind == Type.GET_STATE:
            return self._get(simulation, shim.GetState.FromString(payload).key)
        if kind == Type.GET_STATE_MULTIPLE:
            keys = shim.GetStateMultiple.FromString(payload).keys
            values = [self._get(simulation, key) for key in keys]
            return bytes(shim.GetStateMultipleResult(values=values).SerializeToString())
        if kind == Type.GET_STATE_BY_RANGE:
            return self._range(simulation, shim.GetStateByRange.FromString(payload))
        if kind == Type.QUERY_STATE_NEXT:
            return self._page(simulation, shim.QueryStateNext.FromString(payload).id)
        if kind == Type.QUERY_STATE_CLOSE:
            simulation.cursors.pop(shim.QueryStateClose.FromString(payload).id, None)
        elif kind == Type.PUT_STATE:
            put = shim.PutState.FromString(payload)
            simulation.writes[put.key] = put.value
        elif kind == Type.PUT_STATE_METADATA:
            put = shim.PutStateMetadata.FromString(payload)
            simulation.policies[put.key] = put.metadata.value
        elif kind == Type.WRITE_BATCH_STATE:
            for record in shim.WriteBatchState.FromString(payload).rec:
                if record.type == shim.WriteRecord.Type.PUT_STATE:
                    simulation.writes[record.key] = record.value
                else:
                    simulation.policies[record.key] = record.metadata.value
        else:
            raise AssertionError(f"a chaincode may not ask {Type.Name(kind)}")
        return b""

    def _get(self, simulation: Simulation, key: str) -> bytes:
        with self._lock:
            value, version = self._state.get(key, (b"", None))
        simulation.reads[key] = version
        return value

    def _rows(self, start: str, end: str) -> list[tuple[str, bytes, Version]]:
        with self._lock:
            return [
                (key, *self._state[key])
                for key in sorted(self._state)
                if start <= key and (not end or key < end)
            ]

    def _range(self, simulation: Simulation, query: Any) -> bytes:
        rows = self._rows(query.startKey, query.endKey)
        noted = [(key, version) for key, _, version in rows]
        simulation.ranges.append((query.startKey, query.endKey, noted))
        cursor = str(len(simulation.ranges))
        simulation.cursors[cursor] = [kv_query_result_pb2.KV(key=key, value=value) for key, value, _ in rows]
        return self._page(simulation, cursor)

    def _page(self, simulation: Simulation, cursor: str) -> bytes:
        rows = simulation.cursors[cursor]
        page, rest = rows[:ROWS], rows[ROWS:]
        simulation.cursors[cursor] = rest
        results = [chaincode_shim_pb2.QueryResultBytes(resultBytes=row.SerializeToString()) for row in page]
        answer = chaincode_shim_pb2.QueryResponse(results=results, has_more=bool(rest), id=cursor)
        return bytes(answer.SerializeToString())

    # Endorsement

    def endorse(self, signed: Any) -> Any:
        """A ProposalResponse: signed when the chaincode (or qscc) answers below 400."""
        proposal = proposal_pb2.Proposal.FromString(signed.proposal_bytes)
        header = common_pb2.Header.FromString(proposal.header)
        channel_header = common_pb2.ChannelHeader.FromString(header.channel_header)
        creator = common_pb2.SignatureHeader.FromString(header.signature_header).creator
        self._check(creator, signed.signature, signed.proposal_bytes)
        payload = proposal_pb2.ChaincodeProposalPayload.FromString(proposal.payload)
        spec = chaincode_pb2.ChaincodeInvocationSpec.FromString(payload.input).chaincode_spec
        if spec.chaincode_id.name == "qscc":
            response, results, events = self._qscc(spec.input.args), b"", b""
        else:
            response, results, events = self._simulate(channel_header.tx_id, signed, spec.input)
        if response.status >= 400:
            return proposal_response_pb2.ProposalResponse(response=response)
        action = proposal_pb2.ChaincodeAction(
            results=results,
            events=events,
            response=response,
            chaincode_id=chaincode_pb2.ChaincodeID(name=spec.chaincode_id.name, version="1"),
        )
        answer = proposal_response_pb2.ProposalResponsePayload(
            proposal_hash=proposal_hash(signed.proposal_bytes), extension=action.SerializeToString()
        ).SerializeToString()
        endorsement = proposal_response_pb2.Endorsement(
            endorser=self.identity.creator, signature=self.identity.sign(answer + self.identity.creator)
        )
        return proposal_response_pb2.ProposalResponse(
            response=response, payload=answer, endorsement=endorsement
        )

    def _simulate(self, tx_id: str, signed: Any, given: Any) -> tuple[Any, bytes, bytes]:
        simulation = self._live[tx_id] = Simulation()
        self._out.put(
            Message(
                type=Type.TRANSACTION,
                txid=tx_id,
                channel_id=CHANNEL,
                payload=given.SerializeToString(),
                proposal=proposal_pb2.SignedProposal(
                    proposal_bytes=signed.proposal_bytes, signature=signed.signature
                ),
            )
        )
        try:
            completed = None if self._gone else simulation.done.get(timeout=30)
        finally:
            del self._live[tx_id]
        if completed is None:
            return proposal_response_pb2.Response(status=500, message="the chaincode is gone"), b"", b""
        response = proposal_response_pb2.Response.FromString(completed.payload)
        events = b""
        if completed.HasField("chaincode_event"):
            raised = completed.chaincode_event
            events = chaincode_event_pb2.ChaincodeEvent(
                chaincode_id=CHAINCODE, tx_id=tx_id, event_name=raised.event_name, payload=raised.payload
            ).SerializeToString()
        return response, simulation.results(), events

    def _qscc(self, args: Any) -> Any:
        response = proposal_response_pb2.Response
        if args[0] == b"GetChainInfo":
            info = ledger_pb2.BlockchainInfo(height=len(self.chain))
            return response(status=200, payload=info.SerializeToString())
        place = self._found.get(args[2].decode())
        if place is None:
            return response(status=500, message="no such transaction ID")
        block = self.chain[place[0]]
        if args[0] == b"GetBlockByTxID":
            return response(status=200, payload=block.SerializeToString())
        code = block.metadata.metadata[common_pb2.TRANSACTIONS_FILTER][place[1]]
        found = transaction_pb2.ProcessedTransaction(validationCode=code)
        return response(status=200, payload=found.SerializeToString())

    def _check(self, creator: bytes, signature: bytes, message: bytes) -> str:
        """The MSP id of the signer. Raises InvalidSignature."""
        identity = identities_pb2.SerializedIdentity.FromString(creator)
        certificate = x509.load_pem_x509_certificate(identity.id_bytes)
        certificate.verify_directly_issued_by(self._roots[identity.mspid])
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        return str(identity.mspid)

    # Blocks

    def policies_of(self, results: bytes) -> list[bytes | None]:
        """The policies that the writes of a simulation fall under; None is the chaincode's own."""
        written = {write.key for write in blocks.writes(results)}
        with self._lock:
            return [self._policies.get(key) for key in sorted(written)]

    def satisfied(self, policy: bytes | None, orgs: set[str]) -> bool:
        if policy is None:
            return len(orgs) >= self.needed
        envelope = policies_pb2.SignaturePolicyEnvelope.FromString(policy)
        members = {
            msp_principal_pb2.MSPRole.FromString(one.principal).msp_identifier for one in envelope.identities
        }
        return bool(len(members & orgs) >= envelope.rule.n_out_of.n)

    def commit(self, block: Any) -> None:
        """Validate a block in its order and apply what is valid."""
        with self._lock:
            number, codes, raised = block.header.number, bytearray(), set[str]()
            for index, data in enumerate(block.data.data):
                code = self._validate(data, raised)
                tx_id = _tx_id(data)
                self._found.setdefault(tx_id, (number, index))
                codes.append(transaction_pb2.TxValidationCode.Value(code))
                if code == "VALID":
                    self._apply(data, (number, index), raised)
            own = common_pb2.Block.FromString(block.SerializeToString())
            own.metadata.metadata[common_pb2.TRANSACTIONS_FILTER] = bytes(codes)
        with self.height:
            self.chain.append(own)
            self.height.notify_all()

    def _validate(self, data: bytes, raised: set[str]) -> str:
        envelope = common_pb2.Envelope.FromString(data)
        payload = common_pb2.Payload.FromString(envelope.payload)
        creator = common_pb2.SignatureHeader.FromString(payload.header.signature_header).creator
        action, answer = _action(data)
        try:
            self._check(creator, envelope.signature, envelope.payload)
            orgs = {
                self._check(one.endorser, one.signature, answer + one.endorser)
                for one in action.action.endorsements
            }
        except (InvalidSignature, ValueError, KeyError):
            return "BAD_CREATOR_SIGNATURE"
        if _tx_id(data) in self._found:
            return "DUPLICATE_TXID"
        results = _results(answer)
        written = {write.key for write in blocks.writes(results)}
        policies = self.policies_of(results) or [None]
        if written & raised or not all(self.satisfied(policy, orgs) for policy in policies):
            return "ENDORSEMENT_POLICY_FAILURE"
        for sets in _sets(results):
            for read in sets.reads:
                seen = (read.version.block_num, read.version.tx_num) if read.HasField("version") else None
                if self._state.get(read.key, (b"", None))[1] != seen:
                    return "MVCC_READ_CONFLICT"
            for query in sets.range_queries_info:
                rows = [(key, version) for key, _, version in self._rows(query.start_key, query.end_key)]
                noted = [
                    (one.key, (one.version.block_num, one.version.tx_num)) for one in query.raw_reads.kv_reads
                ]
                if rows != noted:
                    return "PHANTOM_READ_CONFLICT"
        return "VALID"

    def _apply(self, data: bytes, version: Version, raised: set[str]) -> None:
        for sets in _sets(_results(_action(data)[1])):
            for write in sets.writes:
                self._state[write.key] = (write.value, version)
            for write in sets.metadata_writes:
                self._policies[write.key] = write.entries[0].value
                raised.add(write.key)
                if write.key in self._state:
                    self._state[write.key] = (self._state[write.key][0], version)


def _action(data: bytes) -> tuple[Any, bytes]:
    payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(data).payload)
    action = transaction_pb2.Transaction.FromString(payload.data).actions[0]
    body = transaction_pb2.ChaincodeActionPayload.FromString(action.payload)
    return body, body.action.proposal_response_payload


def _results(answer: bytes) -> bytes:
    extension = proposal_response_pb2.ProposalResponsePayload.FromString(answer).extension
    return bytes(proposal_pb2.ChaincodeAction.FromString(extension).results)


def _sets(results: bytes) -> list[Any]:
    spaces = rwset_pb2.TxReadWriteSet.FromString(results).ns_rwset
    return [kv_rwset_pb2.KVRWSet.FromString(one.rwset) for one in spaces]


def _tx_id(data: bytes) -> str:
    payload = common_pb2.Payload.FromString(common_pb2.Envelope.FromString(data).payload)
    return str(common_pb2.ChannelHeader.FromString(payload.header.channel_header).tx_id)


def assemble(signed: Any, responses: list[Any]) -> Any:
    """The unsigned Envelope of a proposal and its endorsements, as the Gateway makes it."""
    proposal = proposal_pb2.Proposal.FromString(without_transient(signed.proposal_bytes))
    endorsed = transaction_pb2.ChaincodeEndorsedAction(
        proposal_response_payload=responses[0].payload,
        endorsements=[response.endorsement for response in responses],
    )
    body = transaction_pb2.ChaincodeActionPayload(
        chaincode_proposal_payload=proposal.payload, action=endorsed
    )
    header = common_pb2.Header.FromString(proposal.header)
    action = transaction_pb2.TransactionAction(
        header=header.signature_header, payload=body.SerializeToString()
    )
    transaction = transaction_pb2.Transaction(actions=[action])
    payload = common_pb2.Payload(header=header, data=transaction.SerializeToString())
    return common_pb2.Envelope(payload=payload.SerializeToString())


def new_block(number: int, previous: bytes, data: list[bytes]) -> Any:
    """A block of these envelopes; metadata is filled by who validates it."""
    header = common_pb2.BlockHeader(
        number=number, previous_hash=previous, data_hash=hashlib.sha256(b"".join(data)).digest()
    )
    return common_pb2.Block(
        header=header,
        data=common_pb2.BlockData(data=data),
        metadata=common_pb2.BlockMetadata(metadata=[b"", b"", b"", b"", b""]),
    )

"""A channel without Fabric: fake peers with real chaincode servers, behind the Gateway's own services.

What talks to it is the product's client, over TLS; what runs in it is the product's chaincode. Blocks are
cut at once, or by hand.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2, gateway_pb2_grpc
from fabric_protos.orderer import ab_pb2
from fabric_protos.peer import events_pb2, events_pb2_grpc, peer_pb2_grpc, proposal_pb2, transaction_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from deploy.fabric.pki import OrganisationFiles, write_trust
from ledger.chaincode import Chaincode, Contract
from ledger.fabric.blocks import header_bytes, header_hash, transactions
from ledger.fabric.client import FabricLedger
from ledger.fabric.identity import Identity
from ledger.shim import Server, Tls
from tests.ledger.fake_peer import CHAINCODE, CHANNEL, FakePeer, assemble, new_block

ORGANISATIONS = ("RiversideMSP", "LakesideMSP", "PatientTrustMSP")
ORDERER = "OrdererMSP"
ROLES = ("keyholder", "gateway", "admin")


class FakeNetwork:
    """`orgs` with a peer and a chaincode each; `runs` gives an organisation another contract than `run`."""

    def __init__(
        self,
        folder: Path,
        run: Contract,
        *,
        orgs: Sequence[str] = ORGANISATIONS[:2],
        needed: int | None = None,
        clock: Callable[[], float] = time.time,
        batched: bool = True,
        runs: Mapping[str, Contract] | None = None,
    ) -> None:
        self.folder = folder
        self.orgs = list(orgs)
        self.needed = needed or len(orgs) // 2 + 1
        self.peers: dict[str, FakePeer] = {}
        self.away: set[str] = set()  # organisations whose peer answers nobody
        self.orderer_away = False
        self.refuses_copies = False  # True: of what was ordered, as BFT orderers do
        self.ordered: set[str] = set()  # transactions by id
        self.mute = False  # True: peers hand out no block
        self.hold = False  # True: envelopes wait for `cut`
        self.hung: set[str] = set()  # the Gateway's steps that never answer
        self.allowed: dict[str, float] = {}  # by step, the seconds that its last call was given
        self._waiting: list[bytes] = []
        self._lock = threading.RLock()
        self._blocks: list[Any] = [new_block(0, b"", [])]
        self._chaincodes: list[Server] = []
        self._servers: list[Any] = []
        files = {org: OrganisationFiles.make(folder / "crypto" / org, org) for org in self.orgs}
        roots = {org: files[org].ca.certificate for org in self.orgs}
        ordering = OrganisationFiles.make(folder / "crypto" / ORDERER, ORDERER)
        node = ordering.node("orderer0", unit="orderer")
        self._orderer = Identity.from_files(
            ORDERER, node / "msp/signcerts/cert.pem", node / "msp/keystore/key.pem"
        )
        write_trust(folder / "trust", {**files, ORDERER: ordering}, ORDERER)
        addresses = {}
        for org in self.orgs:
            node = files[org].node(f"peer.{org}", unit="peer")
            identity = Identity.from_files(
                org, node / "msp/signcerts/cert.pem", node / "msp/keystore/key.pem"
            )
            peer = FakePeer(identity, roots, needed=self.needed, batched=batched)
            chaincode = Chaincode((runs or {}).get(org, run), clock=clock)
            self._connect(peer, files[org], chaincode)
            peer.commit(self._blocks[0])
            self.peers[org] = peer
            addresses[org] = self._serve(peer, node)
            for role in ROLES:
                files[org].identity(role, unit="admin" if role == "admin" else "client", role=role)
        self._write_profile(addresses)

    def _connect(self, peer: FakePeer, files: OrganisationFiles, chaincode: Chaincode) -> None:
        certificate, key = files.tlsca.issue("chaincode", tls=True)
        server = Server(
            chaincode.invoke,
            chaincode_id="consentgateway_1:fake",
            address="127.0.0.1:0",
            tls=Tls(key, certificate, files.tlsca.pem),
        )
        server.start()
        self._chaincodes.append(server)
        own_certificate, own_key = files.tlsca.issue("peer", tls=True)
        credentials = grpc.ssl_channel_credentials(files.tlsca.pem, own_key, own_certificate)
        peer.dial(f"127.0.0.1:{server.port}", credentials)

    def _serve(self, peer: FakePeer, node: Path) -> str:
        server = grpc.server(ThreadPoolExecutor(32))
        gateway_pb2_grpc.add_GatewayServicer_to_server(_Gateway(self, peer), server)
        peer_pb2_grpc.add_EndorserServicer_to_server(_Endorser(self, peer), server)
        events_pb2_grpc.add_DeliverServicer_to_server(_Deliver(self, peer), server)
        pair = ((node / "tls.key").read_bytes(), (node / "tls.pem").read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        server.start()
        self._servers.append(server)
        return f"127.0.0.1:{port}"

    def _write_profile(self, addresses: dict[str, str]) -> None:
        identities = {}
        for org in self.orgs:
            for role in ROLES:
                base = f"crypto/{org}/identities/{role}"
                entry = {"certificate": f"{base}/cert.pem", "key": f"{base}/cert.key", "organisation": org}
                identities[f"{role}@{org}"] = entry
                if org == self.orgs[0]:
                    identities[role] = entry
        organisations = {
            org: {
                "peers": [addresses[org]],
                "roots": [f"crypto/{org}/ca.pem"],
                "tls_roots": f"crypto/{org}/tlsca.pem",
            }
            for org in self.orgs
        }
        profile = {
            "chaincode": CHAINCODE,
            "channel": CHANNEL,
            "identities": identities,
            "needed": self.needed,
            "orderers": {"roots": [f"crypto/{ORDERER}/ca.pem"]},
            "organisations": organisations,
        }
        self.profile.write_text(json.dumps(profile))

    @property
    def profile(self) -> Path:
        return self.folder / "profile.json"

    def ledger(self, role: str, org: str | None = None) -> FabricLedger:
        return FabricLedger.from_profile(self.profile, identity=role if org is None else f"{role}@{org}")

    def order(self, envelope: bytes) -> None:
        with self._lock:
            self._waiting.append(envelope)
            if not self.hold:
                self.cut()

    def cut(self) -> None:
        """Put what waits into one block."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            if waiting:
                previous = header_hash(self._blocks[-1])
                block = new_block(len(self._blocks), previous, waiting)
                sign_block(block, self._orderer)
                self._blocks.append(block)
                self.ordered |= {one.tx_id for one in transactions(block)}
            self.deliver()

    def deliver(self) -> None:
        """Hand every peer that is not cut off the blocks that it lacks."""
        with self._lock:
            for peer in self.peers.values():
                while not peer.cut_off and len(peer.chain) < len(self._blocks):
                    peer.commit(self._blocks[len(peer.chain)])

    def register(self) -> None:
        """Every organisation is registered in the contract, by an administrator of ours."""
        admin = self.ledger("admin")
        for org in self.orgs:
            envelope = admin.prepare("RegisterOrganisation", {"org": org})
            admin.send(envelope)
            assert admin.outcome(envelope.tx_id, timeout=5).is_valid
        admin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for peer in self.peers.values():
            peer.hang_up()
        for server in self._servers:
            server.stop(0)
        for chaincode in self._chaincodes:
            chaincode.stop(0)


def sign_block(block: Any, orderer: Identity) -> None:
    """As a Raft orderer does: over the metadata's value, its own signature header, and the block's header."""
    value = common_pb2.LastConfig(index=0).SerializeToString()
    header = common_pb2.SignatureHeader(creator=orderer.creator, nonce=b"n" * 24).SerializeToString()
    signature = common_pb2.MetadataSignature(
        signature_header=header, signature=orderer.sign(value + header + header_bytes(block))
    )
    block.metadata.metadata[common_pb2.SIGNATURES] = common_pb2.Metadata(
        value=value, signatures=[signature]
    ).SerializeToString()


def _status(code: int, details: list[Any]) -> bytes:
    """google.rpc.Status: 1 code, 3 details."""
    data = bytes([0x08, code])
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        body = packed.SerializeToString()
        length = len(body)
        data += (
            b"\x1a" + (bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])) + body
        )
    return data


def _abort(context: Any, code: grpc.StatusCode, message: str, details: list[Any] | None = None) -> None:
    context.set_trailing_metadata((("grpc-status-details-bin", _status(code.value[0], details or [])),))
    context.abort(code, message)


class _Gateway(gateway_pb2_grpc.GatewayServicer):  # type: ignore[misc]
    def __init__(self, network: FakeNetwork, peer: FakePeer) -> None:
        self._network = network
        self._peer = peer

    def _here(self, context: Any, step: str) -> None:
        self._network.allowed[step] = context.time_remaining()
        if self._peer.identity.org in self._network.away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        while step in self._network.hung and context.is_active():
            time.sleep(0.02)

    def Endorse(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._here(context, "Endorse")
        signed = request.proposed_transaction
        first = self._peer.endorse(signed)
        if first.response.status >= 400:
            self._refuse(context, [(self._peer, first)])
        from fabric_protos.peer import proposal_response_pb2

        answered = proposal_response_pb2.ProposalResponsePayload.FromString(first.payload)
        results = proposal_pb2.ChaincodeAction.FromString(answered.extension).results
        policies = self._peer.policies_of(results) or [None]
        responses, failed = {self._peer.identity.org: first}, []
        others = [peer for org, peer in self._network.peers.items() if org not in responses]
        for peer in others:
            if all(self._peer.satisfied(policy, set(responses)) for policy in policies):
                break
            if peer.identity.org in self._network.away:
                continue
            answer = peer.endorse(signed)
            if answer.response.status >= 400:
                failed.append((peer, answer))
            else:
                responses[peer.identity.org] = answer
        if not all(self._peer.satisfied(policy, set(responses)) for policy in policies):
            self._refuse(context, failed)
        if len({answer.payload for answer in responses.values()}) > 1:
            _abort(context, grpc.StatusCode.ABORTED, "ProposalResponsePayloads do not match")
        return gateway_pb2.EndorseResponse(prepared_transaction=assemble(signed, list(responses.values())))

    def _refuse(self, context: Any, failed: list[tuple[FakePeer, Any]]) -> None:
        details = [
            gateway_pb2.ErrorDetail(
                address="",
                msp_id=peer.identity.org,
                message=f"chaincode response {answer.response.status}, {answer.response.message}",
            )
            for peer, answer in failed
        ]
        _abort(
            context, grpc.StatusCode.ABORTED, "failed to endorse transaction, see attached details", details
        )

    def Submit(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._here(context, "Submit")
        if self._network.orderer_away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "no orderers could successfully process transaction")
        if self._network.refuses_copies and request.transaction_id in self._network.ordered:
            context.abort(grpc.StatusCode.UNAVAILABLE, "insufficient number of orderers could process it")
        self._network.order(request.prepared_transaction.SerializeToString())
        return gateway_pb2.SubmitResponse()

    def CommitStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._here(context, "CommitStatus")
        tx_id = gateway_pb2.CommitStatusRequest.FromString(request.request).transaction_id
        with self._peer.height:
            while (place := self._peer._found.get(tx_id)) is None or len(self._peer.chain) <= place[0]:
                if not context.is_active() or not self._peer.height.wait(context.time_remaining()):
                    context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "not yet")
            entry = next(one for one in transactions(self._peer.chain[place[0]]) if one.tx_id == tx_id)
        code = transaction_pb2.TxValidationCode.Value(entry.validity)
        return gateway_pb2.CommitStatusResponse(result=code, block_number=entry.block)

    def Evaluate(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._here(context, "Evaluate")
        answer = self._peer.endorse(request.proposed_transaction)
        if answer.response.status >= 400:
            message = f"chaincode response {answer.response.status}, {answer.response.message}"
            _abort(context, grpc.StatusCode.UNKNOWN, message)
        return gateway_pb2.EvaluateResponse(result=answer.response)


class _Endorser(peer_pb2_grpc.EndorserServicer):  # type: ignore[misc]
    def __init__(self, network: FakeNetwork, peer: FakePeer) -> None:
        self._network = network
        self._peer = peer

    def ProcessProposal(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self._peer.identity.org in self._network.away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return self._peer.endorse(request)


class _Deliver(events_pb2_grpc.DeliverServicer):  # type: ignore[misc]
    def __init__(self, network: FakeNetwork, peer: FakePeer) -> None:
        self._network = network
        self._peer = peer

    def Deliver(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        payload = common_pb2.Payload.FromString(next(request_iterator).payload)
        seek = ab_pb2.SeekInfo.FromString(payload.data)
        number, stop = seek.start.specified.number, seek.stop.specified.number
        while context.is_active() and number <= stop:
            with self._peer.height:
                if self._network.mute or len(self._peer.chain) <= number:
                    self._peer.height.wait(0.05)
                    continue
            yield events_pb2.DeliverResponse(block=self._peer.chain[number])
            number += 1
        yield events_pb2.DeliverResponse(status=common_pb2.SUCCESS)

"""The ledger seam on a Fabric channel: `prepare -> send -> outcome`, signed reads, events.

One identity, one channel, one chaincode. It speaks through its own organisation's peers; only a signed read
asks every organisation's. Where the truth is unknown it says so, and never takes silence for success.
"""

import base64
import queue
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
from fabric_protos.common import common_pb2, ledger_pb2
from fabric_protos.peer import transaction_pb2

from ledger.client import Answer, Envelope, Event, Outcome, Proof
from ledger.contract import canonical
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.errors import LedgerError, OutcomeUnknown, PrepareError, SendError, SignerUnavailable
from ledger.fabric import blocks
from ledger.fabric.gateway import Deadlines, Failure, Peer
from ledger.fabric.identity import Identity
from ledger.fabric.profile import Profile
from ledger.fabric.proposals import Mismatch, Proposal, propose, sign_prepared
from ledger.fabric.trust import HEIGHT, KIND, STATE, pack

T = TypeVar("T")

REFUSAL = re.compile(r"([a-z0-9_]+): (.+)", re.DOTALL)
# An endorsement fails for a moment when another peer lags a block behind ours, and when a peer's discovery
# has just started or is under load. The same proposal passes soon after.
ATTEMPTS = 4
CLOCK_SKEW = "clock_skew"
STALL_SECONDS = 10.0  # in which a block that our peer has must come


class FabricLedger:
    """Implements `ledger.client.Ledger`. Safe to use from several threads.

    `clock` gives the time of transactions, in seconds since 1970 UTC.
    """

    def __init__(
        self,
        profile: Profile,
        identity: Identity,
        *,
        deadlines: Deadlines | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._profile = profile
        self._clock = clock
        self._identity = identity
        self._deadlines = deadlines or Deadlines()
        self._peers = {
            name: [
                Peer(
                    address,
                    tls_roots=organisation.tls_roots,
                    identity=identity,
                    channel=profile.channel,
                    deadlines=self._deadlines,
                )
                for address in organisation.peers
            ]
            for name, organisation in profile.organisations.items()
        }

    @classmethod
    def from_profile(cls, path: str | Path, *, identity: str) -> "FabricLedger":
        """Raises ValueError when the profile or the identity cannot be read."""
        profile = Profile.load(path)
        return cls(profile, profile.identity(identity))

    def close(self) -> None:
        for peers in self._peers.values():
            for peer in peers:
                peer.close()

    # Prepare, send, outcome

    def prepare(self, name: str, args: Json, transient: Mapping[str, bytes] | None = None) -> Envelope:
        """Have it endorsed, check that it is what we proposed, and sign it.

        Raises Refused when our own organisation's peer says that the contract refuses, else PrepareError:
        another organisation's refusal alone may be a peer that lags behind, and is worth a new attempt.
        """
        proposal = self._propose([name.encode(), canonical.dumps(args)], transient=transient)
        ends = time.monotonic() + self._deadlines.endorse
        for attempt in range(ATTEMPTS):
            try:
                prepared = self._through_own(lambda peer: peer.endorse(proposal))
                data, result = sign_prepared(self._identity, proposal, prepared)
                return Envelope(proposal.tx_id, data, canonical.load_canonical(result))
            except Failure as failed:
                error = self._prepare_error(failed)
                passing = isinstance(error, PrepareError) and error.code != CLOCK_SKEW
                if not passing or attempt == ATTEMPTS - 1 or time.monotonic() > ends:
                    raise error from None
            except (Mismatch, Refused) as wrong:
                raise PrepareError(
                    f"The peer answered with something else than was asked: {wrong}."
                ) from None
            _pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    def send(self, envelope: Envelope) -> None:
        """Hand the stored bytes to be ordered. Raises SendError: then send the same envelope again.

        What stands in a block already counts as taken: BFT orderers refuse what they ordered before, and the
        peer says of that what it says of an orderer that is away.
        """
        try:
            self._through_own(lambda peer: peer.submit(envelope.tx_id, envelope.data))
        except Failure as failed:
            if failed.code == grpc.StatusCode.UNAVAILABLE and self._is_recorded(envelope.tx_id):
                return
            raise SendError(
                f"The orderer did not take the transaction ({failed}). Send the same envelope again."
            ) from None

    def outcome(self, tx_id: str, *, timeout: float) -> Outcome:
        """Wait up to `timeout` seconds for its block. Raises OutcomeUnknown."""
        deadline = time.monotonic() + timeout
        try:
            validity, block = self._through_own(
                lambda peer: peer.commit_status(tx_id, timeout=max(0.05, deadline - time.monotonic()))
            )
        except (Failure, SignerUnavailable):
            return self._recorded(tx_id)
        return Outcome(tx_id, validity, block)

    def _recorded(self, tx_id: str) -> Outcome:
        """What our peers' block stores hold of it. Raises OutcomeUnknown where that is nothing."""
        channel = self._profile.channel.encode()
        try:
            found = self._query("qscc", [b"GetTransactionByID", channel, tx_id.encode()])
            block = self._query("qscc", [b"GetBlockByTxID", channel, tx_id.encode()])
        except (Failure, SignerUnavailable):
            raise OutcomeUnknown("No block that our peer knows holds the transaction yet.") from None
        code = transaction_pb2.ProcessedTransaction.FromString(found).validationCode
        number = common_pb2.Block.FromString(block).header.number
        return Outcome(tx_id, transaction_pb2.TxValidationCode.Name(code), number)

    def _is_recorded(self, tx_id: str) -> bool:
        try:
            self._recorded(tx_id)
        except OutcomeUnknown:
            return False
        return True

    # Reads

    def read(self, keys: Sequence[str], *, nonce: bytes) -> Proof:
        """Ask a peer of every organisation at once; who does not answer within the deadline is left out.

        Each organisation is first asked its height, then its state, both bound to `nonce`.
        Raises LedgerError when nobody answered.
        """
        return self._read(self._peers, keys, nonce)

    def read_own(self, keys: Sequence[str], *, nonce: bytes) -> Proof:
        """As `read`, but only our own organisation's peers are asked."""
        own = self._identity.org
        return self._read({own: self._peers[own]}, keys, nonce)

    def _read(self, peers: Mapping[str, Sequence[Peer]], keys: Sequence[str], nonce: bytes) -> Proof:
        ends = time.monotonic() + self._deadlines.read
        height = propose(
            self._identity,
            channel=self._profile.channel,
            chaincode="qscc",
            args=[b"GetChainInfo", self._profile.channel.encode()],
            nonce=nonce + HEIGHT,
        )
        args = canonical.dumps({"keys": list(keys), "nonce": nonce.hex()})
        state = self._propose([b"Read", args], nonce=nonce + STATE)
        answers = [
            Answer(
                org,
                pack(height.data, first, state.data, second),
                second.endorsement.signature,
                second.endorsement.endorser,
            )
            for org, (first, second) in self._ask_all(peers, height, state, ends).items()
        ]
        if not answers:
            raise LedgerError("No organisation's peer answered a signed read in time.")
        return Proof(KIND, tuple(answers))

    def _ask_all(
        self, peers: Mapping[str, Sequence[Peer]], first: Proposal, second: Proposal, ends: float
    ) -> dict[str, tuple[Any, Any]]:
        """By organisation of `peers`, both signed answers (status 200) of its first peer that gave them.

        Each peer is asked the second question once it has answered the first; none waits for another.
        """
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask(org: str, peer: Peer, proposal: Proposal, before: Any) -> None:
            call = peer.ask(proposal, timeout=max(0.001, ends - time.monotonic()))
            call.add_done_callback(lambda ended: done.put((org, peer, before, ended)))

        asked = 0
        for org, its in peers.items():
            for peer in its:
                ask(org, peer, first, None)
                asked += 1
        answers: dict[str, tuple[Any, Any]] = {}
        while asked:
            org, peer, before, ended = done.get()  # every call ends by its own deadline
            asked -= 1
            try:
                answer = ended.result()
            except (grpc.RpcError, grpc.FutureCancelledError):
                continue
            if answer.response.status != 200:
                continue
            if before is None:
                ask(org, peer, second, answer)
                asked += 1
            else:
                answers.setdefault(org, (before, answer))
        return answers

    def evaluate(self, keys: Sequence[str]) -> list[bytes | None]:
        """Committed values from one of our own peers: for pages, never for an opening. Raises LedgerError."""
        args = canonical.dumps({"keys": list(keys), "nonce": ""})
        try:
            answer = canonical.load_canonical(self._query(self._profile.chaincode, [b"Read", args]))
            values = [None if value is None else base64.b64decode(value) for value in answer["values"]]
        except Failure as failed:
            raise LedgerError(f"Our peer cannot be asked ({failed}).") from None
        except (Refused, KeyError, TypeError, ValueError):
            raise LedgerError("Our peer answered something that cannot be read.") from None
        if len(values) != len(keys):
            raise LedgerError("Our peer answered another number of values than was asked.")
        return values

    def height(self) -> int:
        """Number of blocks of our own peer. Raises LedgerError."""
        try:
            info = self._query("qscc", [b"GetChainInfo", self._profile.channel.encode()])
        except Failure as failed:
            raise LedgerError(f"Our peer cannot be asked ({failed}).") from None
        return int(ledger_pb2.BlockchainInfo.FromString(info).height)

    def evidence(self, tx_id: str) -> Json:
        """The whole block that holds the transaction, with every endorser's and the orderers' signatures.

        `{"block": base64 of common.Block, "channel", "kind": "fabric", "position"}`. Raises LedgerError.
        """
        channel = self._profile.channel
        try:
            data = self._query("qscc", [b"GetBlockByTxID", channel.encode(), tx_id.encode()])
        except Failure:
            raise LedgerError(
                "The ledger does not have this transaction.", code="transaction_unknown"
            ) from None
        block = common_pb2.Block.FromString(data)
        for entry in blocks.transactions(block):
            if entry.tx_id == tx_id:
                text = base64.b64encode(data).decode()
                return {"block": text, "channel": channel, "kind": KIND, "position": entry.index}
        raise LedgerError("The block does not hold the transaction.", code="transaction_unknown")

    # Events

    def events(self, after: tuple[int, int], *, wait: float) -> Iterator[Event]:
        """Events of valid transactions of our chaincode, read from the blocks themselves.

        `index` is the transaction's place in its block. Raises LedgerError; also where a block that our peer
        has now does not come (`ledger_blocks_missing`): silence is not the ledger's end.
        """
        for block in self.blocks(max(0, after[0]), wait=wait, at_least=self.height()):
            for entry in blocks.transactions(block):
                event = entry.event
                if event is None or not entry.is_valid or event.chaincode != self._profile.chaincode:
                    continue
                if (entry.block, entry.index) > after:
                    payload = canonical.load_canonical(event.payload)
                    yield Event(entry.block, entry.index, entry.tx_id, event.name, payload)

    def blocks(self, start: int, *, wait: float, at_least: int = 0) -> Iterator[Any]:
        """Whole blocks from `start` on; ends when none came for `wait` seconds. Raises LedgerError.

        Before it has handed out those below `at_least` it waits longer, and then raises.
        """
        expected = start
        stream = self._peers[self._identity.org][0].blocks(start)
        arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def receive() -> None:
            try:
                for block in stream:
                    arrived.put(block)
                arrived.put(None)
            except Failure as failed:
                arrived.put(failed)

        threading.Thread(target=receive, daemon=True).start()
        try:
            while True:
                behind = expected < at_least
                try:
                    item = arrived.get(timeout=max(wait, STALL_SECONDS) if behind else wait)
                except queue.Empty:
                    if behind:
                        raise LedgerError(
                            "Our peer has more blocks and hands none out: see its log. It is asked again.",
                            code="ledger_blocks_missing",
                        ) from None
                    return
                if item is None:
                    return
                if isinstance(item, Failure):
                    raise LedgerError(f"Our peer's blocks cannot be read ({item}).")
                expected = item.header.number + 1
                yield item
        finally:
            stream.close()

    # Calls

    def _propose(
        self,
        args: Sequence[bytes],
        *,
        transient: Mapping[str, bytes] | None = None,
        nonce: bytes | None = None,
    ) -> Proposal:
        return propose(
            self._identity,
            channel=self._profile.channel,
            chaincode=self._profile.chaincode,
            args=args,
            transient=transient,
            nonce=nonce,
            clock=self._clock,
        )

    def _query(self, chaincode: str, args: Sequence[bytes]) -> bytes:
        """One query on one of our own peers. Raises Failure."""
        proposal = propose(self._identity, channel=self._profile.channel, chaincode=chaincode, args=args)
        return self._through_own(lambda peer: peer.evaluate(proposal))

    def _through_own(self, call: Callable[[Peer], T]) -> T:
        """Call one of our own organisation's peers, the next where one is away. Raises the last Failure."""
        peers = self._peers[self._identity.org]
        for peer in peers[:-1]:
            try:
                return call(peer)
            except Failure as failed:
                if failed.code != grpc.StatusCode.UNAVAILABLE:
                    raise
        return call(peers[-1])

    def _prepare_error(self, failed: Failure) -> Exception:
        for detail in failed.details:
            match = REFUSAL.fullmatch(detail.message) if 400 <= detail.status < 500 else None
            if match is None or detail.org not in ("", self._identity.org):
                continue
            code, sentence = match[1], match[2]
            if code == CLOCK_SKEW:
                return PrepareError(sentence, code=CLOCK_SKEW)
            return Refused(code, sentence)
        orgs = sorted({detail.org for detail in failed.details if detail.org})
        where = f" by {', '.join(orgs)}" if orgs else ""
        return PrepareError(f"The transaction could not be endorsed{where} ({failed}). Nothing was sent.")


def _pause(attempt: int) -> None:
    """Longer each time, and never at the same moment as everybody else."""
    time.sleep(secrets.SystemRandom().uniform(0.02, 0.05 * 2**attempt))

"""The embedded ledger's process: endorses, orders, commits, and answers signed reads.

The only holder of the ledger's key. Whoever connects must be an account that the socket admits, and
every transaction must be signed by a configured identity, whose role the contract checks.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path

from ledger import rpc
from ledger.contract.state import Json
from ledger.embedded.blocks import (
    ORG,
    READ,
    Endorsed,
    canonical,
    open_envelope,
    proposal_message,
    public_hex,
    verifies,
)
from ledger.embedded.commit import add_block
from ledger.embedded.evidence import evidence
from ledger.embedded.folder import contract, endorse, read_config, read_key, simulate
from ledger.embedded.simulation import Contract
from ledger.embedded.store import Store
from ledger.errors import GatewayError, InvalidInput, LedgerError, OutcomeUnknown, PrepareError, SendError

CLOCK_SECONDS = 10
WITHOUT_CLOCK = frozenset({"RevokeConsent"})  # a wrong clock must keep nobody from stopping
MAX_POLL = 30.0
MAX_QUEUED = 20_000
MAX_QUEUED_BYTES = 256 * 1024 * 1024
BLOCK_TRANSACTIONS = 2_000
BLOCK_BYTES = 64 * 1024 * 1024
MAX_KEYS = 10_000

log = logging.getLogger(__name__)


class LedgerProcess:
    """Serves one folder. `clock` gives seconds since 1970 UTC; `run` is the contract.

    Raises LedgerError when the folder is not whole, AlreadyServed when another process has it.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        run: Contract | None = None,
        clock: Callable[[], float] = time.time,
        uids: Collection[int] | None = None,
        group: str | int | None = None,
        max_pages: int | None = None,
    ) -> None:
        folder = Path(folder)
        self._run = run or contract()
        self._clock = clock
        self._key = read_key(folder / "ledger.key")
        self._config = read_config(folder)
        if public_hex(self._key) != self._config["ledger"]:
            raise LedgerError("ledger.key and ledger.pub are not one pair.", code="ledger_no_key")
        self._queue: deque[Endorsed] = deque()
        self._queued_bytes = 0
        self._lost: dict[str, LedgerError] = {}
        self._ready = threading.Condition()  # something is queued
        self._advanced = threading.Condition()  # a block was written, or could not be
        self._stopping = False
        # No method answers before the store is open; the socket's lock makes us the only writer.
        self._opened = threading.Event()
        self._server = rpc.serve(folder / "ledger.sock", self._methods(), uids=uids, group=group)
        try:
            self._store = Store(folder / "ledger.sqlite3", max_pages=max_pages)
            self._configure()
        except BaseException:
            self._server.close()
            raise
        self._committer = threading.Thread(target=self._commit, name="committer", daemon=True)
        self._committer.start()
        self._opened.set()

    def close(self) -> None:
        """Commit what is queued, answer who waits, and end."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        self._committer.join()
        with self._advanced:
            self._advanced.notify_all()
        self._server.close()
        self._store.close()

    def _methods(self) -> dict[str, rpc.Method]:
        methods: dict[str, Callable[[Json], Json]] = {
            "prepare": self._prepare,
            "send": self._send,
            "outcome": self._outcome,
            "read": self._read,
            "evaluate": self._evaluate,
            "events": self._events,
            "height": self._height,
            "evidence": self._evidence,
        }
        return {name: self._checked(method) for name, method in methods.items()}

    def _checked(self, method: Callable[[Json], Json]) -> rpc.Method:
        def call(params: Json, _uid: int) -> Json:
            if not self._opened.wait(10):
                raise LedgerError("The ledger is still starting. Try again.")
            try:
                return method(params)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                if _is_ours(error):
                    raise
                raise InvalidInput("The request to the ledger is malformed.") from None

        return call

    def _configure(self) -> None:
        """Changed identities become a block, so that each signature is checked by what was in force."""
        with self._store.view() as view:
            if view.config() == self._config:
                return
        with self._store.writing() as writing:
            add_block(writing, [], time=int(self._clock()), key=self._key, config=self._config)
        log.info("identities changed: a new configuration block")

    # Stage 1

    def _prepare(self, params: Json) -> Json:
        proposal, transient = params["proposal"], params["transient_b64"]
        self._check_proposal(proposal, transient, params["signature"])
        with self._store.view() as view:
            body = simulate(
                view,
                self._run,
                proposal,
                self._config,
                {name: rpc.from_b64(value) for name, value in transient.items()},
            )
        return {"body": body, "endorsement": endorse(body, self._key)}

    def _check_proposal(self, proposal: Json, transient: Json, signature: str) -> None:
        """1. its form; 2. a configured identity signed it; 3. its time is near the ledger's clock."""
        # 1
        if set(proposal) != {"args", "identity", "name", "nonce", "time", "version"} or not (
            isinstance(proposal["args"], dict)
            and isinstance(proposal["name"], str)
            and isinstance(proposal["nonce"], str)
            and len(proposal["nonce"]) == 64
            and type(proposal["time"]) is int
            and 0 <= proposal["time"] < 2**53
            and proposal["version"] == 1
        ):
            raise InvalidInput("The proposal is malformed.")
        # 2
        identity = self._config["identities"].get(proposal["identity"])
        if identity is None or not verifies(
            identity["key"], signature, proposal_message(proposal, transient)
        ):
            raise PrepareError(
                "The proposal is not signed by an identity of this ledger.", code="identity_unknown"
            )
        # 3
        if proposal["name"] in WITHOUT_CLOCK:
            return
        if abs(proposal["time"] - self._clock()) > CLOCK_SECONDS:
            raise PrepareError(
                "The proposal's time is more than 10 s from the ledger's clock. Set the clocks.",
                code="clock_skew",
            )

    # Stage 2

    def _send(self, params: Json) -> Json:
        transaction = open_envelope(rpc.from_b64(params["envelope_b64"]), self._config)
        with self._ready:
            if self._stopping:
                raise SendError("The ledger is stopping. Send the same envelope again.")
            if len(self._queue) >= MAX_QUEUED or self._queued_bytes >= MAX_QUEUED_BYTES:
                raise SendError(
                    "The ledger's queue is full. Send the same envelope again.", code="ledger_busy"
                )
            self._lost.pop(transaction.tx_id, None)
            self._queue.append(transaction)
            self._queued_bytes += len(transaction.data)
            self._ready.notify()
        return {}

    def _commit(self) -> None:
        """Whatever is queued becomes one block, at once."""
        while True:
            with self._ready:
                while not self._queue and not self._stopping:
                    self._ready.wait()
                if not self._queue:
                    return
                batch = self._take()
            try:
                with self._store.writing() as writing:
                    add_block(writing, batch, time=int(self._clock()), key=self._key)
            except Exception as error:
                self._lose(batch, error)
            with self._advanced:
                self._advanced.notify_all()

    def _take(self) -> list[Endorsed]:
        batch: list[Endorsed] = []
        size = 0
        while self._queue and len(batch) < BLOCK_TRANSACTIONS and (size < BLOCK_BYTES):
            batch.append(self._queue.popleft())
            size += len(batch[-1].data)
        self._queued_bytes -= size
        return batch

    def _lose(self, batch: list[Endorsed], error: Exception) -> None:
        """A block that could not be written: its senders learn why, and send the same envelopes again."""
        if not isinstance(error, GatewayError):
            log.error("a block could not be made: %s", type(error).__name__)
            error = LedgerError("The ledger could not make a block; its log says where.")
        log.error("a block of %d could not be written: %s", len(batch), error.code)
        lost = OutcomeUnknown(f"{error.message} Then send the same envelope again.", code=error.code)
        with self._ready:
            self._lost.update((transaction.tx_id, lost) for transaction in batch)
            while len(self._lost) > MAX_QUEUED:
                self._lost.pop(next(iter(self._lost)))

    # Stage 3

    def _outcome(self, params: Json) -> Json:
        tx_id, deadline = str(params["tx_id"]), time.monotonic() + min(float(params["wait"]), MAX_POLL)
        while True:
            with self._advanced:
                with self._store.view() as view:
                    found = view.outcome(tx_id)
                if found is not None:
                    return {"block": found.block, "validity": found.validity}
                if lost := self._lost.get(tx_id):
                    raise lost
                if not self._wait(deadline):
                    return {"block": None, "validity": None}

    def _events(self, params: Json) -> Json:
        block, index = params["after"]
        after, deadline = (int(block), int(index)), time.monotonic() + min(float(params["wait"]), MAX_POLL)
        while True:
            with self._advanced:
                with self._store.view() as view:
                    found = view.events(after)
                if found or not self._wait(deadline):
                    break
        return {"events": [[one.block, one.index, one.tx_id, one.name, one.payload] for one in found]}

    def _wait(self, deadline: float) -> bool:
        """Wait for the next block; false when the time is over. The caller holds `_advanced`."""
        left = deadline - time.monotonic()
        return left > 0 and not self._stopping and self._advanced.wait(left)

    # Reads

    def _read(self, params: Json) -> Json:
        keys, nonce = _keys(params), str(params["nonce"])
        if len(bytes.fromhex(nonce)) < 16:
            raise InvalidInput("A nonce has at least 16 bytes.")
        with self._store.view() as view:
            height = view.tip().height
            entries = view.entries(keys)
        payload = canonical(
            {
                "height": height,
                "keys": keys,
                "kind": "read",
                "nonce": nonce,
                "org": ORG,
                "values_b64": [rpc.to_b64(entries[key].value) if key in entries else None for key in keys],
            }
        )
        return {
            "payload_b64": rpc.to_b64(payload),
            "signature_b64": rpc.to_b64(self._key.sign(READ + payload)),
            "signer_b64": rpc.to_b64(self._key.public_key().public_bytes_raw()),
        }

    def _evaluate(self, params: Json) -> Json:
        keys = _keys(params)
        with self._store.view() as view:
            entries = view.entries(keys)
        return {"values_b64": [rpc.to_b64(entries[key].value) if key in entries else None for key in keys]}

    def _height(self, _params: Json) -> Json:
        with self._store.view() as view:
            return {"height": view.tip().height}

    def _evidence(self, params: Json) -> Json:
        with self._store.view() as view:
            return evidence(view, str(params["tx_id"]), key=public_hex(self._key))


def _keys(params: Json) -> list[str]:
    keys = [str(key) for key in params["keys"]]
    if len(keys) > MAX_KEYS:
        raise InvalidInput("At most 10,000 keys are read at once.")
    return keys


def _is_ours(error: Exception) -> bool:
    """Whether the error arose below this file, so that it is a fault of ours and not of the request."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename != __file__

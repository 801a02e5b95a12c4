"""One identity's connection to the embedded ledger's process: the seam of `ledger.client.Ledger`."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ledger import rpc
from ledger.client import Answer, Envelope, Event, Outcome, Proof
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.embedded.blocks import (
    ORG,
    endorsement_message,
    proposal_message,
    tx_id_of,
    verifies,
)
from ledger.embedded.folder import identity_path, new_proposal, read_key, read_public_key, seal_envelope
from ledger.errors import GatewayError, InvalidInput, LedgerError, OutcomeUnknown, PrepareError, SendError

PREPARE_SECONDS = 30.0
SEND_SECONDS = 30.0
READ_SECONDS = 10.0
POLL_SECONDS = 20.0


class EmbeddedLedger:
    """Implements ledger.client.Ledger over `<folder>/ledger.sock`. Safe for threads.

    `clock` gives the time of transactions, in seconds since 1970 UTC.
    """

    def __init__(self, folder: str | Path, *, identity: str, clock: Callable[[], float] = time.time) -> None:
        self._identity = identity
        self._clock = clock
        self._signer = read_key(identity_path(Path(folder), identity))
        self._ledger_key = read_public_key(Path(folder))
        self._connection = rpc.Connection(Path(folder) / "ledger.sock")

    def prepare(self, name: str, args: Json, transient: Mapping[str, bytes] | None = None) -> Envelope:
        proposal = new_proposal(name, args, self._identity, int(self._clock()))
        secret = {key: rpc.to_b64(value) for key, value in (transient or {}).items()}
        signature = self._signer.sign(proposal_message(proposal, secret)).hex()
        try:
            answer = self._connection.call(
                "prepare",
                {"proposal": proposal, "transient_b64": secret, "signature": signature},
                timeout=PREPARE_SECONDS,
            )
        except (Refused, PrepareError, InvalidInput):
            raise
        except GatewayError as error:
            raise PrepareError(error.message, code=_own(error)) from None
        body, endorsement = answer["body"], answer["endorsement"]
        # We sign only what this ledger endorsed, and only what we asked for.
        if body.get("proposal") != proposal or not verifies(
            self._ledger_key, endorsement.get("signature"), endorsement_message(body)
        ):
            raise PrepareError("The answer is not this ledger's endorsement of our proposal.")
        data = seal_envelope(body, [endorsement], self._signer)
        return Envelope(tx_id_of(proposal), data, body["result"])

    def send(self, envelope: Envelope) -> None:
        try:
            self._connection.call("send", {"envelope_b64": rpc.to_b64(envelope.data)}, timeout=SEND_SECONDS)
        except SendError:
            raise
        except GatewayError as error:
            raise SendError(error.message, code=_own(error)) from None

    def outcome(self, tx_id: str, *, timeout: float) -> Outcome:
        deadline = time.monotonic() + timeout
        while True:
            wait = min(max(0.0, deadline - time.monotonic()), POLL_SECONDS)
            try:
                answer = self._connection.call(
                    "outcome", {"tx_id": tx_id, "wait": str(wait)}, timeout=wait + READ_SECONDS
                )
            except OutcomeUnknown:
                raise
            except GatewayError as error:
                raise OutcomeUnknown(error.message, code=_own(error)) from None
            if answer["validity"] is not None:
                return Outcome(tx_id, answer["validity"], answer["block"])
            if time.monotonic() >= deadline:
                raise OutcomeUnknown(
                    "The transaction is in no block yet. Ask again, or send the same envelope again."
                )

    def read(self, keys: Sequence[str], *, nonce: bytes) -> Proof:
        answer = self._connection.call(
            "read", {"keys": list(keys), "nonce": nonce.hex()}, timeout=READ_SECONDS
        )
        one = Answer(
            org=ORG,
            payload=rpc.from_b64(answer["payload_b64"]),
            signature=rpc.from_b64(answer["signature_b64"]),
            signer=rpc.from_b64(answer["signer_b64"]),
        )
        return Proof("embedded", (one,))

    def read_own(self, keys: Sequence[str], *, nonce: bytes) -> Proof:
        """See ledger.client.Ledger.read_own: there is no other organisation."""
        return self.read(keys, nonce=nonce)

    def evaluate(self, keys: Sequence[str]) -> list[bytes | None]:
        answer = self._connection.call("evaluate", {"keys": list(keys)}, timeout=READ_SECONDS)
        return [None if value is None else rpc.from_b64(value) for value in answer["values_b64"]]

    def events(self, after: tuple[int, int], *, wait: float) -> Iterator[Event]:
        deadline = time.monotonic() + wait
        while True:
            left = min(max(0.0, deadline - time.monotonic()), POLL_SECONDS)
            answer = self._connection.call(
                "events", {"after": list(after), "wait": str(left)}, timeout=left + READ_SECONDS
            )
            for block, index, tx_id, name, payload in answer["events"]:
                after = (block, index)
                yield Event(block, index, tx_id, name, payload)
            if answer["events"]:
                deadline = time.monotonic() + wait
            elif time.monotonic() >= deadline:
                return

    def height(self) -> int:
        return int(self._connection.call("height", {}, timeout=READ_SECONDS)["height"])

    def evidence(self, tx_id: str) -> Json:
        return self._connection.call("evidence", {"tx_id": tx_id}, timeout=READ_SECONDS)

    def close(self) -> None:
        self._connection.close()


def _own(error: GatewayError) -> str | None:
    """A code that says more than "unavailable" is kept; else the stage's own code stands."""
    return None if error.code == LedgerError.code else error.code

"""How the keyholder gets a transaction onto the ledger once, however often it is asked or killed.

The signed envelope is stored before it is sent. While its outcome is unknown the same envelope is
sent again; a new one is made only after a definite invalid outcome, which never takes effect.
"""

import random
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.keyholder.store import Store, Submission
from ledger.client import ENDORSEMENT_POLICY_FAILURE, Envelope, Ledger, may_prepare_again
from ledger.contract.errors import Refused
from ledger.contract.state import Json
from ledger.errors import NotCommitted, OutcomeUnknown

TRIES = 6
OUTCOME_SECONDS = 20.0


def _nothing() -> None:
    """Nothing to keep beside the envelope."""


@dataclass(frozen=True)
class Draft:
    """A transaction to prepare. `keep` writes what must be stored together with its envelope."""

    name: str
    args: Json
    transient: Mapping[str, bytes] = field(default_factory=dict)
    keep: Callable[[], None] = _nothing


def submit(store: Store, ledger: Ledger, purpose: str, build: Callable[[], Draft]) -> Submission:
    """The committed transaction of this purpose: found, finished, or made by `build`.

    Raises Refused and PrepareError (nothing was sent), SendError and OutcomeUnknown (call again: the same
    envelope goes out), NotCommitted (a definite no).
    """
    code, policy_failures = "", 0
    for number in range(TRIES):
        kept = store.submission(purpose) or _prepare(store, ledger, purpose, build)
        if kept is None:
            continue  # another call stored its envelope first: that one counts
        if kept.state == "committed":
            return kept
        code = _settle(store, ledger, kept)
        if code:
            policy_failures += code == ENDORSEMENT_POLICY_FAILURE
            if not may_prepare_again(code, policy_failures):
                break
            time.sleep(random.uniform(0.0, 0.02 * 2**number))  # noqa: S311 (jitter, no secret)
    if not code:
        raise OutcomeUnknown("Another call submits the same. Ask again.")
    raise NotCommitted("The ledger did not take the transaction.", validity=code)


def finish(store: Store, ledger: Ledger, purpose: str) -> Submission | None:
    """What took effect for this purpose; an envelope left without an outcome is sent again first.

    None when nothing was ever sent, or what was sent is invalid: its place is free.
    Raises SendError, OutcomeUnknown (call again).
    """
    kept = store.submission(purpose)
    if kept is None or kept.state == "committed":
        return kept
    _settle(store, ledger, kept)
    return store.submission(purpose)


def _settle(store: Store, ledger: Ledger, kept: Submission) -> str:
    """Send the envelope and write down what became of it: its validity if that is a no, else empty."""
    ledger.send(Envelope(kept.tx_id, kept.envelope, kept.result))
    outcome = ledger.outcome(kept.tx_id, timeout=OUTCOME_SECONDS)
    code = "" if outcome.is_valid else outcome.validity
    store.settle(kept.tx_id, state="invalid" if code else "committed", code=code, block=outcome.block)
    return code


def _prepare(store: Store, ledger: Ledger, purpose: str, build: Callable[[], Draft]) -> Submission | None:
    draft = build()
    try:
        envelope = ledger.prepare(draft.name, draft.args, draft.transient)
    except Refused:
        # Another call was faster, and the contract refuses to do it twice: that one counts.
        kept = store.submission(purpose)
        if kept is None:
            raise
        return kept
    try:
        with store.transaction():
            store.add_submission(
                purpose, tx_id=envelope.tx_id, envelope=envelope.data, result=envelope.result
            )
            draft.keep()
    except sqlite3.IntegrityError:
        return None
    return store.submission(purpose)

"""When a network that was started is ready for its first transaction, whichever organisation sends it."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.fabric.commands import READY_SECONDS, NetworkError
from ledger.client import Ledger
from ledger.contract.errors import Refused
from ledger.errors import LedgerError

# A model that nobody registers: its endorsement is asked for and never sent.
TRIAL = {"model": "0" * 64, "card": "0" * 64, "provider": "none", "state": "suspended"}


def wait_until_ready(
    organisations: Sequence[str],
    connect: Callable[[str, str], Ledger],
    *,
    logs: Path,
    seconds: float = READY_SECONDS,
) -> None:
    """Through each organisation's own peer, a transaction is endorsed, ordered and committed.

    A peer that has just started does not know yet who else runs the chaincode, nor an orderer who leads, and
    each finds out by itself. What is committed reads one key and writes nothing. `connect(role, org)` gives a
    connection. Raises NetworkError, which names what is missing.
    """
    deadline = time.monotonic() + seconds
    for org in organisations:
        ledger = connect("admin", org)
        try:
            while (missing := _missing(ledger, organisations)) is not None:
                if time.monotonic() > deadline:
                    raise NetworkError(
                        f"Not ready after {seconds:g} s, asked by {org}: {missing} See {logs}."
                    )
                time.sleep(0.1)
        finally:
            ledger.close()


def _missing(ledger: Ledger, organisations: Sequence[str]) -> str | None:
    """What one organisation, asked through its own peer, still lacks; None when it is ready."""
    try:
        answered = {answer.org for answer in ledger.read(["organisations"], nonce=os.urandom(16)).answers}
        if away := set(organisations) - answered:
            return f"{', '.join(sorted(away))} does not answer."
        ledger.prepare("RegisterModel", TRIAL)
        nothing = ledger.prepare("Read", {"keys": ["organisations"], "nonce": ""})
        ledger.send(nothing)
        outcome = ledger.outcome(nothing.tx_id, timeout=5)
    except LedgerError as error:
        return error.message
    except Refused as refused:  # its peer has not every block yet
        return f"its contract refuses ({refused.code})."
    return None if outcome.is_valid else f"the peers say {outcome.validity}."

"""EmergencyAccess and SubjectAccess: openings for a person, never for AI, each with its own limit in time."""

from ledger.contract import canonical
from ledger.contract.arguments import fields, is_hex, is_time
from ledger.contract.errors import Refused
from ledger.contract.state import Result, State, Transaction

HOUR = 3600
LONGEST = {"emergency": 24 * HOUR, "subject": 30 * 24 * HOUR}


def emergency_access(state: State, transaction: Transaction) -> Result:
    """Break-glass by a clinician: at most a day."""
    return _access(state, transaction, "emergency")


def subject_access(state: State, transaction: Transaction) -> Result:
    """The patient's own copy: at most thirty days."""
    return _access(state, transaction, "subject")


def _access(state: State, transaction: Transaction, kind: str) -> Result:
    args = fields(transaction.args, "arguments", access=is_hex, digest=is_hex, expires=is_time)
    key = f"access/{args['access']}"
    if state.get(key) is not None:
        raise Refused("access_exists", "An access with this id is on the ledger already. Use a new id.")
    if not transaction.time < args["expires"] <= transaction.time + LONGEST[kind]:
        raise Refused(
            "access_expiry",
            f"An access of this kind ends within {LONGEST[kind] // HOUR} hours. Choose another end.",
        )
    value = {"at": transaction.time, "digest": args["digest"], "expires": args["expires"], "kind": kind}
    state.put(key, canonical.dumps(value))
    payload = {"access": args["access"], "kind": kind}
    return Result(payload, ("Accessed", payload))

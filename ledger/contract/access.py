"""EmergencyAccess, CompleteEmergency and SubjectAccess: for a person, never for AI, each with an end.

An emergency waits for no other organisation: its own records it, under a key that it alone endorses, and the
rest complete it when they can.
"""

from ledger.contract import canonical
from ledger.contract.arguments import fields, is_hex, is_time
from ledger.contract.errors import Refused
from ledger.contract.organisations import NONE_OPEN, emergency_key, keep_for_own, organisations
from ledger.contract.state import Json, Result, State, Transaction

HOUR = 3600
LONGEST = {"emergency": 24 * HOUR, "subject": 30 * 24 * HOUR}
# So many one organisation records before the rest has to have seen some of them.
MOST_OPEN = 256


def completed_key(access: str, org: str) -> str:
    """Where the rest say that they saw it. It names the organisation, so that no other takes its place."""
    return f"access/{access}/{org}"


def recorded(value: bytes | None) -> dict[str, Json]:
    """The emergencies in an `emergency/<org>` value by access; none where it has another form."""
    try:
        found = None if value is None else canonical.load_canonical(value, limit=2**20)
        if not isinstance(found, dict) or found.keys() != NONE_OPEN.keys() or len(found["open"]) > MOST_OPEN:
            return {}
        return {one["access"]: _entry(one) for one in found["open"]}
    except (Refused, TypeError, KeyError):
        return {}


def emergency_access(state: State, transaction: Transaction) -> Result:
    """Break-glass by a clinician, recorded by the submitter's organisation alone: at most a day.

    Where that organisation has no key for it yet this makes one, which takes as many as any transaction.
    """
    args = _arguments(transaction, "emergency")
    org, access = transaction.org, args["access"]
    value = state.get(emergency_key(org))
    open_here = recorded(value)
    keys = [f"access/{access}", *(completed_key(one, org) for one in (access, *open_here))]
    used, again, *seen = state.get_many(keys)
    if access in open_here or used is not None or again is not None:
        raise _exists()
    left = [one for one, done in zip(open_here.values(), seen, strict=True) if done is None]
    if len(left) >= MOST_OPEN:
        raise Refused(
            "emergencies_not_completed", f"{MOST_OPEN} emergencies were not seen by the other organisations."
        )
    if value is None:
        if org not in organisations(state):
            raise Refused("not_an_organisation", "Your organisation is not registered on this ledger.")
        keep_for_own(state, org)
    entry = {**args, "at": transaction.time}
    state.put(emergency_key(org), canonical.dumps({"open": [*left, entry]}))
    payload = {"access": access, "kind": "emergency"}
    return Result(payload, ("Accessed", payload))


def complete_emergency(state: State, transaction: Transaction) -> Result:
    """As many organisations as for any transaction say that the submitter's recorded this emergency.

    `at` is when they saw it: when it was recorded is the block's word, not that organisation's.
    """
    access = fields(transaction.args, "arguments", access=is_hex)["access"]
    key = completed_key(access, transaction.org)
    value, done = state.get_many([emergency_key(transaction.org), key])
    if done is not None:
        raise _exists()
    entry = recorded(value).get(access)
    if entry is None:
        raise Refused("access_unknown", "Your organisation recorded no such emergency.")
    state.put(key, canonical.dumps({**_bound(entry), "at": transaction.time, "kind": "emergency"}))
    return Result({"access": access}, ("EmergencyCompleted", {"access": access}))


def subject_access(state: State, transaction: Transaction) -> Result:
    """The patient's own copy: at most thirty days."""
    args = _arguments(transaction, "subject")
    key = f"access/{args['access']}"
    if state.get(key) is not None:
        raise _exists()
    state.put(key, canonical.dumps({**_bound(args), "at": transaction.time, "kind": "subject"}))
    payload = {"access": args["access"], "kind": "subject"}
    return Result(payload, ("Accessed", payload))


def _arguments(transaction: Transaction, kind: str) -> Json:
    args = fields(transaction.args, "arguments", access=is_hex, digest=is_hex, expires=is_time)
    if not transaction.time < args["expires"] <= transaction.time + LONGEST[kind]:
        raise Refused(
            "access_expiry",
            f"An access of this kind ends within {LONGEST[kind] // HOUR} hours. Choose another end.",
        )
    return args


def _entry(value: object) -> Json:
    return fields(value, "entry", access=is_hex, at=is_time, digest=is_hex, expires=is_time)


def _bound(args: Json) -> Json:
    """What says which access it is, and until when."""
    return {"digest": args["digest"], "expires": args["expires"]}


def _exists() -> Refused:
    return Refused("access_exists", "An access with this id is on the ledger already. Use a new id.")

"""Checkpoint: the Merkle root of an audit log up to a size, so that it only grows and is never rewritten.

A log is named by its `origin` and belongs to the organisation that began it. Its newest checkpoint stands
under one key: whoever writes the next one has read it, so the ledger orders the two.
"""

from typing import Any

from ledger.contract import canonical
from ledger.contract.arguments import fields, is_count, is_hex, is_text
from ledger.contract.errors import Refused
from ledger.contract.merkle import MAX_PATH, is_consistent
from ledger.contract.state import Json, Result, State, Transaction


def checkpoint_key(origin: str) -> str:
    return f"checkpoint/{origin}"


def checkpoint(state: State, transaction: Transaction) -> Result:
    """Writes the log's root for a size that is larger than before, and extends what stood there before.

    `previous` is the size of the checkpoint that stands there (0: none does), and `proof` the consistency
    proof from it (RFC 9162 section 2.1.4), hashes in hex. The first checkpoint of a log has none.
    """
    args = fields(
        transaction.args,
        "arguments",
        origin=is_text,
        previous=is_count,
        proof=_is_path,
        root=is_hex,
        size=is_count,
    )
    key = checkpoint_key(args["origin"])
    found = state.get(key)
    before = None if found is None else canonical.load_canonical(found)
    if before is not None and before["org"] != transaction.org:
        raise Refused("log_of_another", "Another organisation began this log. Name yours otherwise.")
    if args["size"] <= (before["size"] if before else 0):
        raise Refused(
            "checkpoint_not_newer", "The log has a checkpoint of this size or a larger one already."
        )
    if args["previous"] != (before["size"] if before else 0):
        raise Refused("checkpoint_passed_over", "The log's newest checkpoint is another. Extend that one.")
    if not extends(before, args):
        raise Refused(
            "checkpoint_inconsistent",
            "The log does not begin with what its last checkpoint held: it was rewritten.",
        )
    value = {
        "at": transaction.time,
        "org": transaction.org,
        "previous": before and {"root": before["root"], "size": before["size"]},
        "root": args["root"],
        "size": args["size"],
    }
    state.put(key, canonical.dumps(value))
    payload = {name: args[name] for name in ("origin", "root", "size")}
    return Result(payload, ("Checkpointed", payload))


def extends(before: Json | None, args: Json) -> bool:
    """Whether a checkpoint's arguments prove that it begins with the one `before`; whoever checks a ledger
    again asks this too."""
    if before is None:
        return not args["proof"]
    return is_consistent(
        before["size"],
        args["size"],
        bytes.fromhex(before["root"]),
        bytes.fromhex(args["root"]),
        [bytes.fromhex(node) for node in args["proof"]],
    )


def _is_path(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_PATH and all(map(is_hex, value))

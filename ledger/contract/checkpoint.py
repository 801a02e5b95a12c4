"""Checkpoint: the Merkle root of an audit log up to a size, so that it cannot be rewritten."""

from ledger.contract import canonical
from ledger.contract.arguments import fields, is_count, is_hex, is_text
from ledger.contract.errors import Refused
from ledger.contract.state import Result, State, Transaction


def checkpoint(state: State, transaction: Transaction) -> Result:
    """Writes the root for a size that is larger than every size before. `origin` names the log."""
    args = fields(
        transaction.args,
        "arguments",
        size=lambda it: is_count(it) and it < 10**16,
        root=is_hex,
        origin=is_text,
    )
    key = f"checkpoint/{args['size']:016d}"
    if any(True for _ in state.range(key, "checkpoint0")):
        raise Refused(
            "checkpoint_not_newer", "The log has a checkpoint of this size or a larger one already."
        )
    value = {"at": transaction.time, "origin": args["origin"], "root": args["root"]}
    state.put(key, canonical.dumps(value))
    payload = {"root": args["root"], "size": args["size"]}
    return Result(payload, ("Checkpointed", payload))

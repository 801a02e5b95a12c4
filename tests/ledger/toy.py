"""A toy contract with the shape of the real one, for what only the machinery decides."""

import json
from typing import Any

from ledger.contract.errors import Refused
from ledger.contract.state import Endorsers, Result, State, Transaction


def _bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def run(state: State, tx: Transaction) -> Result:
    """Put a key (after reading it, or blindly), add one to a counter, count a range, guard a key, fail."""
    args = tx.args
    if tx.name == "RegisterOrganisation":
        if tx.role != "admin":
            raise Refused("role_not_allowed", "This identity may not do this.")
        state.put("organisations", _bytes([args["org"]]))
        return Result({}, ("OrganisationRegistered", {}))
    if tx.name in {"Put", "RevokeConsent"}:
        state.put(args["key"], args["value"].encode())
        unseen = state.get(args["key"])
        return Result({"before": None if unseen is None else unseen.decode()}, ("Put", {"key": args["key"]}))
    if tx.name == "Blind":
        state.put(args["key"], args["value"].encode())
        return Result({}, ("Blind", {}))
    if tx.name == "Add":
        value = int(state.get(args["key"]) or b"0") + 1
        state.put(args["key"], str(value).encode())
        return Result({"value": value})
    if tx.name == "Count":
        found = len(list(state.range(args["start"], args["end"])))
        state.put(args["to"], str(found).encode())
        return Result({"found": found})
    if tx.name == "Guard":
        state.put(args["key"], b"guarded")
        state.require(args["key"], Endorsers(1, tuple(args["orgs"])))
        return Result({})
    if tx.name == "Secret":
        state.put(args["key"], str(len(tx.transient["secret"])).encode())
        return Result({})
    if tx.name == "Broken":
        raise KeyError("inside the contract")
    raise Refused("unknown_transaction", "There is no such transaction.")

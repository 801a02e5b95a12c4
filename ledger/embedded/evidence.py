"""What a third party needs to see, offline, that a transaction stands in this ledger.

`ledger/verify.py` checks it with the ledger's public key alone; the two must agree on the form:
    {"envelope", "header": canonical JSON as text, "key", "kind": "embedded", "path": [hashes], "position",
     "signature", "validity"}
`path` is the RFC 9162 inclusion path of the transaction's leaf in the block's tree.
"""

from ledger.audit.merkle import inclusion_proof, leaf_hash, root_of
from ledger.contract.state import Json
from ledger.embedded.store import DUPLICATE_TXID, View
from ledger.errors import LedgerError


def evidence(view: View, tx_id: str, *, key: str) -> Json:
    """The evidence for one committed transaction; `key` is the ledger's own, in hex. Raises LedgerError."""
    outcome = view.outcome(tx_id)
    block = None if outcome is None else view.block(outcome.block)
    if block is None:
        raise LedgerError("The ledger does not have this transaction.", code="transaction_unknown")
    rows = view.transactions(block.number)
    at, envelope = next(
        (n, bytes(r[4])) for n, r in enumerate(rows) if r[1] == tx_id and r[2] != DUPLICATE_TXID
    )
    leaves = [leaf_hash(validity.encode() + b"\n" + bytes(data)) for _, _, validity, _, data in rows]
    path = inclusion_proof(
        at, len(leaves), lambda level, index: root_of(leaves[index << level : (index + 1) << level])
    )
    return {
        "envelope": envelope.decode(),
        "header": block.header.decode(),
        "key": key,
        "kind": "embedded",
        "path": [node.hex() for node in path],
        "position": at,
        "signature": block.signature.hex(),
        "validity": rows[at][2],
    }

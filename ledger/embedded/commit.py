"""How transactions become a block: judged one after another, as every Fabric peer would.

The running ledger and `fsck` use the same two functions, so what fsck derives is what was decided.
"""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client import ENDORSEMENT_POLICY_FAILURE, MVCC_READ_CONFLICT, VALID
from ledger.contract.state import Json
from ledger.embedded.blocks import (
    Block,
    Change,
    Endorsed,
    canonical,
    digest,
    next_state_root,
    range_digest,
    sign_header,
    transactions_root,
)
from ledger.embedded.store import DUPLICATE_TXID, View, Writing

PHANTOM_READ_CONFLICT = "PHANTOM_READ_CONFLICT"


def judge(view: View, transaction: Endorsed) -> str:
    """The transaction's validity on the state in `view`, in Fabric's words and order.

    1. it is the first of its id
    2. who endorsed it may write these keys
    3. every key it read still has the version it had
    4. every range it read still has the keys and versions it had
    """
    # 1
    if view.outcome(transaction.tx_id) is not None:
        return DUPLICATE_TXID
    # 2
    touched = sorted({*transaction.writes, *transaction.policies})
    for entry in view.entries(touched).values():
        if entry.policy and len(transaction.orgs & set(entry.policy.orgs)) < entry.policy.needed:
            return ENDORSEMENT_POLICY_FAILURE
    # 3
    found = view.entries(list(transaction.reads))
    for key, version in transaction.reads.items():
        if (found[key].version if key in found else None) != version:
            return MVCC_READ_CONFLICT
    # 4
    for start, end, seen in transaction.ranges:
        if range_digest([(key, entry.version) for key, entry in view.scan(start, end)]) != seen:
            return PHANTOM_READ_CONFLICT
    return VALID


def apply(writing: Writing, block: int, transactions: Sequence[Endorsed]) -> tuple[list[str], list[Change]]:
    """Judge and write the block's transactions in order; each sees what those before it wrote."""
    validities: list[str] = []
    changes: list[Change] = []
    for position, transaction in enumerate(transactions):
        validity = judge(writing, transaction)
        validities.append(validity)
        event = transaction.event[0] if transaction.event else None
        writing.write_transaction((block, position), transaction.tx_id, validity, event, transaction.data)
        if validity != VALID:
            continue
        for key in sorted({*transaction.writes, *transaction.policies}):
            value, policy = transaction.writes.get(key), transaction.policies.get(key)
            writing.write_state(key, value, policy, (block, position))
            changes.append((key, position, value, policy))
    return validities, changes


def add_block(
    writing: Writing,
    transactions: Sequence[Endorsed],
    *,
    time: int,
    key: Ed25519PrivateKey,
    config: Json | None = None,
) -> Block:
    """Write the next block: these transactions, and a new configuration if one is given."""
    tip = writing.tip()
    number = tip.number + 1
    validities, changes = apply(writing, number, transactions)
    new_config = None if config is None else canonical(config)
    header, signature = sign_header(
        {
            "config": tip.config if new_config is None else digest(new_config),
            "count": len(transactions),
            "number": number,
            "previous": tip.hash,
            "state": next_state_root(tip.state, changes),
            "time": time,
            "transactions": transactions_root(
                [(validity, tx.data) for validity, tx in zip(validities, transactions, strict=True)]
            ),
            "version": 1,
        },
        key,
    )
    block = Block(number, header, signature, new_config)
    writing.write_block(block)
    return block

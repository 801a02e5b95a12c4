"""Deriving the sealed log again from its rows: what was edited in the database is told by its place.

Rows are hashed batch by batch and held against the root that each batch was sealed with; the newest
checkpoint on the ledger holds the batches themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings

from ledger.audit import merkle
from ledger.audit.models import AuditBatch, AuditNode, AuditRow
from ledger.audit.proof import agrees
from ledger.audit.sealing import KEPT_LEVELS
from ledger.client import Ledger
from ledger.contract.canonical import load_canonical
from ledger.contract.checkpoint import checkpoint_key

PAGE = 5_000
MOST = 10  # rows behind the end that are told


class Nodes(dict[tuple[int, int], bytes]):
    """Whole subtrees by level and index, as a tree tells of them."""

    def keep(self, level: int, index: int, node: bytes) -> None:
        self[level, index] = node


@dataclass(frozen=True, order=True)
class Finding:
    """One place of one store that is not what another says. `code` is stable; neither names a person."""

    code: str
    place: str


def check_rows(*, after: int = 0, until: int | None = None) -> Iterator[Finding]:
    """What does not hold among the sealed rows from the batch that ends at `after` (or the beginning) on.

    rows_differ      a batch's rows do not lead to its root (a row was edited, removed or exchanged)
    columns_differ   what pages read of a row is not what its line says
    batch_differs    a batch's subtrees do not lead to its own root; what follows cannot be told
    node_differs     a kept subtree, which proofs are made of, is not that of its rows
    row_unsealed     a row has a place beyond the log's end
    """
    batches = AuditBatch.objects.order_by("size")
    begun = batches.filter(size=after).first()
    tree = merkle.CompactRange(after, _hashes(begun) if begun else [])
    end = batches.values_list("size", flat=True).last() or 0
    for batch in batches.filter(size__gt=after, **({} if until is None else {"size__lte": until})):
        if merkle.fold(_hashes(batch)).hex() != batch.root or len(batch.range) != batch.size.bit_count():
            yield Finding("batch_differs", f"batch {batch.size}")
            return
        start, nodes = tree.size, Nodes()
        tree = merkle.CompactRange(start, tree.hashes, visit=nodes.keep)
        yield from _take(tree, batch.size)
        if (tree.size, tree.root().hex()) == (batch.size, batch.root):
            yield from _differing_nodes(nodes)
        else:
            yield Finding("rows_differ", f"rows {start} to {batch.size - 1}")
            tree = merkle.CompactRange(batch.size, _hashes(batch))
    if until is None:
        yield from _beyond(end)


def check_checkpoint(ledger: Ledger) -> Iterator[Finding]:
    """Whether the log's newest checkpoint on the ledger is one of our batches. Raises LedgerError.

    checkpoint_differs   the ledger holds another root than the batch has, or a batch that is not there: the
                         log was rewritten, or an older database was put back
    checkpoint_missing   a batch is said to be anchored, and the ledger has no checkpoint of this log
    """
    (value,) = ledger.evaluate([checkpoint_key(settings.AUDIT_ORIGIN)])
    if value is None:
        if batch := AuditBatch.objects.filter(origin=settings.AUDIT_ORIGIN).order_by("size").last():
            yield Finding("checkpoint_missing", f"batch {batch.size}")
        return
    held = load_canonical(value)
    if not AuditBatch.objects.filter(size=held["size"], root=held["root"]).exists():
        yield Finding("checkpoint_differs", f"batch {held['size']}")


def _take(tree: merkle.CompactRange, end: int) -> Iterator[Finding]:
    """Append the rows up to `end`, as far as there is no gap."""
    while tree.size < end:
        rows = AuditRow.objects.filter(leaf__gte=tree.size, leaf__lt=min(end, tree.size + PAGE))
        page = list(rows.order_by("leaf"))
        whole = [row for place, row in enumerate(page, tree.size) if row.leaf == place]
        tree.extend([merkle.leaf_hash(bytes(row.line)) for row in whole])
        yield from (Finding("columns_differ", f"row {row.leaf}") for row in whole if not agrees(row))
        if not whole or len(whole) < len(page):
            return


def _beyond(end: int) -> Iterator[Finding]:
    """Rows numbered behind the last batch, but for those that were sealed meanwhile."""
    leaves = AuditRow.objects.filter(leaf__gte=end).order_by("leaf").values_list("leaf", flat=True)
    if found := list(leaves[:MOST]):
        end = AuditBatch.objects.order_by("size").values_list("size", flat=True).last() or 0
        yield from (
            Finding("row_unsealed", f"row {leaf}") for leaf in found if leaf is not None and leaf >= end
        )


def _differing_nodes(nodes: Nodes) -> Iterator[Finding]:
    derived = {place: node for place, node in nodes.items() if place[0] % KEPT_LEVELS == 0}
    for level in sorted({level for level, _ in derived}):
        places = [index for at, index in derived if at == level]
        found = AuditNode.objects.filter(level=level, index__gte=min(places), index__lte=max(places))
        kept = {index: bytes(node) for index, node in found.values_list("index", "hash")}
        for index in places:
            if kept.get(index) != derived[level, index]:
                yield Finding("node_differs", f"node {level}/{index}")


def _hashes(batch: AuditBatch) -> list[bytes]:
    return [bytes.fromhex(node) for node in batch.range]

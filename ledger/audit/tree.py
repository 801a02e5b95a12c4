"""The sealed log as a tree: the hash of any node, read from the database in tiles of 256."""

from collections import OrderedDict

from ledger.audit.merkle import leaf_hash
from ledger.audit.models import AuditNode, AuditRow
from ledger.contract.merkle import node_hash

TILE = 8  # levels
TILES_KEPT = 64


class TreeDamaged(RuntimeError):
    """The database lacks a sealed row or node that the log's size promises. `manage.py fsck` says where."""


class SealedTree:
    """Answers `nodes(level, index)` for whole subtrees of the sealed log; for merkle's proofs.

    A node at level 8k + r is made of 2^r hashes of level 8k: sealed rows for k = 0, AuditNode above.
    Keeps a bounded number of tiles, so that proofs over neighbouring leaves read each row once. `size` is
    the log's, where only proofs at that size are asked for: what lies beyond it is nobody's concern.
    """

    def __init__(self, size: int | None = None) -> None:
        self._size = size
        self._tiles: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()

    def __call__(self, level: int, index: int) -> bytes:
        base = level // TILE * TILE
        width = 1 << (level - base)
        first = index * width
        tile = self._tile(base, first >> TILE)
        hashes = tile[first % (1 << TILE) :][:width]
        if len(hashes) != width:
            raise TreeDamaged("The sealed log has a gap.")
        while len(hashes) > 1:
            hashes = [node_hash(*pair) for pair in zip(hashes[::2], hashes[1::2], strict=True)]
        return hashes[0]

    def _tile(self, base: int, number: int) -> list[bytes]:
        """The hashes of level `base` from 256·number on, up to 256 of them, without a gap."""
        if (tile := self._tiles.get((base, number))) is not None:
            self._tiles.move_to_end((base, number))
            return tile
        first = number << TILE
        if base == 0:
            rows = AuditRow.objects.filter(leaf__gte=first, leaf__lt=first + (1 << TILE)).order_by("leaf")
            pairs = [(leaf, leaf_hash(bytes(line))) for leaf, line in rows.values_list("leaf", "line")]
        else:
            found = AuditNode.objects.filter(level=base, index__gte=first, index__lt=first + (1 << TILE))
            pairs = [(i, bytes(h)) for i, h in found.order_by("index").values_list("index", "hash")]
        places = [place for place, _ in pairs]
        if places != list(range(first, first + len(places))):
            raise TreeDamaged("The sealed log has a gap.")
        tile = [hashed for _, hashed in pairs]
        is_whole = len(tile) == 1 << TILE
        is_enough = self._size is not None and first + len(tile) >= self._size >> base
        if is_whole or is_enough:  # a tile that still grows is read anew
            self._tiles[(base, number)] = tile
            if len(self._tiles) > TILES_KEPT:
                self._tiles.popitem(last=False)
        return tile

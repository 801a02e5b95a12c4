"""The Merkle tree of RFC 9162 section 2.1, and the proofs about it. Pure: bytes in, bytes out.

A *node* `(level, index)` is the perfect subtree over the leaves [index·2^level, (index+1)·2^level).
A tree of any size is a row of perfect subtrees, largest first (its *compact range*); its root folds
them from the right. Hashes are 32 raw bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256

from ledger.contract.merkle import is_consistent, node_hash

EMPTY_ROOT = sha256(b"").digest()

Nodes = Callable[[int, int], bytes]
"""Gives the hash of the node `(level, index)`."""

Runs = Iterable[tuple[int, int]]
"""Leaves that are shown: ascending, disjoint [first, end) with first < end."""


class ProofInvalid(ValueError):
    """The proof does not lead to the root."""


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def spans(first: int, end: int) -> Iterator[tuple[int, int]]:
    """The fewest nodes (level, index) that cover the leaves [first, end), left to right."""
    while first < end:
        level = (end - first).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        yield level, first >> level
        first += 1 << level


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root over the perfect subtrees of one tree, given left to right."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


class CompactRange:
    """A tree of which only the perfect subtrees' hashes are kept: appends in O(log n) time and space.

    `visit(level, index, hash)` is called for every node that becomes whole above the leaves.
    """

    def __init__(
        self,
        size: int = 0,
        hashes: Iterable[bytes] = (),
        visit: Callable[[int, int, bytes], None] | None = None,
    ) -> None:
        self.size = size
        self.hashes = list(hashes)
        self._visit = visit
        if len(self.hashes) != size.bit_count():
            raise ValueError("A compact range of this size has another number of hashes.")

    def append(self, leaf: bytes) -> None:
        """Append one leaf hash."""
        self.append_node(0, leaf)

    def append_node(self, level: int, node: bytes) -> None:
        """Append a whole subtree; the size must be a multiple of 2^level."""
        if self.size & ((1 << level) - 1):
            raise ValueError("A subtree is appended where it is not aligned.")
        self.size += 1 << level
        index = self.size >> level
        while not index & 1:
            node = node_hash(self.hashes.pop(), node)
            level, index = level + 1, index >> 1
            if self._visit:
                self._visit(level, index - 1, node)
        self.hashes.append(node)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append many leaf hashes; the same as appending each, and several times faster."""
        start = self.size
        for level, index in spans(start, start + len(leaves)):
            first = (index << level) - start
            self.append_node(level, self._subtree(leaves[first : first + (1 << level)], index, level))

    def _subtree(self, hashes: Sequence[bytes], index: int, level: int) -> bytes:
        """The root over 2^level leaf hashes, a whole row of nodes at a time."""
        first = index << level
        for height in range(1, level + 1):
            pairs = iter(hashes)
            hashes = [
                sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)
            ]
            first >>= 1
            if self._visit:
                for offset, node in enumerate(hashes):
                    self._visit(height, first + offset, node)
        return hashes[0]

    def root(self) -> bytes:
        return fold(self.hashes)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes."""
    tree = CompactRange()
    tree.extend(leaves)
    return tree.root()


def _root_between(first: int, end: int, nodes: Nodes) -> bytes:
    """MTH(D[first:end]) where `first` begins a subtree of the tree (RFC 9162 section 2.1.1)."""
    return fold([nodes(level, index) for level, index in spans(first, end)])


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (> 1)."""
    return 1 << ((size - 1).bit_length() - 1)


# Inclusion of one leaf (RFC 9162 section 2.1.3)


def inclusion_proof(leaf: int, size: int, nodes: Nodes) -> list[bytes]:
    """PATH(leaf, D_size), from the leaf's sibling upwards."""
    if not 0 <= leaf < size:
        raise ValueError("There is no such leaf in a tree of this size.")
    path: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if leaf < middle:
            path.append(_root_between(middle, end, nodes))
            end = middle
        else:
            path.append(_root_between(first, middle, nodes))
            first = middle
    return path[::-1]


def verify_inclusion(leaf: int, size: int, hashed: bytes, path: Sequence[bytes], root: bytes) -> None:
    """That the leaf hash `hashed` stands at `leaf` under `root` (section 2.1.3.2). Raises ProofInvalid."""
    if not 0 <= leaf < size:
        raise ProofInvalid("There is no such leaf in a tree of this size.")
    index, last = leaf, size - 1
    for sibling in path:
        if last == 0:
            raise ProofInvalid("The inclusion proof is too long.")
        if index & 1 or index == last:
            hashed = node_hash(sibling, hashed)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        index, last = index >> 1, last >> 1
    if last != 0 or hashed != root:
        raise ProofInvalid("The inclusion proof does not lead to the root.")


# Consistency of two sizes (RFC 9162 section 2.1.4)


def consistency_proof(old: int, new: int, nodes: Nodes) -> list[bytes]:
    """PROOF(old, D_new) for 0 < old <= new; empty where they are equal."""
    if not 0 < old <= new:
        raise ValueError("Consistency is shown from a size of at least one to one not smaller.")
    path: list[bytes] = []
    first, end, known = 0, new, True
    while old != end:
        middle = first + _split(end - first)
        if old <= middle:
            path.append(_root_between(middle, end, nodes))
            end = middle
        else:
            path.append(_root_between(first, middle, nodes))
            first, known = middle, False
    if not known:
        path.append(_root_between(first, end, nodes))
    return path[::-1]


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> None:
    """That the tree of size `old` is the beginning of that of size `new` (section 2.1.4.2).

    Raises ProofInvalid.
    """
    if not 0 < old <= new:
        raise ProofInvalid("These sizes cannot be consistent.")
    if old == new:
        if path or old_root != new_root:
            raise ProofInvalid("Two trees of one size have different roots.")
        return
    if not is_consistent(old, new, old_root, new_root, path):
        raise ProofInvalid("The consistency proof does not lead to both roots.")


# Many leaves at once: the subtrees that fill the gaps between those that are shown


def gaps(runs: Runs, size: int) -> Iterator[tuple[int, int]]:
    """The nodes of everything in a tree of `size` that `runs` leave out, left to right."""
    position = 0
    for first, end in runs:
        if not position <= first < end <= size:
            raise ValueError("The leaves shown are out of order or outside the tree.")
        yield from spans(position, first)
        position = end
    yield from spans(position, size)


def range_proof(runs: Runs, size: int, nodes: Nodes) -> Iterator[bytes]:
    """The hashes that, with the leaves of `runs`, make up the tree of `size`, left to right.

    For one run it has at most 2·log2(size) hashes. Filling gaps from left to right needs no more
    memory than a compact range, however many leaves are shown.
    """
    for level, index in gaps(runs, size):
        yield nodes(level, index)


def verify_range(runs: Runs, size: int, leaves: Iterable[bytes], proof: Iterable[bytes], root: bytes) -> None:
    """That the leaf hashes stand exactly at `runs`, in order, in the tree under `root`.

    Raises ProofInvalid: also for a leaf or a hash too many or too few.
    """
    shown, filling, tree = iter(leaves), iter(proof), CompactRange()
    try:
        for first, end in runs:
            if not tree.size <= first < end <= size:
                raise ProofInvalid("The leaves shown are out of order or outside the tree.")
            for level, _ in spans(tree.size, first):
                tree.append_node(level, next(filling))
            for _ in range(first, end):
                tree.append(next(shown))
        for level, _ in spans(tree.size, size):
            tree.append_node(level, next(filling))
    except StopIteration:
        raise ProofInvalid("The proof or the leaves end too early.") from None
    if next(shown, None) is not None or next(filling, None) is not None:
        raise ProofInvalid("There are more leaves or hashes than the proof needs.")
    if tree.root() != root:
        raise ProofInvalid("The leaves do not lead to the root.")

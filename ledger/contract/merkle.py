"""Whether one Merkle tree is the beginning of another (RFC 9162): what a checkpoint must show."""

from collections.abc import Sequence
from hashlib import sha256

# A tree of 2^53 leaves has no longer proof.
MAX_PATH = 64


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def is_consistent(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """That the tree of size `old` is the beginning of the larger one of size `new` (section 2.1.4.2).

    Roots and the hashes of `path` are 32 raw bytes. A proof that is too long or too short is none.
    """
    if not 0 < old < new or not path:
        return False
    hashes = list(path)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    index, last = old - 1, new - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    was = now = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if index & 1 or index == last:
            was, now = node_hash(sibling, was), node_hash(sibling, now)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            now = node_hash(now, sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and was == old_root and now == new_root

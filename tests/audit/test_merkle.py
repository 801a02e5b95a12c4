"""The Merkle tree against the published vectors and against a tree written straight from the RFC's words."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit import merkle

# The eight leaves and the roots that Certificate Transparency's own implementations test with.
LEAVES = [bytes.fromhex(x) for x in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162 section 2.1.1 over leaf hashes."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive(leaves[:k]) + naive(leaves[k:])).digest()


def hashes(size: int) -> list[bytes]:
    return [merkle.leaf_hash(b"%d" % n) for n in range(size)]


def nodes_of(leaves: Sequence[bytes]) -> merkle.Nodes:
    return lambda level, index: naive(leaves[index << level : (index + 1) << level])


@pytest.mark.parametrize("size", range(9))
def test_roots_of_the_known_vectors(size: int) -> None:
    leaves = [merkle.leaf_hash(data) for data in LEAVES[:size]]
    assert merkle.root_of(leaves).hex() == ROOTS[size]


@pytest.mark.parametrize(
    ("leaf", "size", "path"),
    [
        (0, 8, [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]),
        (5, 8, [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    ],
)  # fmt: skip
def test_inclusion_paths_of_the_known_vectors(leaf: int, size: int, path: list[str]) -> None:
    leaves = [merkle.leaf_hash(data) for data in LEAVES[:size]]
    proof = merkle.inclusion_proof(leaf, size, nodes_of(leaves))
    assert [node.hex() for node in proof] == path
    merkle.verify_inclusion(leaf, size, leaves[leaf], proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (1, 8, [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]),
        (6, 8, [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]),
    ],
)  # fmt: skip
def test_consistency_paths_of_the_known_vectors(old: int, new: int, path: list[str]) -> None:
    leaves = [merkle.leaf_hash(data) for data in LEAVES]
    proof = merkle.consistency_proof(old, new, nodes_of(leaves))
    assert [node.hex() for node in proof] == path
    merkle.verify_consistency(old, new, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]), proof)


@given(st.lists(st.integers(0, 40), max_size=8))
def test_appending_in_any_portions_gives_the_naive_root(portions: list[int]) -> None:
    leaves, seen = hashes(sum(portions)), {}
    tree = merkle.CompactRange(visit=lambda level, index, node: seen.update({(level, index): node}))
    start = 0
    for portion in portions:
        tree.extend(leaves[start : start + portion])
        start += portion
        assert tree.root() == naive(leaves[:start])
        assert merkle.CompactRange(tree.size, tree.hashes).root() == tree.root()
    whole = {(level, i) for level in range(1, 10) for i in range(start >> level)}
    assert set(seen) == whole
    assert all(node == nodes_of(leaves)(*place) for place, node in seen.items())


@given(st.integers(1, 70), st.data())
def test_inclusion(size: int, data: st.DataObject) -> None:
    leaf = data.draw(st.integers(0, size - 1))
    leaves = hashes(size)
    root = naive(leaves)
    proof = merkle.inclusion_proof(leaf, size, nodes_of(leaves))
    merkle.verify_inclusion(leaf, size, leaves[leaf], proof, root)
    for wrong in (leaf + 1, leaf - 1):
        with pytest.raises(merkle.ProofInvalid):
            merkle.verify_inclusion(wrong, size, leaves[leaf], proof, root)
    for changed in (
        [*proof, root],
        proof[:-1] if proof else [root],
        [merkle.EMPTY_ROOT, *proof[1:]] if proof else [root],
    ):
        with pytest.raises(merkle.ProofInvalid):
            merkle.verify_inclusion(leaf, size, leaves[leaf], changed, root)


@given(st.integers(1, 70), st.data())
def test_consistency(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    leaves = hashes(new)
    roots = naive(leaves[:old]), naive(leaves)
    proof = merkle.consistency_proof(old, new, nodes_of(leaves))
    merkle.verify_consistency(old, new, *roots, proof)
    rewritten = naive([merkle.leaf_hash(b"rewritten"), *leaves[1:old]])
    with pytest.raises(merkle.ProofInvalid):
        merkle.verify_consistency(old, new, rewritten, roots[1], proof)
    with pytest.raises(merkle.ProofInvalid):
        merkle.verify_consistency(old, new, *roots, [*proof, roots[0]])
    if proof:
        with pytest.raises(merkle.ProofInvalid):
            merkle.verify_consistency(old, new, *roots, proof[:-1])


@given(st.integers(0, 70), st.data())
def test_any_choice_of_leaves_is_proven(size: int, data: st.DataObject) -> None:
    marks = sorted(data.draw(st.sets(st.integers(0, size), max_size=8)))
    runs = list(zip(marks[::2], marks[1::2], strict=False))
    leaves = hashes(size)
    root = naive(leaves)
    shown = [leaves[n] for first, end in runs for n in range(first, end)]
    proof = list(merkle.range_proof(runs, size, nodes_of(leaves)))
    if len(runs) == 1:
        assert len(proof) <= 2 * size.bit_length()
    merkle.verify_range(runs, size, shown, proof, root)
    bad: list[tuple[list[bytes], list[bytes]]] = [([*shown, root], proof), (shown, [*proof, root])]
    if shown:
        bad += [(shown[:-1], proof), ([merkle.EMPTY_ROOT, *shown[1:]], proof)]
    if proof:
        bad += [(shown, proof[:-1]), (shown, [*proof[:-1], merkle.EMPTY_ROOT])]
    for wrong_shown, wrong_proof in bad:
        with pytest.raises(merkle.ProofInvalid):
            merkle.verify_range(runs, size, wrong_shown, wrong_proof, root)


def test_misplaced_input_is_refused() -> None:
    tree = merkle.CompactRange()
    tree.append(merkle.EMPTY_ROOT)
    with pytest.raises(ValueError, match="not aligned"):
        tree.append_node(1, merkle.EMPTY_ROOT)
    with pytest.raises(ValueError, match="number of hashes"):
        merkle.CompactRange(3, [merkle.EMPTY_ROOT])
    with pytest.raises(ValueError, match="out of order"):
        list(merkle.gaps([(3, 5), (4, 6)], 9))

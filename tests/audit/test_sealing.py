"""Sealing: nothing vanishes, nothing is sealed twice, and the tree is the one that the RFC describes."""

from collections.abc import Callable
from typing import Any

import pytest

from ledger.audit import merkle, sealing
from ledger.audit.models import AuditBatch, AuditNode, AuditRow
from ledger.audit.tree import SealedTree, TreeDamaged
from ledger.client import Event
from ledger.models import LedgerTransaction

pytestmark = pytest.mark.django_db


def lines() -> list[bytes]:
    return [bytes(line) for line in AuditRow.objects.order_by("leaf").values_list("line", flat=True)]


def bulk(count: int) -> None:
    """Rows without the ceremony, where only their number matters."""
    from django.utils import timezone

    AuditRow.objects.bulk_create(
        AuditRow(line=b'{"n":%d}' % n, kind="job.queued", recorded_at=timezone.now()) for n in range(count)
    )


def test_rows_are_numbered_hashed_and_sent_to_the_ledger(
    act: Callable[..., Any], relay: Callable[[], None], settings: Any
) -> None:
    act(3)
    first = sealing.seal()
    relay()
    act(2)
    second = sealing.seal()
    assert first
    assert second
    assert [row.leaf for row in AuditRow.objects.order_by("id")] == [0, 1, 2, 3, 4]
    leaves = [merkle.leaf_hash(line) for line in lines()]
    assert (first.size, first.root) == (3, merkle.root_of(leaves[:3]).hex())
    assert (second.size, second.root) == (5, merkle.root_of(leaves).hex())
    due = LedgerTransaction.objects.get(state="pending")
    assert (due.name, due.reference) == ("Checkpoint", f"checkpoint/{settings.AUDIT_ORIGIN}")
    proof = [bytes.fromhex(node) for node in due.args.pop("proof")]
    merkle.verify_consistency(3, 5, bytes.fromhex(first.root), bytes.fromhex(second.root), proof)
    assert due.args == {"origin": settings.CUSTODIAN, "previous": 3, "root": second.root, "size": 5}


def test_nothing_to_seal() -> None:
    assert sealing.seal() is None
    assert sealing.seal_all() == 0
    assert not LedgerTransaction.objects.exists()


def test_batches_are_bounded() -> None:
    bulk(25)
    assert sealing.seal(limit=10)
    assert AuditBatch.objects.get().size == 10
    assert sealing.seal_all() == 15
    assert (
        AuditBatch.objects.latest("size").root == merkle.root_of([merkle.leaf_hash(x) for x in lines()]).hex()
    )


def test_a_row_that_commits_late_is_sealed_next() -> None:
    """A transaction took its id early and commits after later ids were sealed."""
    bulk(3)
    early = AuditRow.objects.order_by("id").first()
    assert early
    line, late = bytes(early.line), early.pk
    early.delete()
    sealing.seal()
    AuditRow.objects.create(pk=late, line=line, kind=early.kind, recorded_at=early.recorded_at)
    sealing.seal()
    assert AuditRow.objects.get(pk=late).leaf == 2
    assert not AuditRow.objects.filter(leaf=None).exists()


def test_a_seal_that_fails_leaves_nothing_sealed(
    act: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    act(2)

    def fail(_: Any) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr(sealing.CompactRange, "root", fail)
    with pytest.raises(OSError, match="disk full"):
        sealing.seal()
    assert AuditRow.objects.filter(leaf=None).count() == 2
    assert not AuditBatch.objects.exists()
    assert not AuditNode.objects.exists()


def test_every_node_is_found_again() -> None:
    bulk(1500)
    for limit in (1, 254, 2, 700, 543):
        sealing.seal(limit=limit)
    leaves = [merkle.leaf_hash(line) for line in lines()]
    assert AuditNode.objects.count() == 1500 // 256
    nodes = SealedTree()
    for level, index in [(0, 0), (0, 1499), (3, 100), (7, 4), (8, 0), (8, 4), (9, 1), (10, 0)]:
        expected = merkle.root_of(leaves[index << level : (index + 1) << level])
        assert nodes(level, index) == expected
    with pytest.raises(TreeDamaged):
        nodes(8, 5)


def test_a_lost_row_is_noticed() -> None:
    bulk(20)
    sealing.seal()
    AuditRow.objects.filter(leaf=7).delete()
    with pytest.raises(TreeDamaged):
        SealedTree()(4, 0)


def test_a_checkpoint_on_the_ledger_anchors_its_batch(
    act: Callable[..., Any], relay: Callable[[], None]
) -> None:
    act(2)
    batch = sealing.seal()
    assert batch
    relay()
    batch.refresh_from_db()
    assert len(batch.tx_id) == 64
    assert batch.block is not None


def test_one_checkpoint_is_on_its_way_and_the_next_covers_what_came_meanwhile(
    act: Callable[..., Any], relay: Callable[[], None]
) -> None:
    for _ in range(3):
        act()
        sealing.seal()
    assert [row.args["size"] for row in LedgerTransaction.objects.all()] == [1]
    relay()
    sealing.seal()  # nothing new to seal
    relay()
    assert [row.args["size"] for row in LedgerTransaction.objects.order_by("pk")] == [1, 3]
    assert set(LedgerTransaction.objects.values_list("state", flat=True)) == {"committed"}
    assert [batch.origin != "" for batch in AuditBatch.objects.order_by("size")] == [True, False, True]
    assert sealing.anchor() is None


def test_a_log_that_was_rewritten_is_refused_by_the_ledger(
    act: Callable[..., Any], relay: Callable[[], None]
) -> None:
    """Rows, nodes and batches are all made anew: only what the ledger holds is left to tell."""
    act(3)
    sealing.seal()
    relay()
    AuditRow.objects.filter(leaf=1).update(line=b'{"rewritten":1}', leaf=None)
    AuditRow.objects.update(leaf=None)
    rewritten = merkle.CompactRange()
    for leaf, row in enumerate(AuditRow.objects.order_by("id")):
        AuditRow.objects.filter(pk=row.pk).update(leaf=leaf)
        rewritten.append(merkle.leaf_hash(bytes(row.line)))
    AuditBatch.objects.update(root=rewritten.root().hex(), range=[node.hex() for node in rewritten.hashes])
    act()
    sealing.seal()
    relay()
    newest = LedgerTransaction.objects.latest("pk")
    assert (newest.state, newest.error_code) == ("refused", "checkpoint_inconsistent")
    assert AuditBatch.objects.latest("size").origin == ""
    assert sealing.anchor() is None  # the same one is not tried for ever


def test_a_log_with_a_gap_is_sealed_and_not_anchored(
    act: Callable[..., Any], relay: Callable[[], None]
) -> None:
    act(3)
    sealing.seal()
    relay()
    AuditRow.objects.filter(leaf=1).delete()
    act(2)
    with pytest.raises(TreeDamaged):
        sealing.seal()
    assert AuditBatch.objects.latest("size").size == 5
    assert not LedgerTransaction.objects.filter(state="pending").exists()


def test_another_name_begins_a_new_log(
    act: Callable[..., Any], relay: Callable[[], None], settings: Any
) -> None:
    act(2)
    sealing.seal()
    relay()
    settings.AUDIT_ORIGIN = "Riverside, after the flood"
    sealing.seal()
    relay()
    newest = LedgerTransaction.objects.latest("pk")
    assert (newest.state, newest.args["previous"]) == ("committed", 0)
    assert AuditBatch.objects.get().origin == settings.AUDIT_ORIGIN


@pytest.mark.parametrize("payload", [{}, {"size": 1, "root": "00" * 32}, {"size": "1", "root": 5}])
def test_a_checkpoint_that_is_not_ours_anchors_nothing(
    act: Callable[..., Any], payload: dict[str, Any], caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    act()
    batch = sealing.seal()
    another = {"origin": "Lakeside", **payload}
    sealing.record_checkpointed(Event(1, 0, "ab" * 32, "Checkpointed", another))
    assert "audit_checkpoint_unknown" not in caplog.text
    ours = {"origin": settings.AUDIT_ORIGIN, **payload}
    sealing.record_checkpointed(Event(1, 0, "ab" * 32, "Checkpointed", ours))
    assert batch
    batch.refresh_from_db()
    assert (batch.tx_id, batch.block) == ("", None)
    assert "audit_checkpoint_unknown" in caplog.text

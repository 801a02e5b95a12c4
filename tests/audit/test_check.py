"""Deriving the sealed log again: what was edited is told by its place, and what holds is not."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import F

from gateway.analysis import runner
from ledger.audit import merkle, sealing
from ledger.audit.check import Finding, check_checkpoint, check_rows
from ledger.audit.incidents import open_incident, require_none_holds, settle_incident
from ledger.audit.log import Actor
from ledger.audit.models import AuditBatch, AuditNode, AuditRow, Incident
from ledger.client import Ledger
from ledger.errors import LedgerError

pytestmark = pytest.mark.django_db
BY = Actor.system("test")


@pytest.fixture
def log(act: Callable[..., Any], relay: Callable[[], None]) -> None:
    """Three batches: rows 0 to 3, 4 to 5, 6 to 8; the last one is anchored."""
    for count in (4, 2, 3):
        act(count)
        sealing.seal()
    relay()
    sealing.seal()
    relay()


def found(**options: Any) -> list[tuple[str, str]]:
    return [(one.code, one.place) for one in check_rows(**options)]


def test_a_log_that_holds(log: None, ledger: Ledger) -> None:
    assert found() == []
    assert found(after=4) == found(after=4, until=6) == []
    assert list(check_checkpoint(ledger)) == []


def test_one_flipped_bit_of_any_row_is_found_by_its_batch(log: None) -> None:
    for row in AuditRow.objects.order_by("leaf"):
        line = bytearray(row.line)
        line[row.pk % len(line)] ^= 1
        AuditRow.objects.filter(pk=row.pk).update(line=bytes(line))
        place = {0: "rows 0 to 3", 4: "rows 4 to 5", 6: "rows 6 to 8"}
        expected = place[max(first for first in place if first <= (row.leaf or 0))]
        assert ("rows_differ", expected) in found()
        AuditRow.objects.filter(pk=row.pk).update(line=row.line)
    assert found() == []


def test_a_row_that_is_gone_or_exchanged(log: None) -> None:
    AuditRow.objects.filter(leaf=4).delete()
    assert found() == [("rows_differ", "rows 4 to 5")]
    AuditRow.objects.filter(leaf=0).update(leaf=4)
    assert found() == [("rows_differ", "rows 0 to 3"), ("rows_differ", "rows 4 to 5")]


@pytest.mark.parametrize("change", [{"kind": "job.denied"}, {"subject": "ab" * 32}, {"step_of": "ab" * 32}])
def test_columns_that_say_something_else(log: None, change: dict[str, str]) -> None:
    AuditRow.objects.filter(leaf=5).update(**change)
    assert found() == [("columns_differ", "row 5")]
    assert found(until=4) == []


def test_columns_with_another_time(log: None) -> None:
    from datetime import timedelta

    AuditRow.objects.filter(leaf=5).update(recorded_at=F("recorded_at") - timedelta(days=1))
    assert found() == [("columns_differ", "row 5")]


def test_a_batch_that_was_edited(log: None) -> None:
    AuditBatch.objects.filter(size=6).update(root="ab" * 32)
    assert found() == [("batch_differs", "batch 6")]


def test_a_row_behind_the_end(log: None) -> None:
    row = AuditRow.objects.get(leaf=8)
    AuditRow.objects.create(line=row.line, kind=row.kind, recorded_at=row.recorded_at, leaf=20)
    assert found() == [("row_unsealed", "row 20")]


def test_a_node_that_proofs_are_made_of(db: None) -> None:
    from tests.audit.test_sealing import bulk

    bulk(600)
    for limit in (300, 300):
        sealing.seal(limit=limit)
    plain = [one for one in check_rows() if one.code != "columns_differ"]  # bulk's lines are no real ones
    assert plain == []
    AuditNode.objects.filter(level=8, index=1).update(hash=bytes(32))
    assert Finding("node_differs", "node 8/1") in list(check_rows())


def test_a_log_that_was_rewritten_in_whole_is_not_the_one_on_the_ledger(log: None, ledger: Ledger) -> None:
    AuditRow.objects.filter(leaf=0).update(line=AuditRow.objects.get(leaf=1).line)
    tree = merkle.CompactRange()
    for batch in AuditBatch.objects.order_by("size"):
        for row in AuditRow.objects.filter(leaf__gte=tree.size, leaf__lt=batch.size).order_by("leaf"):
            tree.append(merkle.leaf_hash(bytes(row.line)))
        AuditBatch.objects.filter(pk=batch.pk).update(
            root=tree.root().hex(), range=[node.hex() for node in tree.hashes]
        )
    assert found() == []
    assert [one.code for one in check_checkpoint(ledger)] == ["checkpoint_differs"]


def test_an_older_database_that_was_put_back(log: None, ledger: Ledger) -> None:
    AuditBatch.objects.filter(size=9).delete()
    AuditRow.objects.filter(leaf__gte=6).delete()
    assert found() == []
    assert list(check_checkpoint(ledger)) == [Finding("checkpoint_differs", "batch 9")]


def test_an_incident_that_holds_stops_releases_until_it_is_settled(
    db: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert runner.require_none_holds is require_none_holds
    incident = open_incident(code="state_differs", place="consent " + "ab" * 32, by=BY, holds=True)
    assert open_incident(code="state_differs", place="consent " + "ab" * 32, by=BY, holds=True) == incident
    with pytest.raises(LedgerError, match="do not agree") as caught:
        require_none_holds()
    assert caught.value.code == "releases_held"
    settle_incident(incident=incident, by=BY)
    settle_incident(incident=incident, by=BY)
    require_none_holds()
    kinds = list(AuditRow.objects.order_by("id").values_list("kind", flat=True))
    assert kinds == ["incident.opened", "incident.settled"]
    assert "ab" * 32 not in caplog.text
    assert open_incident(code="state_differs", place=incident.place, by=BY, holds=True) != incident
    assert Incident.objects.filter(settled_at=None).count() == 1

"""The log of openings, verified from its file alone."""

import hashlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.keyholder import log
from ledger.channels import HOME
from ledger.client import Trust
from ledger.embedded.trust import EmbeddedTrust
from ledger.errors import EnvelopeError, InvalidInput, ProofError
from tests.keyholder.house import House, new_id


@pytest.fixture
def opened(house: House) -> House:
    """Five openings: two subjects from one reading, one again from another, a result."""
    subjects = {new_id(): house.patient() for _ in range(2)}
    for patient in subjects.values():
        house.grant(patient)
    child, _ = house.release(subjects)
    for subject in subjects:
        house.open(child, subject, limit=1)
    house.later()
    house.open(child, subject)
    digest, sealed = house.seal_output(child, subject)
    house.deliver(child, subject, digest)
    house.service.open_output(job=child.job, digest=digest, sealed=sealed)
    return house


def entries(house: House, trust: Trust | None = None) -> list[dict[str, Any]]:
    return list(log.check_log(house.home / "keyholder", {HOME: trust or house.trust}))


def verify(house: House) -> int:
    return log.main([str(house.home / "keyholder"), "--ledger", f"embedded://{house.home / 'ledger'}"])


def test_every_row_is_verified_and_a_shared_proof_is_kept_once(
    opened: House, capsys: pytest.CaptureFixture[str]
) -> None:
    found = entries(opened)
    assert [entry["ground"] for entry in found] == ["release"] * 3 + ["output"]
    assert found[0]["proof"] == found[1]["proof"] != found[2]["proof"]
    with opened.store.transaction() as db:
        assert db.execute("SELECT COUNT(*) FROM proofs").fetchone() == (3,)
    assert verify(opened) == 0
    assert capsys.readouterr().out == "4 openings verified.\n"


def changed_line(db: Any) -> None:
    db.execute("UPDATE openings SET line = CAST(replace(line, 'release', 'subject') AS BLOB) WHERE id = 2")


def removed_row(db: Any) -> None:
    db.execute("DELETE FROM openings WHERE id = 2")


def removed_row_renumbered(db: Any) -> None:
    db.execute("DELETE FROM openings WHERE id = 2")
    db.execute("UPDATE openings SET id = id - 1 WHERE id > 2")


def rehashed(db: Any, change: dict[str, Any]) -> None:
    """A row that fits itself, so that only what comes after, or its proof, can tell."""
    (line,) = db.execute("SELECT line FROM openings WHERE id = 2").fetchone()
    line = orjson.dumps({**orjson.loads(line), **change}, option=orjson.OPT_SORT_KEYS)
    db.execute("UPDATE openings SET line = ?, digest = ? WHERE id = 2", (line, hashlib.sha256(line).digest()))


def removed_proof(db: Any) -> None:
    db.execute("PRAGMA defer_foreign_keys = ON")
    db.execute("UPDATE proofs SET digest = ? WHERE rowid = 1", (new_id(),))
    db.execute("UPDATE openings SET proof = (SELECT digest FROM proofs WHERE rowid = 1) WHERE id < 3")


def changed_proof(db: Any) -> None:
    db.execute("UPDATE proofs SET proof = zeroblob(100) WHERE rowid = 1")


@pytest.mark.parametrize(
    ("change", "row"),
    [
        (changed_line, 2),
        (removed_row, 2),
        (removed_row_renumbered, 2),
        (lambda db: rehashed(db, {"at": 0}), 3),
        (lambda db: rehashed(db, {"consents": [new_id()]}), 2),
        (lambda db: rehashed(db, {"reference": new_id()}), 2),
        (removed_proof, 1),
        (changed_proof, 1),
    ],
)
def test_what_was_changed_is_found(
    opened: House, capsys: pytest.CaptureFixture[str], change: Callable[[Any], None], row: int
) -> None:
    with opened.store.transaction() as db:
        change(db)
    with pytest.raises(EnvelopeError) as found:
        entries(opened)
    assert found.value.code == "log_tampered"
    assert found.value.message.startswith(f"Row {row} ")
    assert verify(opened) == 1
    assert "log_tampered" in capsys.readouterr().err


def test_a_proof_of_another_ledger_is_refused(opened: House) -> None:
    with pytest.raises(ProofError):
        entries(opened, EmbeddedTrust("00" * 32))


def test_no_store_is_no_verified_log(house: House) -> None:
    empty = house.home / "empty"
    empty.mkdir()
    assert log.main([str(empty), "--ledger", f"embedded://{house.home / 'ledger'}"]) == 1


def test_what_was_opened_for_a_subject_is_found_by_an_index(opened: House) -> None:
    from gateway.keyholder import pages

    (first, *_) = [entry for entry in entries(opened) if entry["ground"] == "release"]
    (subject,) = first["subjects"]
    found = opened.service.openings_of(places=[(first["reference"], subject)])
    assert found
    assert {(one["reference"], one["subject"]) for one in found} == {(first["reference"], subject)}
    assert found[0]["opened"] == list(first["opened"])
    assert opened.service.openings_of(places=[(first["reference"], None), (new_id(), subject)]) == []
    with pytest.raises(InvalidInput):
        opened.service.openings_of(places=[(new_id(), None)] * (pages.MOST_PLACES + 1))
    with opened.store.transaction() as db:
        plan = str(db.execute(f"EXPLAIN QUERY PLAN {pages._OF_PLACE}", ("a", None)).fetchall())
        assert "USING INDEX openings_of" in plan
        db.execute("DROP INDEX openings_of")
    opened.store.close()
    opened.start_keyholder()  # a store of before: it gets its index
    assert len(opened.service.openings_of(places=[(first["reference"], subject)])) == len(found)


def test_a_row_that_was_changed_is_not_told(opened: House) -> None:
    (entry, *_) = entries(opened)
    with opened.store.transaction() as db:
        db.execute(
            "UPDATE openings SET line = CAST(replace(line, '\"part\":0', '\"part\":1') AS BLOB) WHERE id = 1"
        )
    with pytest.raises(EnvelopeError) as refusal:
        opened.service.openings_of(places=[(entry["reference"], entry["subjects"][0])])
    assert refusal.value.code == "log_tampered"

# ruff: noqa: E501 (a table of statements reads best one a line)
"""manage.py fsck: a ledger is good, or the first bad block is named."""

import json
import sqlite3
from collections.abc import Callable
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from ledger.embedded.fsck import check
from ledger.errors import LedgerError
from tests.ledger.conftest import Toy, commit, put, submit


@pytest.fixture
def written(toy: Toy) -> Path:
    """Six blocks with every kind of verdict, a policy, a range and an event; the process has ended."""
    ledger = toy.connect()
    put(ledger, "a", "1")  # block 1
    submit(ledger, "Guard", {"key": "g", "orgs": ["Elsewhere"]})  # 2
    stale = ledger.prepare("Put", {"key": "a", "value": "3"})
    put(ledger, "a", "2")  # 3
    assert commit(ledger, stale).validity == "MVCC_READ_CONFLICT"  # 4
    assert put(ledger, "g", "x").validity == "ENDORSEMENT_POLICY_FAILURE"  # 5
    submit(ledger, "Count", {"start": "a", "end": "z", "to": "n"})  # 6
    ledger.close()
    toy.process.close()
    return toy.folder


def edit(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "ledger.sqlite3") as sql:
        for statement in statements:
            assert sql.execute(statement).rowcount != 0, statement
    sql.close()


def test_a_ledger_is_good(written: Path) -> None:
    report = check(written)
    assert (report.good, report.blocks, report.transactions, report.keys) == (True, 7, 7, 4)
    assert (report.block, report.problem) == (None, None)


def test_a_checkpoint_that_proves_nothing(toy: Toy) -> None:
    """Whoever holds the ledger's key may endorse with another contract; the proof is missing all the same."""
    ledger = toy.connect()
    put(ledger, "a", "1")
    put(ledger, "checkpoint/riverside", "2")
    report = check(toy.folder)
    assert (report.good, report.block) == (False, 2)
    assert "does not extend the one before" in str(report.problem)


def test_it_is_checked_while_the_process_runs(toy: Toy) -> None:
    ledger = toy.connect()
    put(ledger, "a", "1")
    assert check(toy.folder).blocks == 2
    put(ledger, "a", "2")
    assert check(toy.folder).blocks == 3


FLIP = "CAST(substr({0}, 1, length({0}) - 9) || char(unicode(substr({0}, -9, 1)) + 1) || substr({0}, -8) AS BLOB)"

EDITS = [
    ("blocks.number", "UPDATE blocks SET number = 9 WHERE number = 6", 6),
    ("blocks.header", f"UPDATE blocks SET header = {FLIP.format('header')} WHERE number = 3", 3),
    ("blocks.header time", "UPDATE blocks SET header = CAST(replace(header, '\"time\":18', '\"time\":17') AS BLOB) WHERE number = 2", 2),
    ("blocks.header type", "UPDATE blocks SET header = 7 WHERE number = 3", 3),
    ("blocks.signature", "UPDATE blocks SET signature = zeroblob(64) WHERE number = 4", 4),
    ("blocks.signature of another", "UPDATE blocks SET signature = (SELECT signature FROM blocks WHERE number = 2) WHERE number = 4", 4),
    ("blocks.config", f"UPDATE blocks SET config = {FLIP.format('config')} WHERE number = 0", 0),
    ("blocks.config added", "UPDATE blocks SET config = (SELECT config FROM blocks WHERE number = 0) WHERE number = 2", 2),
    ("blocks.config removed", "UPDATE blocks SET config = NULL WHERE number = 0", 0),
    ("a block deleted", "DELETE FROM blocks WHERE number = 3", 3),
    ("two blocks exchanged", "UPDATE blocks SET (header, signature) = (SELECT header, signature FROM blocks AS other WHERE other.number = 5 - blocks.number) WHERE number IN (2, 3)", 2),
    ("transactions.block", "UPDATE transactions SET block = 5, position = 1 WHERE block = 2", 2),
    ("transactions.position", "UPDATE transactions SET position = 1 WHERE block = 2", 2),
    ("transactions.tx_id", "UPDATE transactions SET tx_id = 'f' || substr(tx_id, 2) || 'x' WHERE block = 1", 1),
    ("transactions.validity to invalid", "UPDATE transactions SET validity = 'MVCC_READ_CONFLICT' WHERE block = 3", 3),
    ("transactions.validity to valid", "UPDATE transactions SET validity = 'VALID' WHERE block = 4", 4),
    ("transactions.event", "UPDATE transactions SET event = 'Other' WHERE block = 1", 1),
    ("transactions.event removed", "UPDATE transactions SET event = NULL WHERE block = 1", 1),
    ("transactions.envelope", f"UPDATE transactions SET envelope = {FLIP.format('envelope')} WHERE block = 5", 5),
    ("transactions.envelope type", "UPDATE transactions SET envelope = CAST(envelope AS TEXT) WHERE block = 5", 5),
    ("a transaction deleted", "DELETE FROM transactions WHERE block = 6", 6),
    ("a transaction of no block", "INSERT INTO transactions SELECT 99, 0, 'x', validity, event, envelope FROM transactions WHERE block = 1", None),
    ("state.key", "UPDATE state SET key = 'b' WHERE key = 'a'", 3),
    ("state.value", "UPDATE state SET value = CAST('9' AS BLOB) WHERE key = 'a'", 3),
    ("state.block", "UPDATE state SET block = 1 WHERE key = 'a'", 3),
    ("state.position", "UPDATE state SET position = 1 WHERE key = 'a'", 3),
    ("state.policy", "UPDATE state SET policy = NULL WHERE key = 'g'", 2),
    ("a key deleted", "DELETE FROM state WHERE key = 'n'", 6),
    ("a key added", "INSERT INTO state VALUES ('z', x'00', 6, 0, NULL)", 6),
    ("a table added", "CREATE TABLE other (x)", None),
    ("a trigger added", "CREATE TRIGGER t AFTER INSERT ON state BEGIN DELETE FROM state; END", None),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "block"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_an_edit_is_found_and_the_first_bad_block_named(
    written: Path, statement: str, block: int | None
) -> None:
    edit(written, statement)
    report = check(written)
    assert not report.good
    assert report.problem
    if block is not None:
        assert report.block == block


def test_a_flipped_bit_anywhere_in_the_file_is_found_or_touches_nothing(written: Path) -> None:
    """One bit in every 97th byte. Where it is not found, it lies in space that no row uses."""
    path = written / "ledger.sqlite3"
    good = path.read_bytes()
    rows = dump(path)
    found = 0
    for at in range(100, len(good), 397):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        try:
            report_good = check(written).good
        except LedgerError:
            report_good = False
        if report_good:
            assert dump(path) == rows
        else:
            found += 1
    path.write_bytes(good)
    assert found > 10


def dump(path: Path) -> list[Any]:
    with sqlite3.connect(path) as sql:
        rows = [
            sql.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for table in ("blocks", "transactions", "state")
        ]
    sql.close()
    return rows


def test_another_ledgers_key_does_not_fit(written: Path) -> None:
    (written / "ledger.pub").write_text("11" * 32)
    report = check(written)
    assert (report.block, report.problem) == (0, "the signature does not hold")


def test_one_who_holds_the_key_still_cannot_change_a_verdict(written: Path) -> None:
    """Signed anew from the forged block on, the transactions themselves give it away."""
    from ledger.embedded.blocks import parse, sign_header, transactions_root
    from ledger.embedded.folder import read_key

    key = read_key(written / "ledger.key")
    with sqlite3.connect(written / "ledger.sqlite3") as sql:
        sql.execute("UPDATE transactions SET validity = 'VALID' WHERE block = 5")
        previous = None
        for number, header in sql.execute("SELECT number, header FROM blocks WHERE number >= 5").fetchall():
            value = parse(header)
            rows = sql.execute(
                "SELECT validity, envelope FROM transactions WHERE block = ?", (number,)
            ).fetchall()
            value["transactions"] = transactions_root(rows)
            value["previous"] = previous or value["previous"]
            data, signature = sign_header(value, key)
            previous = sha256(data).hexdigest()
            sql.execute(
                "UPDATE blocks SET header = ?, signature = ? WHERE number = ?", (data, signature, number)
            )
    sql.close()
    report = check(written)
    assert report.block == 5
    assert "event" in str(report.problem) or "should be ENDORSEMENT_POLICY_FAILURE" in str(report.problem)


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def fsck() -> Run:
    def run(*arguments: str) -> tuple[int, str]:
        out = StringIO()
        try:
            call_command("fsck", *arguments, stdout=out, stderr=out)
        except SystemExit as end:
            return int(end.code or 0), out.getvalue()
        return 0, out.getvalue()

    return run


def test_the_command_says_good(written: Path, fsck: Run) -> None:
    assert fsck(str(written)) == (0, "good: 7 blocks, 7 transactions, 4 keys\n")


def test_the_command_names_the_bad_block(written: Path, fsck: Run) -> None:
    edit(written, "UPDATE blocks SET signature = zeroblob(64) WHERE number = 4")
    assert fsck(str(written)) == (1, "bad: block 4: the signature does not hold\n")
    status, text = fsck(str(written), "--json")
    assert status == 1
    assert json.loads(text)["block"] == 4


def test_the_command_says_when_there_is_no_ledger(tmp_path: Path, fsck: Run) -> None:
    status, text = fsck(str(tmp_path))
    assert status == 2
    assert "ledger_no_key" in text


def test_the_command_takes_the_configured_ledger(written: Path, fsck: Run, settings: Any) -> None:
    settings.LEDGER_URL = f"embedded://{written}"
    assert fsck()[0] == 0

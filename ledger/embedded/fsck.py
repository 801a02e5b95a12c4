"""Checks a ledger's file from its first block on, trusting nothing in it but `ledger.pub`.

Everything is derived again in a scratch database: hashes, Merkle roots, signatures, every verdict,
the state and its roots. Reads one snapshot, so the ledger's process may go on meanwhile.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from urllib.parse import quote

from ledger.client import VALID
from ledger.contract.state import Json
from ledger.embedded.blocks import (
    BLOCK,
    ORG,
    ZERO,
    Block,
    Endorsed,
    digest,
    next_state_root,
    open_envelope,
    parse,
    transactions_root,
    verifies,
)
from ledger.embedded.commit import apply
from ledger.embedded.folder import read_public_key
from ledger.embedded.store import TABLES, Row, View, Writing, trouble
from ledger.errors import GatewayError, LedgerError
from ledger.fsck import CHECKPOINTS, Progress, Report, log_grew

HEADER = {"config", "count", "number", "previous", "state", "time", "transactions", "version"}
STATE = "SELECT key, value, block, position, policy FROM state ORDER BY key"


class _BadError(Exception):
    def __init__(self, problem: str, block: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.block = block


def check(folder: str | Path, *, progress: Progress | None = None) -> Report:
    """The report on `<folder>/ledger.sqlite3`. Raises LedgerError when there is nothing to check.

    `progress(done, total)` is called after each block. For each block, in order:

    1. its number follows, its header is canonical JSON of the known form
    2. the ledger's key signed the header
    3. the header holds the hash of the block before
    4. the configuration in force is the one whose digest the header holds, and names the ledger's key
    5. its transactions are all there and lead to its Merkle root
    6. each is endorsed by the ledger's key, signed by its submitter, and stored under its own id
    7. judged again on the state before it, each has the verdict that stands in the file
    8. the writes of the valid ones lead to the header's state root
    9. a valid checkpoint of an audit log proves that it extends the one before

    At last the file holds nothing else, and its state is exactly the one that was derived.
    """
    folder = Path(folder)
    key = read_public_key(folder)
    path = folder / "ledger.sqlite3"
    if not path.is_file():
        raise LedgerError("There is no ledger in this folder.", code="ledger_empty")
    with _reading(path) as sql, _scratch() as scratch:
        return _Check(sql, scratch, key, progress or (lambda done, total: None)).run()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        sql = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=10)
    except sqlite3.Error as error:
        raise trouble(error) from None
    with contextlib.closing(sql):
        yield sql


@contextlib.contextmanager
def _scratch() -> Iterator[sqlite3.Connection]:
    """A private database that spills to a temporary file which nobody else sees."""
    with contextlib.closing(sqlite3.connect("", isolation_level=None)) as sql:
        sql.execute("BEGIN")
        for statement in TABLES.values():
            sql.execute(statement)
        yield sql


class _Check:
    def __init__(
        self,
        sql: sqlite3.Connection,
        scratch: sqlite3.Connection,
        key: str,
        progress: Progress,
    ) -> None:
        self._sql, self._scratch = sql, scratch
        self._key = key
        self._progress = progress
        self._blocks = self._transactions = 0
        self._previous, self._state = ZERO, ZERO
        self._config: Json = {}
        self._config_digest: str | None = None

    def run(self) -> Report:
        try:
            self._whole_file()
            (total,) = self._sql.execute("SELECT count(*) FROM blocks").fetchone()
            view = View(self._sql)
            for block in view.blocks():
                self._try(block, view)
                self._blocks += 1
                self._progress(self._blocks, total)
            self._nothing_else()
            keys = self._same_state()
        except _BadError as bad:
            return self._report(False, 0, bad.block, bad.problem)
        except sqlite3.Error as error:
            if trouble(error).code == "ledger_no_access":
                raise trouble(error) from None
            return self._report(False, 0, None, "the database file is damaged")
        return self._report(True, keys, None, None)

    def _report(self, good: bool, keys: int, block: int | None, problem: str | None) -> Report:
        return Report(good, self._blocks, self._transactions, keys, block, problem)

    def _whole_file(self) -> None:
        self._sql.execute("BEGIN")
        found = self._sql.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        if dict(found) != TABLES or len(found) != len(TABLES):
            raise _BadError("the file's tables are not those of a ledger")
        if self._sql.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise _BadError("the database file is damaged")

    def _try(self, block: Block, view: View) -> None:
        try:
            self._block(block, view)
        except _BadError as bad:
            raise _BadError(bad.problem, self._blocks) from None
        except (GatewayError, KeyError, TypeError, ValueError, AttributeError):
            raise _BadError("the block is malformed", self._blocks) from None
        except sqlite3.Error:
            raise _BadError("the block cannot be read", self._blocks) from None

    def _block(self, block: Block, view: View) -> None:
        header = self._header(block)
        self._configuration(block, header)
        rows = view.transactions(block.number)
        transactions = self._signed(rows, header)
        self._judged(block.number, rows, transactions, header)
        self._previous = block.hash
        self._transactions += len(rows)

    def _header(self, block: Block) -> Json:
        # 1
        if block.number != self._blocks:
            raise _BadError("the block is missing")
        header = parse(block.header)
        if set(header) != HEADER or header["version"] != 1 or type(header["time"]) is not int:
            raise _BadError("the header is not of the known form")
        if header["number"] != block.number:
            raise _BadError("the header has another number")
        # 2
        if not verifies(self._key, block.signature.hex(), BLOCK + block.header):
            raise _BadError("the signature does not hold")
        # 3
        if header["previous"] != self._previous:
            raise _BadError("it does not follow from the block before")
        return header

    def _configuration(self, block: Block, header: Json) -> None:
        # 4
        if block.config is not None:
            if digest(block.config) == self._config_digest:
                raise _BadError("the configuration stands here although it did not change")
            self._config, self._config_digest = parse(block.config), digest(block.config)
            if (self._config["org"], self._config["ledger"]) != (ORG, self._key):
                raise _BadError("the configuration names another ledger")
        if self._config_digest is None or header["config"] != self._config_digest:
            raise _BadError("the configuration is not the one in the header")

    def _signed(self, rows: Sequence[Row], header: Json) -> list[Endorsed]:
        # 5
        if [row[0] for row in rows] != list(range(header["count"])):
            raise _BadError("transactions are missing or added")
        if transactions_root([(row[2], row[4]) for row in rows]) != header["transactions"]:
            raise _BadError("the transactions do not lead to the Merkle root")
        # 6
        transactions = []
        for position, tx_id, validity, event, envelope in rows:
            try:
                transaction = open_envelope(envelope, self._config)
            except GatewayError:
                raise _BadError(f"transaction {position}: a signature does not hold") from None
            if transaction.tx_id != tx_id:
                raise _BadError(f"transaction {position} is stored under another id")
            named = transaction.event[0] if transaction.event and validity == VALID else None
            if event != named:
                raise _BadError(f"transaction {position} is stored with another event")
            transactions.append(replace(transaction, data=b""))  # the scratch needs no copy
        return transactions

    def _judged(
        self, number: int, rows: Sequence[Row], transactions: Sequence[Endorsed], header: Json
    ) -> None:
        checkpoints = self._checkpoints(rows, transactions)
        # 7
        verdicts, changes = apply(Writing(self._scratch), number, transactions)
        for row, verdict in zip(rows, verdicts, strict=True):
            if row[2] != verdict:
                raise _BadError(f"transaction {row[0]} should be {verdict}")
        # 8
        self._state = next_state_root(self._state, changes)
        if header["state"] != self._state:
            raise _BadError("the writes do not lead to the state root")
        # 9
        for position, holds in checkpoints:
            if verdicts[position] == VALID and not holds:
                raise _BadError(f"transaction {position}: the checkpoint does not extend the one before")

    def _checkpoints(self, rows: Sequence[Row], transactions: Sequence[Endorsed]) -> list[tuple[int, bool]]:
        """For each write of a checkpoint, its transaction's position, and whether it extends what stood there
        before the block: no valid one was written in between, or it would have read another version."""
        found = []
        for row, transaction in zip(rows, transactions, strict=True):
            for key in [key for key in transaction.writes if key.startswith(CHECKPOINTS)]:
                proposal = parse(row[4])["body"]["proposal"]
                entry = View(self._scratch).entries([key]).get(key)
                holds = proposal["name"] == "Checkpoint" and log_grew(
                    key, proposal["args"], entry.value if entry else None, transaction.writes[key]
                )
                found.append((row[0], holds))
        return found

    def _nothing_else(self) -> None:
        if self._blocks == 0:
            raise _BadError("there is no first block")
        (count,) = self._sql.execute("SELECT count(*) FROM transactions").fetchone()
        if count != self._transactions:
            raise _BadError("there are transactions that belong to no block")

    def _same_state(self) -> int:
        """Compare the two states key by key, and count the keys."""
        keys = 0
        for found, derived in zip_longest(self._sql.execute(STATE), self._scratch.execute(STATE)):
            if found != derived:
                at = next((row[2] for row in (derived, found) if row and isinstance(row[2], int)), None)
                raise _BadError("the state is not the one that the blocks lead to", at)
            keys += 1
        return keys

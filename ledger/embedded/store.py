"""The embedded ledger's SQLite file: blocks, their transactions, and the state they lead to.

One connection writes, in one transaction for each block (WAL, synchronous=FULL: what is committed
survives a power cut); readers see whole blocks only. `fsck` opens the same file read-only.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import orjson

from ledger.client import VALID, Event, Outcome
from ledger.contract.state import Endorsers, Json
from ledger.embedded.blocks import ZERO, Block, Version, canonical, parse, policy_json
from ledger.errors import LedgerError

APPLICATION_ID = 0x43474C31  # "CGL1"
DUPLICATE_TXID = "DUPLICATE_TXID"
EVENT_BATCH = 500
EVENT_BYTES = 4 * 1024 * 1024
MANY = 500  # keys in one query

TABLES = {
    "blocks": """CREATE TABLE blocks (
        number INTEGER PRIMARY KEY, header BLOB NOT NULL, signature BLOB NOT NULL, config BLOB)""",
    "transactions": """CREATE TABLE transactions (
        block INTEGER NOT NULL, position INTEGER NOT NULL, tx_id TEXT NOT NULL, validity TEXT NOT NULL,
        event TEXT, envelope BLOB NOT NULL, PRIMARY KEY (block, position))""",
    "transactions_by_id": "CREATE INDEX transactions_by_id ON transactions (tx_id)",
    "transactions_with_event": """CREATE INDEX transactions_with_event ON transactions (block, position)
        WHERE event IS NOT NULL AND validity = 'VALID'""",
    "state": """CREATE TABLE state (
        key TEXT PRIMARY KEY, value BLOB NOT NULL, block INTEGER NOT NULL, position INTEGER NOT NULL,
        policy TEXT) WITHOUT ROWID""",
}


Row = tuple[int, str, str, str | None, bytes]
"""(position, tx_id, validity, event, envelope) of one transaction."""


@dataclass(frozen=True)
class Entry:
    """A key's value, the version of its last write, and its endorsement policy if it has one."""

    value: bytes
    version: Version
    policy: Endorsers | None


@dataclass(frozen=True)
class Tip:
    """The last block: what the next one stands on. `number` is -1 before the first."""

    number: int
    hash: str
    state: str
    config: str | None

    @property
    def height(self) -> int:
        return self.number + 1


class View:
    """Reads within one SQLite transaction: one committed state, or the one that is being written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection

    def tip(self) -> Tip:
        row = self._sql.execute("SELECT number, header FROM blocks ORDER BY number DESC LIMIT 1").fetchone()
        if row is None:
            return Tip(-1, ZERO, ZERO, None)
        header = parse(row[1])
        block = Block(row[0], row[1], b"", None)
        return Tip(row[0], block.hash, header["state"], header["config"])

    def config(self) -> Json:
        """The configuration in force. Raises LedgerError where there is none."""
        row = self._sql.execute(
            "SELECT config FROM blocks WHERE config IS NOT NULL ORDER BY number DESC LIMIT 1"
        ).fetchone()
        if row is None:
            raise LedgerError("The ledger has no first block. Make the ledger first.", code="ledger_empty")
        return parse(row[0])

    def entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Those of `keys` that exist."""
        found: dict[str, Entry] = {}
        for first in range(0, len(keys), MANY):
            some = keys[first : first + MANY]
            marks = ",".join("?" * len(some))
            rows = self._sql.execute(
                f"SELECT key, value, block, position, policy FROM state WHERE key IN ({marks})",  # noqa: S608
                tuple(some),
            )
            found.update((row[0], _entry(row)) for row in rows)
        return found

    def scan(self, start: str, end: str) -> list[tuple[str, Entry]]:
        rows = self._sql.execute(
            "SELECT key, value, block, position, policy FROM state WHERE key >= ? AND key < ? ORDER BY key",
            (start, end),
        )
        return [(row[0], _entry(row)) for row in rows]

    def outcome(self, tx_id: str) -> Outcome | None:
        """What became of a transaction; later copies of it do not count."""
        row = self._sql.execute(
            "SELECT block, validity FROM transactions WHERE tx_id = ? AND validity != ? LIMIT 1",
            (tx_id, DUPLICATE_TXID),
        ).fetchone()
        return None if row is None else Outcome(tx_id, row[1], row[0])

    def events(self, after: tuple[int, int]) -> list[Event]:
        """The next events of valid transactions after (block, position); a bounded number."""
        rows = self._sql.execute(
            "SELECT block, position, tx_id, envelope FROM transactions"
            " WHERE event IS NOT NULL AND validity = 'VALID' AND (block, position) > (?, ?)"
            " ORDER BY block, position LIMIT ?",
            (*after, EVENT_BATCH),
        )
        found, size = [], 0
        for block, position, tx_id, envelope in rows:
            event = orjson.loads(envelope)["body"]["event"]
            found.append(Event(block, position, tx_id, event["name"], event["payload"]))
            size += len(envelope)
            if size > EVENT_BYTES:
                break
        return found

    def blocks(self) -> Iterator[Block]:
        for row in self._sql.execute("SELECT number, header, signature, config FROM blocks ORDER BY number"):
            yield Block(*row)

    def block(self, number: int) -> Block | None:
        row = self._sql.execute(
            "SELECT number, header, signature, config FROM blocks WHERE number = ?", (number,)
        ).fetchone()
        return None if row is None else Block(*row)

    def transactions(self, block: int) -> list[Row]:
        """Those of one block, in order."""
        return self._sql.execute(
            "SELECT position, tx_id, validity, event, envelope FROM transactions"
            " WHERE block = ? ORDER BY position",
            (block,),
        ).fetchall()


class Writing(View):
    """The one transaction that adds one block."""

    def write_state(self, key: str, value: bytes | None, policy: Endorsers | None, version: Version) -> None:
        """A new value and policy; None keeps what is there."""
        self._sql.execute(
            "INSERT INTO state (key, value, block, position, policy) VALUES (?1, ?2, ?3, ?4, ?5)"
            " ON CONFLICT (key) DO UPDATE SET value = coalesce(?2, value), block = ?3, position = ?4,"
            " policy = coalesce(?5, policy)"
            if value is not None
            else "UPDATE state SET value = coalesce(?2, value), block = ?3, position = ?4,"
            " policy = coalesce(?5, policy) WHERE key = ?1",
            (key, value, *version, canonical(policy_json(policy)).decode() if policy else None),
        )

    def write_transaction(
        self, version: Version, tx_id: str, validity: str, event: str | None, envelope: bytes
    ) -> None:
        self._sql.execute(
            "INSERT INTO transactions (block, position, tx_id, validity, event, envelope)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (*version, tx_id, validity, event if validity == VALID else None, envelope),
        )

    def write_block(self, block: Block) -> None:
        self._sql.execute(
            "INSERT INTO blocks (number, header, signature, config) VALUES (?, ?, ?, ?)",
            (block.number, block.header, block.signature, block.config),
        )


class Store:
    """The file of one running ledger process. Not safe for two: the process holds its socket's lock."""

    def __init__(self, path: Path, *, max_pages: int | None = None) -> None:
        self._path = path
        self._max_pages = max_pages
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._writer = self._open_writer()

    @classmethod
    def create(cls, path: Path) -> "Store":
        """An empty file, mode 0600."""
        path.touch(mode=0o600)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as sql:
            sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            sql.execute("PRAGMA journal_mode = WAL")
            sql.execute("BEGIN IMMEDIATE")
            for statement in TABLES.values():
                sql.execute(statement)
            sql.execute("COMMIT")
        return cls(path)

    def _open(self, mode: str) -> sqlite3.Connection:
        try:
            sql = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=10,
            )
            if sql.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise LedgerError("This file is not a ledger.", code="ledger_damaged")
        except sqlite3.Error as error:
            raise trouble(error) from None
        return sql

    def _open_writer(self) -> sqlite3.Connection:
        sql = self._open("rw")
        try:
            sql.execute("PRAGMA journal_mode = WAL")
            sql.execute("PRAGMA synchronous = FULL")
            if self._max_pages is not None:
                sql.execute(f"PRAGMA max_page_count = {int(self._max_pages)}")
        except sqlite3.Error as error:
            sql.close()
            raise trouble(error) from None
        return sql

    @contextlib.contextmanager
    def view(self) -> Iterator[View]:
        """One committed state, for as long as the context lasts. Raises LedgerError."""
        with self._guard:
            sql = self._idle.pop() if self._idle else None
        sql = sql or self._open("ro")
        try:
            sql.execute("BEGIN")
            try:
                yield View(sql)
            finally:
                sql.execute("ROLLBACK")
        except sqlite3.Error as error:
            sql.close()
            raise trouble(error) from None
        except BaseException:
            self._keep(sql)
            raise
        self._keep(sql)

    def _keep(self, sql: sqlite3.Connection) -> None:
        with self._guard:
            self._idle.append(sql)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing]:
        """All of it is written when the context ends well, else nothing. Raises LedgerError."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            yield Writing(self._writer)
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            self._reopen()
            raise trouble(error) from None
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise

    def _reopen(self) -> None:
        """After a failed write nothing of the old connection's memory is trusted."""
        self._writer.close()
        self._writer = self._open_writer()

    def close(self) -> None:
        with self._guard:
            for sql in self._idle:
                sql.close()
            self._idle.clear()
        self._writer.close()


def trouble(error: sqlite3.Error) -> LedgerError:
    """What a person can do about a failure of the file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return LedgerError(
            "The ledger's disk is full. Free some space; it goes on by itself.", code="ledger_disk_full"
        )
    if code == sqlite3.SQLITE_IOERR:
        return LedgerError(
            "The ledger cannot write its file. Is the disk full, or a limit reached?",
            code="ledger_disk_failed",
        )
    if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        return LedgerError("The ledger's file cannot be opened by this account.", code="ledger_no_access")
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return LedgerError("The ledger's file is damaged. Run fsck.", code="ledger_damaged")
    return LedgerError("The ledger's file could not be read or written.", code="ledger_file_failed")


def _entry(row: tuple[str, bytes, int, int, str | None]) -> Entry:
    policy = None
    if row[4] is not None:
        found = orjson.loads(row[4])
        policy = Endorsers(found["needed"], tuple(found["orgs"]))
    return Entry(row[1], (row[2], row[3]), policy)

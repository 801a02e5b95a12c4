"""The log of openings once more, filed by job: what a recall reads, a million openings in a second.

A shelf is SHELF rows of the log. Once it is full, what its rows opened is filed under each job's leg or
access that they name. Filed are only rows that are what was hashed and follow each other from the first one
on; a file carries an HMAC under a key that is not on the disk in clear. The log stays the truth:
reconciliation derives the files again, and so does `python -m gateway.keyholder.log`, without any key.
"""

import hmac
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

import orjson

from gateway.keyholder.log import FIRST, chained
from gateway.keyholder.store import Store
from ledger.contract.state import Json
from ledger.errors import EnvelopeError, InvalidInput

SHELF = 1024
SHELVES_AT_ONCE = 32
MOST_REFERENCES = 2_000
ANSWER_BYTES = 16 * 1024 * 1024
_ROWS = "SELECT id, line, digest FROM openings WHERE id > ? ORDER BY id LIMIT ?"
_FILES = "SELECT shelf, openings, mac FROM filed WHERE reference = ? AND shelf > ? ORDER BY shelf"

Row = tuple[int, bytes, bytes]


def derived(rows: Sequence[Row], *, after: int = 0, previous: bytes = FIRST) -> dict[str, bytes]:
    """What these rows of the log opened, by job or access: `[[subject or null, ground, [opened, …]], …]`.

    `previous` is the digest of the row `after`. Raises EnvelopeError (`log_tampered`), as `chained` does.
    """
    opened: dict[str, dict[tuple[str | None, str], dict[str, None]]] = {}
    for entry in chained(rows, after=after, previous=previous):
        place = next(iter(entry["subjects"]), None), entry["ground"]
        of = opened.setdefault(entry["reference"], {})
        of.setdefault(place, {}).update(dict.fromkeys(entry["opened"]))
    return {
        reference: orjson.dumps([[*place, [*each]] for place, each in of.items()])
        for reference, of in opened.items()
    }


def file_openings(store: Store) -> int:
    """File up to SHELVES_AT_ONCE full shelves, each in a transaction; how many more are full.

    Raises EnvelopeError (`log_tampered`): nothing from the bad row's shelf on is filed.
    """
    left = 0
    for _ in range(SHELVES_AT_ONCE):
        with store.transaction() as db:
            shelf, head = _last(db)
            rows = db.execute(_ROWS, (shelf * SHELF, SHELF)).fetchall()
            if len(rows) < SHELF:
                return 0
            files = derived(rows, after=shelf * SHELF, previous=head)
            key = _key(store)
            db.executemany(
                "INSERT OR REPLACE INTO filed VALUES (?, ?, ?, ?)",
                [(shelf + 1, name, file, _mac(key, shelf + 1, name, file)) for name, file in files.items()],
            )
            db.execute("INSERT INTO shelves VALUES (?, ?)", (shelf + 1, rows[-1][2]))
            (last,) = db.execute("SELECT MAX(id) FROM openings").fetchone()
            left = last // SHELF - shelf - 1
    return int(left)


def filed_openings(store: Store, references: Sequence[str], *, after: int = 0) -> Json:
    """All that was opened for these jobs' legs or accesses: `{"files": [{"reference", "openings"}, …],
    "next": {"reference", "shelf"} or null}`, where `openings` are as `derived` has them.

    A reference may have several files, in the log's order; of the first one, those after the shelf `after`.
    An answer holds some ANSWER_BYTES; `next` says where to go on. Rows of the shelf that is not full yet are
    read from the log itself. MOST_REFERENCES at once (else InvalidInput). Raises EnvelopeError
    (`log_tampered`) for a file or a row that does not hold.
    """
    if len(references) > MOST_REFERENCES:
        raise InvalidInput(f"Ask for {MOST_REFERENCES} at once, and no more.")
    files: list[Json] = []
    size, key = 0, _key(store)
    with store.transaction() as db:
        shelf, head = _last(db)
        newest = derived(
            db.execute(_ROWS, (shelf * SHELF, -1)).fetchall(), after=shelf * SHELF, previous=head
        )
        for reference in references:
            for number, file, mac in db.execute(_FILES, (reference, after)):
                if not hmac.compare_digest(mac, _mac(key, number, reference, file)):
                    raise _tampered(number)
                files.append({"reference": reference, "openings": orjson.Fragment(file)})
                size += len(file)
                if size > ANSWER_BYTES:
                    following = {"reference": reference, "shelf": number}
                    return {"files": files, "next": following}
            after = 0
            if reference in newest:
                files.append({"reference": reference, "openings": orjson.Fragment(newest[reference])})
    return {"files": files, "next": None}


def check_files(store: Store, *, after: int) -> Json:
    """Up to SHELVES_AT_ONCE shelves after the shelf `after`, derived again: `{"bad", "last", "more"}`.

    `bad` is the first shelf whose files are not what its rows say, null where there is none.
    """
    with store.transaction() as db:
        end = filed_shelves(db)
        last = min(end, after + SHELVES_AT_ONCE)
        bad = next(differing(db, range(after + 1, last + 1), key=_key(store)), None)
    return {"bad": bad, "last": last, "more": last < end}


def filed_shelves(db: sqlite3.Connection) -> int:
    """How many shelves are filed, numbered from 1; none in a store of before there were any."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'shelves'").fetchone():
        return 0
    return int(db.execute("SELECT COALESCE(MAX(shelf), 0) FROM shelves").fetchone()[0])


def differing(db: sqlite3.Connection, shelves: Iterable[int], *, key: bytes | None = None) -> Iterator[int]:
    """Those of these shelves whose files are not exactly what their rows say; with a key, their HMACs too."""
    for shelf in shelves:
        after = (shelf - 1) * SHELF
        rows = db.execute(_ROWS, (after, SHELF)).fetchall()
        before = db.execute("SELECT digest FROM openings WHERE id = ?", (after,)).fetchone()
        kept = db.execute("SELECT reference, openings, mac FROM filed WHERE shelf = ?", (shelf,)).fetchall()
        head = db.execute("SELECT head FROM shelves WHERE shelf = ?", (shelf,)).fetchone()
        try:
            files = derived(rows, after=after, previous=FIRST if before is None else before[0])
        except EnvelopeError:
            files = None
        same = files == {name: file for name, file, _ in kept} and len(rows) == SHELF and head == rows[-1][2:]
        if not same or (key and any(mac != _mac(key, shelf, name, file) for name, file, mac in kept)):
            yield shelf


def _last(db: sqlite3.Connection) -> tuple[int, bytes]:
    """The last shelf that is filed, and the digest of its last row, which the log still has to have."""
    newest = db.execute("SELECT shelf, head FROM shelves ORDER BY shelf DESC LIMIT 1").fetchone()
    shelf, head = newest or (0, FIRST)
    found = db.execute("SELECT digest FROM openings WHERE id = ?", (shelf * SHELF,)).fetchone()
    if shelf and (found is None or found[0] != head):
        raise _tampered(shelf)
    return shelf, head


def _key(store: Store) -> bytes:
    return hmac.digest(store.output_key.private_bytes_raw(), b"filed openings", sha256)


def _mac(key: bytes, shelf: int, reference: str, file: bytes) -> bytes:
    return hmac.digest(key, b"%d %s\n%s" % (shelf, reference.encode(), file), sha256)


def _tampered(shelf: int) -> EnvelopeError:
    first = (shelf - 1) * SHELF + 1
    return EnvelopeError(
        f"Rows {first} to {shelf * SHELF} of the log of openings, or what is filed of them, were changed.",
        code="log_tampered",
    )

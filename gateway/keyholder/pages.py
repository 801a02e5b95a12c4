"""The log of openings, a page at a time, for whoever holds it against the ledger and the database; and what
of it speaks of a job or an access, for whoever traces a record.

Rows say what was opened on which ground: ids, and counts. No record, key or person is in them.
"""

from collections.abc import Sequence
from hashlib import sha256

import orjson

from gateway.keyholder.schema import REFERENCE, SUBJECT
from gateway.keyholder.store import Store
from ledger.client import HOME
from ledger.contract.state import Json
from ledger.errors import EnvelopeError, InvalidInput

MOST_PLACES = 500
_OF_PLACE = f"SELECT id, line, digest FROM openings WHERE {REFERENCE} = ? AND {SUBJECT} IS ? ORDER BY id"  # noqa: S608
_TOLD = ("at", "attempt", "ground", "reference", "tx_id")


def log_page(store: Store, *, after: int, limit: int) -> Json:
    """Rows after the row `after`, oldest first: `{"bad", "entries": [{"id", "channel", …}], "last"}`.

    `bad` is the number of the first row that is not what was hashed, or does not follow the one before (null:
    all hold); rows from there on are not given. `last` is the number of the log's last row.
    """
    with store.transaction() as db:
        (last,) = db.execute("SELECT COALESCE(MAX(id), 0) FROM openings").fetchone()
        before = db.execute("SELECT digest FROM openings WHERE id = ?", (after,)).fetchone()
        rows = db.execute(
            "SELECT id, line, digest FROM openings WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        ).fetchall()
    previous = bytes(32) if before is None else before[0]
    entries: list[Json] = []
    for number, (row, line, digest) in enumerate(rows, start=after + 1):
        entry = orjson.loads(line) if sha256(line).digest() == digest else {}
        if row != number or entry.get("previous") != previous.hex():
            return {"bad": number, "entries": entries, "last": last}
        told = {name: entry[name] for name in _TOLD}
        entries.append({"id": row, "channel": entry.get("channel") or HOME, **told})
        previous = digest
    return {"bad": None, "entries": entries, "last": last}


def openings_of(store: Store, places: Sequence[tuple[str, str | None]]) -> list[Json]:
    """What was opened for these places, each place's oldest first: `[{"at", "attempt", "ground", "id",
    "opened", "reference", "subject"}]`, where `opened` are `chunk/version` or an output's digest.

    A place is a job (a leg of it) and a subject, or an access and None; MOST_PLACES at once (else
    InvalidInput). Raises EnvelopeError (`log_tampered`) for a row that is not what was hashed.
    """
    found: list[Json] = []
    if len(places) > MOST_PLACES:
        raise InvalidInput(f"Ask for {MOST_PLACES} places at once, and no more.")
    with store.transaction() as db:
        for reference, subject in places:
            for row, line, digest in db.execute(_OF_PLACE, (reference, subject)):
                if sha256(line).digest() != digest:
                    raise EnvelopeError(f"Row {row} of the log of openings was changed.", code="log_tampered")
                entry = orjson.loads(line)
                told = {name: entry[name] for name in ("at", "attempt", "ground", "opened", "reference")}
                found.append({"id": row, "subject": subject, **told})
    return found

"""The log of openings, a page at a time, for whoever holds it against the ledger and the database.

Rows say what was opened on which ground: ids, and counts. No record, key or person is in them.
"""

from hashlib import sha256

import orjson

from gateway.keyholder.store import Store
from ledger.client import HOME
from ledger.contract.state import Json

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

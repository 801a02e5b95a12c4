"""A table that a long run can fill without end: in memory up to a bound, then in a temporary file.

It keeps a keyed digest of each name and one small number, so that the file tells nothing: its key dies
with the process, and the file has no name. No Django.
"""

import os
import sqlite3
from hashlib import blake2b

_HELD = 50_000  # entries that wait in memory before they are written together
_CACHE_KIB = 16 * 1024


class Spill:
    """Names to numbers. A context manager; not safe for threads."""

    def __init__(self, held: int = _HELD) -> None:
        self._key = os.urandom(32)
        self._most = held
        self._held: dict[bytes, int] = {}
        self._file: sqlite3.Connection | None = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._held = None, {}

    def get(self, name: str) -> int | None:
        key = self._digest(name)
        if (found := self._held.get(key)) is not None or self._file is None:
            return found
        row = self._file.execute("SELECT number FROM spill WHERE name = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def __setitem__(self, name: str, number: int) -> None:
        """Raises OSError where the temporary file has no room."""
        self._held[self._digest(name)] = number
        if len(self._held) >= self._most:
            try:
                self._write()
            except sqlite3.Error as error:
                raise OSError(f"the temporary table: {error}") from None

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def _write(self) -> None:
        if self._file is None:
            # "" is a database of sqlite's own in a file without a name, which is gone when it is closed.
            self._file = sqlite3.connect("", isolation_level=None)
            for said in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
                self._file.execute(f"PRAGMA {said}")
            self._file.execute("CREATE TABLE spill (name BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID")
        self._file.execute("BEGIN")
        self._file.executemany("INSERT OR REPLACE INTO spill VALUES (?, ?)", sorted(self._held.items()))
        self._file.execute("COMMIT")
        self._held.clear()

    def _digest(self, name: str) -> bytes:
        return blake2b(name.encode(), key=self._key, digest_size=16).digest()

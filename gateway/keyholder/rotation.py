"""Rotating the KEK while the keyholder serves: patients' keys are wrapped anew, no record is touched.

Started with `--old-kek`, the store takes the new KEK at once and rewraps the patients' keys in the
background, so many in a transaction; what is not rewrapped yet opens by the old one. Killed anywhere, it goes
on at the next start. While any key needs the old KEK, the keyholder does not start without it. When none
does, the old KEK is kept for the longest lease and then destroyed: with it go all backups that need it, and
the keys of whoever was erased since they were made.
"""

import logging
import threading
from collections.abc import Callable

from gateway.keyholder.store import Store

log = logging.getLogger(__name__)

BATCH = 500
REST_SECONDS = 0.02  # between two batches, for whoever waits to open something


def rewrap(store: Store, *, limit: int = BATCH) -> int:
    """Wrap up to `limit` keys that need an old KEK by the current one; how many still need it."""
    with store.transaction() as db:
        rows = db.execute(
            "SELECT patient, wrapped_key, kek FROM patients WHERE kek != ? LIMIT ?", (store.kek.id, limit)
        ).fetchall()
        db.executemany(
            "UPDATE patients SET wrapped_key = ?, kek = ? WHERE patient = ?",
            [
                (store.kek.wrap(store.kek_named(kek).unwrap(wrapped)), store.kek.id, patient)
                for patient, wrapped, kek in rows
            ],
        )
    left = store.under_old_keks()
    if not left:
        store.truncate_journal()
    return left


def rewrap_all(store: Store, stop: threading.Event, *, lease: int, said: Callable[[str], None]) -> None:
    """Rewrap until none is left, or until told to stop; then say when the old KEK may go."""
    while not stop.is_set():
        if not rewrap(store):
            said(
                f"no key needs the old KEK any more. Keep it for {lease} s, back up the store, start again "
                "without --old-kek, then destroy the old KEK and every backup that needs it."
            )
            return
        stop.wait(REST_SECONDS)

"""Erasing a patient: her keys are destroyed here, and with them whatever was ever sealed under them.

Gone are her key, index key, chunk headers (with every data key), consents' openings, drafts, passkeys and
the details of accesses. What names her in releases is replaced by an id of nobody. What stays says nothing of
her: the log of openings, submissions, and the ids of her consents among those that are denied.

A backup of this store that was made before still holds her key, wrapped by the KEK of then. It is out of
reach once that KEK is destroyed; see rotation.py.
"""

import secrets
from collections.abc import Callable, Sequence
from hashlib import sha256

from gateway.keyholder.store import Store
from ledger.contract.state import Json
from ledger.errors import RefusedTransition

DAY = 86_400
# Whoever holds the web process must not be able to destroy everybody's records in an hour.
ERASURES_A_DAY = 20

_OF_PATIENT = ("chunks", "regrouped", "consents", "drafts", "passkeys", "accesses")


def erase(store: Store, *, patient: str, clock: Callable[[], float], most: int = ERASURES_A_DAY) -> Json:
    """Destroy all that is kept of the patient: `{"at", "kek"}`, when, and the KEK that older backups need.

    Harmless to repeat, also for a patient of whom nothing was ever kept. Durable before it returns, and
    overwritten on the disk. Raises RefusedTransition (`erasures_exceeded`).
    """
    name, at = sha256(patient.encode()).hexdigest(), int(clock())
    with store.transaction() as db:
        done = db.execute("SELECT at, kek FROM erasures WHERE patient = ?", (name,)).fetchone()
        kept = db.execute("SELECT kek FROM patients WHERE patient = ?", (patient,)).fetchone()
        # A store that came back from a backup may know of the erasure and keep her all the same.
        if done is not None and kept is None:
            return {"at": done[0], "kek": done[1]}
        (lately,) = db.execute("SELECT COUNT(*) FROM erasures WHERE at > ?", (at - DAY,)).fetchone()
        if done is None and lately >= most:
            raise RefusedTransition(
                "As many patients were erased within a day as the keyholder allows. Try again tomorrow.",
                code="erasures_exceeded",
            )
        db.execute(
            "INSERT OR IGNORE INTO denied SELECT consent, ? FROM consents WHERE patient = ?", (at, patient)
        )
        db.execute(
            "DELETE FROM batches WHERE consent IN (SELECT consent FROM consents WHERE patient = ?)",
            (patient,),
        )
        for table in _OF_PATIENT:
            db.execute(f"DELETE FROM {table} WHERE patient = ?", (patient,))  # noqa: S608 (the names stand here)
        _forget_in_releases(store, patient)
        db.execute("DELETE FROM patients WHERE patient = ?", (patient,))
        kek = store.kek.id if kept is None else kept[0]
        db.execute("INSERT OR REPLACE INTO erasures VALUES (?, ?, ?)", (name, at, kek))
    store.truncate_journal()
    return {"at": at, "kek": kek}


def erased(store: Store, patients: Sequence[str]) -> list[str]:
    """Those of the patients who were erased here, and are not enrolled again."""
    names = {sha256(patient.encode()).hexdigest(): patient for patient in patients}
    with store.transaction() as db:
        done = [name for (name,) in db.execute("SELECT patient FROM erasures") if name in names]
    return [names[name] for name in done if not store.is_enrolled(names[name])]


def _forget_in_releases(store: Store, patient: str) -> None:
    """Releases name the patients of their subjects: hers becomes nobody's id, another one in each."""
    named = patient.encode()
    with store.transaction() as db:
        rows = db.execute("SELECT rowid, body FROM releases WHERE instr(body, ?)", (named,)).fetchall()
        db.executemany(
            "UPDATE releases SET body = ? WHERE rowid = ?",
            [(body.replace(named, secrets.token_hex(32).encode()), row) for row, body in rows],
        )

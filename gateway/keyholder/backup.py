"""Backups of the keyholder's store: made while it serves, tried, and put in its place.

    python -m gateway.keyholder.backup make FOLDER FILE
    python -m gateway.keyholder.backup check FILE --kek KEK
    python -m gateway.keyholder.backup restore FILE FOLDER --kek KEK --erased LIST

A backup holds no KEK. What opens records comes back from it as it was; what closes them does not go back: who
was erased since (`manage.py erasures` prints LIST) is erased again before the store takes its place, and the
stops, erasures, dropped passkeys and the ledger's heights of the store that stood there are taken over. So is
its log of openings.
"""

import argparse
import os
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path

from gateway.keyholder.erasure import DAY, ERASURES_A_DAY, erase
from gateway.keyholder.kek import KEK, FileKEK
from gateway.keyholder.rotation import rewrap
from gateway.keyholder.store import FILE, Store, hold, read_only
from ledger.errors import EnvelopeError, GatewayError, InvalidInput, RefusedTransition

MADE = "backup_at"  # in a backup's `meta`: when it was made, in seconds since 1970

# What is taken over from the store of `before`: what only closes, and its log where it goes on from this one.
_TAKEN = {
    "erasures": "INSERT OR IGNORE INTO erasures SELECT * FROM before.erasures",
    "stops": "INSERT OR IGNORE INTO denied SELECT * FROM before.denied",
    "dropped passkeys": "UPDATE passkeys SET dropped = old.dropped FROM before.passkeys AS old"
    " WHERE old.id = passkeys.id AND old.passkey = passkeys.passkey"
    " AND old.dropped IS NOT NULL AND passkeys.dropped IS NULL",
    "dropped passkeys of clinicians": "UPDATE clinicians SET dropped = old.dropped"
    " FROM before.clinicians AS old WHERE old.clinician = clinicians.clinician"
    " AND old.credential = clinicians.credential"
    " AND old.dropped IS NOT NULL AND clinicians.dropped IS NULL",
    "heights": "INSERT INTO heights SELECT * FROM before.heights WHERE true"
    " ON CONFLICT (channel, org) DO UPDATE SET height = excluded.height WHERE excluded.height > height",
    "proofs": "INSERT OR IGNORE INTO proofs SELECT * FROM before.proofs",
    "openings": "INSERT INTO openings SELECT old.* FROM before.openings AS old,"
    " (SELECT COALESCE(MAX(id), 0) AS id FROM openings) AS last WHERE old.id > last.id"
    " AND (last.id = 0 OR EXISTS (SELECT 1 FROM openings AS ours, before.openings AS theirs"
    " WHERE ours.id = last.id AND theirs.id = last.id AND ours.digest = theirs.digest))",
    "opened": "INSERT OR IGNORE INTO opened SELECT * FROM before.opened",
    "clock": "UPDATE meta SET value = old.value FROM before.meta AS old WHERE old.name = meta.name"
    " AND meta.name = 'clock' AND CAST(old.value AS INTEGER) > CAST(meta.value AS INTEGER)",
}
# What it had and the restored store has not.
_LACKED = {
    "patients": "FROM before.patients AS old WHERE NOT EXISTS"
    " (SELECT 1 FROM patients WHERE patient = old.patient)",
    "chunks": "FROM before.chunks AS old WHERE confirmed = 1 AND NOT EXISTS"
    " (SELECT 1 FROM chunks WHERE chunk = old.chunk AND version = old.version)",
    "consents": "FROM before.consents AS old WHERE NOT EXISTS"
    " (SELECT 1 FROM consents WHERE consent = old.consent)",
    "passkeys": "FROM before.passkeys AS old WHERE NOT EXISTS"
    " (SELECT 1 FROM passkeys WHERE id = old.id AND passkey = old.passkey)",
    "passkeys of clinicians": "FROM before.clinicians AS old WHERE NOT EXISTS"
    " (SELECT 1 FROM clinicians WHERE clinician = old.clinician AND credential = old.credential)",
    "openings": "FROM before.openings AS old WHERE NOT EXISTS"
    " (SELECT 1 FROM openings WHERE id = old.id AND digest = old.digest)",
}


@dataclass(frozen=True)
class Found:
    """A backup of which every key, chunk header and opening of a consent opened.

    `at`: when it was made; `kek`: the id of the KEK that it is under; `counts`: rows; `heights`: how many
    blocks each channel's ledger had shown.
    """

    at: int
    kek: str
    counts: Mapping[str, int]
    heights: Mapping[str, int]


@dataclass(frozen=True)
class Restored:
    """What took the place. `erased`: how many patients were erased again; `taken`: rows of what closes,
    and of the log.

    `lacks` counts the rows that the store of before had and the backup has not; None where there was none, or
    none that could be read. `aside` is where it is now.
    """

    found: Found
    erased: int
    taken: Mapping[str, int]
    lacks: Mapping[str, int] | None
    aside: Path | None


def make(folder: Path, path: Path, *, now: float) -> None:
    """Copy the store in `folder` to the new file `path`, as of one moment, also while a keyholder serves.

    Whole or not at all, durable, readable by its owner alone. Raises EnvelopeError (`store_missing`,
    `store_damaged`), RefusedTransition (`backup_exists`): nothing is ever overwritten.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(read_only(folder)) as source, closing(sqlite3.connect(draft)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            _check_pages(copy)
            copy.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (MADE, b"%d" % now))
            copy.commit()
        _sync(draft)
        os.link(draft, path)
        _sync(path.parent)
    except FileExistsError:
        raise RefusedTransition(
            "There is a file of this name. Name another for the backup.", code="backup_exists"
        ) from None
    except sqlite3.DatabaseError:
        raise EnvelopeError(
            "The keyholder's store is damaged: no backup was made of it.", code="store_damaged"
        ) from None
    finally:
        draft.unlink()


def check(path: Path, kek: KEK, *, old: KEK | None = None) -> Found:
    """Try a backup: it is whole, and all that it keeps of every patient opens by the KEK.

    Raises EnvelopeError (`wrong_kek`, `old_kek_needed`, `store_format`, `backup_damaged`).
    """
    with _copied(path) as place:
        return _tried(place, kek, old)


def restore(
    path: Path, folder: Path, kek: KEK, *, old: KEK | None = None, erased: Mapping[str, int], now: float
) -> Restored:
    """Put the backup in the place of the store in `folder`, which no keyholder may hold.

    `erased`: whom the database knows as erased, SHA-256 of the id (hex) and when (seconds). What stood there
    is kept aside. Nothing changes before the backup was tried as by `check`, and whoever was erased since is
    erased from it. Raises what `check` does, and RefusedTransition (`store_held`, `erasures_exceeded`).
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = hold(folder)
    try:
        with _copied(path, within=folder) as place:
            found = _tried(place, kek, old)
            taken, lacks = _take_over(place, folder)
            with closing(Store(place, kek, old=old)) as store:
                again = _erase_again(store, erased, made=found.at, now=now)
                while rewrap(store):
                    pass
                with store.transaction() as db:
                    db.execute("DELETE FROM meta WHERE name = ?", (MADE,))
            _sync(place / FILE)
            aside = _set_aside(folder, now) if (folder / FILE).exists() else None
            os.replace(place / FILE, folder / FILE)
            _sync(folder)
        return Restored(found, again, taken, lacks, aside)
    finally:
        os.close(lock)


def read_erased(lines: Iterable[str]) -> dict[str, int]:
    """The list that `manage.py erasures` prints. Raises InvalidInput (`erasures_unreadable`)."""
    found = {}
    for line in lines:
        name, _, at = line.strip().partition(" ")
        if len(name) != 64 or set(name) - set("0123456789abcdef") or not (at.isascii() and at.isdecimal()):
            raise InvalidInput(
                "This is not a list of erasures: `manage.py erasures` prints one.", code="erasures_unreadable"
            )
        found[name] = int(at)
    return found


# A backup, tried


@contextmanager
def _copied(path: Path, *, within: Path | None = None) -> Iterator[Path]:
    """A folder with a copy of the backup as a store's file; it is gone afterwards, the backup as it was."""
    path.stat()  # one that is missing is said to be so, by its name
    with tempfile.TemporaryDirectory(prefix="restoring-", dir=within) as name:
        place = Path(name)
        try:
            with (
                closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(place / FILE)) as copy,
            ):
                source.backup(copy)
                _check_pages(copy)
        except sqlite3.DatabaseError:
            raise _damaged() from None
        (place / FILE).chmod(0o600)
        yield place


def _tried(place: Path, kek: KEK, old: KEK | None) -> Found:
    """Open all of it once. Raises EnvelopeError."""
    with closing(Store(place, kek, old=old)) as store, store.transaction() as db:
        # A copy that somebody made otherwise has no such row: the latest time that it rested on serves.
        ((at,),) = db.execute(
            "SELECT value FROM meta WHERE name IN (?, 'clock') ORDER BY name LIMIT 1", (MADE,)
        )
        try:
            for (patient,) in db.execute("SELECT patient FROM patients").fetchall():
                store.index_key(patient)
                for _ in store.headers(patient):
                    pass
                store.openings_of([patient])
        except (EnvelopeError, ValueError, LookupError):
            raise _damaged() from None
        heights = dict(db.execute("SELECT channel, MAX(height) FROM heights GROUP BY channel"))
        return Found(int(at), store.kek.id, store.counts(), heights)


def _check_pages(db: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError."""
    whole = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    if not whole or db.execute("PRAGMA foreign_key_check").fetchone():
        raise sqlite3.DatabaseError("damaged")


def _damaged() -> EnvelopeError:
    return EnvelopeError("This backup is damaged. Take another one.", code="backup_damaged")


# In its place


def _take_over(place: Path, folder: Path) -> tuple[dict[str, int], dict[str, int] | None]:
    """What closes, and the log, go from the store in `folder` into the one in `place`: how many rows, and how
    many others it lacks. None where no store can be read there."""
    before = (folder / FILE).resolve().as_uri()
    with closing(sqlite3.connect((place / FILE).as_uri(), uri=True, isolation_level=None)) as db:
        try:
            db.execute("ATTACH ? AS before", (f"{before}?mode=ro",))
            db.execute("BEGIN IMMEDIATE")
            tables = {name for (name,) in db.execute("SELECT name FROM before.sqlite_master")}
            taken = {name: db.execute(sql).rowcount for name, sql in _about(tables, _TAKEN)}
            lacks = {
                name: db.execute(f"SELECT COUNT(*) {sql}").fetchone()[0]
                for name, sql in _about(tables, _LACKED)
            }
            db.execute("COMMIT")
        except sqlite3.DatabaseError:
            return {}, None
    return {name: count for name, count in taken.items() if count}, lacks


def _about(tables: set[str], statements: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Those that read these tables of `before` alone: a store of an older format lacks some."""
    for name, sql in statements.items():
        if tables.issuperset(re.findall(r"before\.(\w+)", sql)):
            yield name, sql


def _erase_again(store: Store, erased: Mapping[str, int], *, made: int, now: float) -> int:
    """Destroy the keys of everybody who was erased since; how many there were.

    Refused where they are more than the keyholder would have erased in that time: then the list is wrong.
    """
    with store.transaction() as db:
        gone = {**erased, **dict(db.execute("SELECT patient, at FROM erasures"))}
        patients = [patient for (patient,) in db.execute("SELECT patient FROM patients")]
    named = {sha256(patient.encode()).hexdigest(): patient for patient in patients}
    due = named.keys() & gone.keys()
    if len(due) > ERASURES_A_DAY * (1 + max(0.0, now - made) / DAY):
        raise RefusedTransition(
            "The list would erase more patients than the keyholder erases in the time since this backup. "
            "Nothing was restored.",
            code="erasures_exceeded",
        )
    for name in due:
        erase(store, patient=named[name], clock=partial(gone.__getitem__, name), most=len(gone) + 1)
    with store.transaction() as db:  # and whoever the backup never knew stays erased too
        db.executemany(
            "INSERT OR IGNORE INTO erasures VALUES (?, ?, ?)",
            [(name, at, store.kek.id) for name, at in erased.items()],
        )
    return len(due)


def _set_aside(folder: Path, now: float) -> Path:
    """Keep the store that is replaced. Killed in between, it still stands in its place, whole."""
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(folder / FILE)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    aside = folder / f"replaced-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    aside.mkdir(mode=0o700)
    os.link(folder / FILE, aside / FILE)
    for end in ("-wal", "-shm"):  # those of a damaged store remain
        with suppress(FileNotFoundError):
            os.replace(folder / f"{FILE}{end}", aside / f"{FILE}{end}")
    _sync(aside)
    return aside


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 1 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        if options.verb == "make":
            make(options.folder, options.file, now=time.time())
            print(f"{options.file} is made. Try it with `check`, where the KEK is.")
            return 0
        kek = FileKEK(options.kek)
        old = FileKEK(options.old_kek) if options.old_kek else None
        if options.verb == "check":
            print(_said(check(options.file, kek, old=old)))
            return 0
        erased = read_erased(options.erased)
        done = restore(options.file, options.folder, kek, old=old, erased=erased, now=time.time())
    except GatewayError as error:
        print(f"{error.message} ({error.code})", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename}: {error.strerror}.", file=sys.stderr)
        return 1
    print(_said(done.found))
    print(f"Restored into {options.folder}. Patients erased since, and erased again: {done.erased}.")
    if done.lacks is None:
        print(
            "It lacks what came after it. No store could be read there, so nobody can say here what that is."
        )
    else:
        print(f"Taken over from the store that stood there: {_listed(done.taken) or 'nothing new'}.")
        print(f"It lacks, of what that store had: {_listed(done.lacks)}.")
    if done.aside:
        print(f"That store is now {done.aside}. It opens as before: delete it as you delete backups.")
    print("Start the keyholder. `manage.py reconcile` then names each consent whose opening is missing.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.keyholder.backup",
        description="Back up the keyholder's store, and restore it.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="copy the store, also while the keyholder serves")
    making.add_argument("folder", type=Path, help="the keyholder's folder")
    making.add_argument("file", type=Path, help="the backup, which does not exist yet")
    checking = verbs.add_parser("check", help="try whether a backup opens, and say what is in it")
    restoring = verbs.add_parser("restore", help="put it in the place of a store that no keyholder holds")
    for one in (checking, restoring):
        one.add_argument("file", type=Path, help="the backup")
        one.add_argument("--kek", type=Path, required=True, help="file of the KEK")
        one.add_argument(
            "--old-kek", type=Path, help="the KEK before, for a backup from while it was rotated"
        )
    restoring.add_argument("folder", type=Path, help="the keyholder's folder")
    restoring.add_argument(
        "--erased",
        type=argparse.FileType(),
        required=True,
        metavar="LIST",
        help="what `manage.py erasures` printed; - reads it from stdin",
    )
    return parser


def _said(found: Found) -> str:
    made = f"{datetime.fromtimestamp(found.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    heights = "".join(f" Ledger {channel}: {height} blocks." for channel, height in found.heights.items())
    rows = _listed(found.counts)
    return f"Backup of {made}, under KEK {found.kek}: {rows}. Each key, header and opening opens.{heights}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


if __name__ == "__main__":
    sys.exit(main())

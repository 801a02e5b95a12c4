"""The keyholder's own store: one SQLite file, readable by its account alone.

It keeps patients' keys under the KEK, and under each patient's key the sealed headers of the chunks
and the openings of the consents, so that destroying one key takes all of them. Nothing outside this
room opens this file. Every write is durable (`synchronous=FULL`) before the call that made it answers.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.keyholder.envelope import chunk_aad, new_key, seal, unseal
from gateway.keyholder.kek import KEK
from gateway.keyholder.schema import ASKED_BY, ASKED_FOR, DERIVED, FORMAT, SCHEMA, UPGRADES
from ledger.client import HOME
from ledger.contract.state import Json
from ledger.errors import EnvelopeError, GatewayError, InvalidInput, RefusedTransition

FILE = "keyholder.sqlite3"
MOST_PARSED = 16


@dataclass(frozen=True)
class Header:
    """One chunk's sealed header, open. `dek` is its data key."""

    chunk: str
    version: int
    resource_type: str
    labels: tuple[str, ...]
    count: int
    dek: bytes


@dataclass(frozen=True)
class Opening:
    """One consent's opening: its canonical bytes' parsed form, and the key `k` of its commitment.

    `signature` is the patient's, with where (`origin`) and when (`at`) it was taken; see signing.py.
    `channel` is hers too, sealed with the opening: nothing of this consent counts from another ledger.
    """

    consent: str
    patient: str
    canonical: Json
    key: bytes
    signature: Json | None = None
    signature_required: bool = False
    channel: str = HOME


@dataclass(frozen=True)
class Submission:
    """A transaction of ours. `state`: prepared (stored, perhaps sent), committed, refused or invalid."""

    purpose: str
    tx_id: str
    envelope: bytes
    result: Json
    state: str
    code: str
    block: int | None


@dataclass(frozen=True)
class Release:
    """What we asked to be released. `body`: request, parts with subjects, patients and their consents."""

    body: Json
    nonce: str
    issued: int

    @property
    def channel(self) -> str:
        return str(self.body.get("channel", HOME))  # releases of before channels have none


@dataclass(frozen=True)
class Access:
    """A person's access as it was asked for: kind is emergency or subject, expires in seconds."""

    kind: str
    patient: str
    digest: str
    expires: int


class Store:
    """One store, held by one process. Raises EnvelopeError (`wrong_kek`) before anything is written."""

    def __init__(self, folder: Path, kek: KEK, *, old: KEK | None = None) -> None:
        """`old`: the KEK before this one, as long as keys of patients need it; see rotation.py."""
        self.kek = kek
        self._keks = {one.id: one for one in (old, kek) if one is not None}
        self._guard = threading.RLock()
        self._watching: list[Callable[[int], object]] = []
        self._lock = hold(folder)
        path = folder / FILE
        fresh = not path.exists()
        if fresh:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        elif path.stat().st_mode & 0o077:
            raise EnvelopeError(
                "The keyholder's store may be readable by its owner alone: set its mode to 0600.",
                code="store_exposed",
            )
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            # A crash between making the file and the schema leaves it empty, as good as new.
            fresh = not self._db.execute("SELECT 1 FROM sqlite_master").fetchone()
            if not fresh:
                self._check_format()
                self._check_kek()
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA secure_delete = ON")
            if fresh:
                self._create()
            for statement in DERIVED:
                self._db.execute(statement)
            self.output_key = X25519PrivateKey.from_private_bytes(kek.unwrap(self._meta("output_key")))
            self._latest = int(self._meta("clock"))
        except sqlite3.DatabaseError:
            self.close()
            raise EnvelopeError(
                "The keyholder's store is damaged. Restore it from its backup.", code="store_damaged"
            ) from None
        except BaseException:
            self.close()
            raise

    def _check_format(self) -> None:
        while (upgrade := UPGRADES.get(self._meta("format"))) is not None:
            format, statements = upgrade
            with self.transaction() as db:
                for statement in statements.split(";"):
                    db.execute(statement)
                db.execute("UPDATE meta SET value = ? WHERE name = 'format'", (format,))
        if self._meta("format") != FORMAT:
            raise EnvelopeError(
                "This store was made by another version of the keyholder.", code="store_format"
            )

    def _check_kek(self) -> None:
        try:
            kept = self.kek_named(self._meta("kek_id").decode())
            output_key = kept.unwrap(self._meta("output_key"))
        except EnvelopeError:
            raise EnvelopeError(
                "This KEK does not belong to this store. Give the one that it was made with.",
                code="wrong_kek",
            ) from None
        needed = {kek for (kek,) in self._all("SELECT DISTINCT kek FROM patients")}
        if needed - self._keks.keys():
            raise EnvelopeError(
                "Patients' keys still need the KEK of before. Give it with --old-kek until none does.",
                code="old_kek_needed",
            )
        if kept.id != self.kek.id:
            self._take_kek(output_key)

    def _take_kek(self, output_key: bytes) -> None:
        """From now on this store's KEK is the new one; patients' keys follow (rotation.py)."""
        with self.transaction() as db:
            db.executemany(
                "UPDATE meta SET value = ? WHERE name = ?",
                [(self.kek.wrap(output_key), "output_key"), (self.kek.id.encode(), "kek_id")],
            )

    def kek_named(self, id: str) -> KEK:
        """Raises EnvelopeError (`wrong_kek`): it was not given."""
        try:
            return self._keks[id]
        except KeyError:
            raise EnvelopeError("This needs a KEK that was not given.", code="wrong_kek") from None

    def under_old_keks(self) -> int:
        """How many patients' keys need another KEK than the current one."""
        return int(self._one("SELECT COUNT(*) FROM patients WHERE kek != ?", self.kek.id)[0])

    def truncate_journal(self) -> None:
        """What was overwritten in the store is gone from its journal too."""
        with self._guard:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _create(self) -> None:
        private = X25519PrivateKey.generate().private_bytes_raw()
        values = {
            "clock": b"0",
            "format": FORMAT,
            "kek_id": self.kek.id.encode(),
            "output_key": self.kek.wrap(private),
        }
        with self.transaction() as db:
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.executemany("INSERT INTO meta VALUES (?, ?)", list(values.items()))

    def _meta(self, name: str) -> bytes:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise EnvelopeError("The keyholder's store is damaged. Restore it.", code="store_damaged")
        return bytes(row[0])

    def close(self) -> None:
        with self._guard:
            self._db.close()
            os.close(self._lock)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One durable transaction; others wait. It may be entered again within itself."""
        with self._guard:
            if self._db.in_transaction:
                yield self._db
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                self._roll_back()
                raise _unwritable(error) from None
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with self._guard:
            return self._db.execute(sql, values).fetchall()

    def _one(self, sql: str, *values: Any) -> Any:
        with self._guard:
            return self._db.execute(sql, values).fetchone()

    # Patients

    def enrol(self, patient: str, channel: str = HOME) -> None:
        """Make the patient's key and index key, once, and note the channel of all her consents.

        Raises RefusedTransition (`channel_differs`): she was enrolled on another, and stays there.
        """
        key = new_key()
        sealed_index = seal(key, new_key(), _index_aad(patient))
        with self.transaction() as db:
            db.execute(
                "INSERT INTO patients (patient, wrapped_key, index_key, channel, kek)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (patient, self.kek.wrap(key), sealed_index, channel, self.kek.id),
            )
        if self.channel_of(patient) != channel:
            raise RefusedTransition("This patient is on another channel.", code="channel_differs")

    def channel_of(self, patient: str) -> str:
        """Where all the patient's consents are. Raises RefusedTransition (`patient_unknown`)."""
        row = self._one("SELECT channel FROM patients WHERE patient = ?", patient)
        if row is None:
            raise _unknown_patient()
        return str(row[0])

    def is_enrolled(self, patient: str) -> bool:
        return self._one("SELECT 1 FROM patients WHERE patient = ?", patient) is not None

    def numbers(self, patients: Iterable[str]) -> dict[str, int]:
        """A small number for each of these patients who is enrolled, the same as long as this is open."""
        rows = self._all(
            "SELECT patient, rowid FROM patients WHERE patient IN (SELECT value FROM json_each(?))",
            _listed(patients),
        )
        return dict(rows)

    def patient_key(self, patient: str) -> bytes:
        """Raises RefusedTransition (`patient_unknown`), EnvelopeError."""
        row = self._one("SELECT wrapped_key, kek FROM patients WHERE patient = ?", patient)
        if row is None:
            raise _unknown_patient()
        return self.kek_named(row[1]).unwrap(row[0])

    def index_key(self, patient: str) -> bytes:
        key = self.patient_key(patient)
        row = self._one("SELECT index_key FROM patients WHERE patient = ?", patient)
        return unseal(key, row[0], _index_aad(patient))

    def _with_keys(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[bytes, str, tuple[Any, ...]]]:
        """Rows that begin with a patient, her wrapped key and its KEK, patient by patient: her key, unwrapped
        once for all of hers, herself, and the rest. Raises EnvelopeError."""
        for (patient, wrapped, kek), own in groupby(rows, key=itemgetter(0, 1, 2)):
            key = self.kek_named(kek).unwrap(wrapped)
            for row in own:
                yield key, patient, row[3:]

    # Chunks

    def add_chunks(self, patient: str, headers: Sequence[Header]) -> None:
        """Keep the headers, unconfirmed. A header still unconfirmed is replaced: nothing is sealed by it."""
        key = self.patient_key(patient)
        rows = [
            (
                header.chunk,
                header.version,
                patient,
                seal(key, _header_body(header), _header_aad(patient, header)),
            )
            for header in headers
        ]
        with self.transaction() as db:
            for row in rows:
                done = db.execute(
                    "INSERT INTO chunks (chunk, version, patient, header) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (chunk, version) DO UPDATE SET header = excluded.header"
                    " WHERE confirmed = 0 AND patient = excluded.patient",
                    row,
                )
                if not done.rowcount:
                    raise RefusedTransition("This version of the chunk exists already.", code="chunk_exists")

    def confirm_chunks(self, chunks: Sequence[tuple[str, int]]) -> None:
        """These `(chunk, version)` may be selected; the highest one is. Raises RefusedTransition."""
        with self.transaction() as db:
            for chunk in chunks:
                if not db.execute(
                    "UPDATE chunks SET confirmed = 1 WHERE chunk = ? AND version = ?", chunk
                ).rowcount:
                    raise RefusedTransition("No header is kept for this chunk.", code="chunk_unknown")

    def headers(self, patient: str, *, after: str | None = None) -> Iterator[Header]:
        """Confirmed headers of a patient in the order of their chunk ids. Raises EnvelopeError."""
        key = self.patient_key(patient)
        rows = self._all(
            "SELECT chunk, MAX(version), header FROM chunks"
            " WHERE patient = ? AND confirmed = 1 AND chunk > ? GROUP BY chunk ORDER BY chunk",
            patient,
            after or "",
        )
        for chunk, version, sealed in rows:
            yield _header(key, patient, chunk, version, sealed)

    def headers_of(self, patients: Iterable[str]) -> Iterator[tuple[str, Header]]:
        """`headers` of each of these, with one statement. Raises EnvelopeError."""
        rows = self._all(
            "SELECT patient, wrapped_key, kek, chunk, MAX(version), header FROM patients"
            " JOIN chunks USING (patient) WHERE confirmed = 1"
            " AND patient IN (SELECT value FROM json_each(?))"
            " GROUP BY patient, chunk ORDER BY patient, chunk",
            _listed(patients),
        )
        for key, patient, row in self._with_keys(rows):
            yield patient, _header(key, patient, *row)

    def watch_chunks(self, changed: Callable[[int], object]) -> None:
        """`changed` is told the number of the patient of each header that is written or goes, by whatever
        statement, before that is committed."""
        self._watching.append(changed)
        if len(self._watching) > 1:
            return
        self._db.create_function("chunk_changed", 1, self._chunk_changed)
        for act, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            self._db.execute(
                f"CREATE TEMP TRIGGER chunk_changed_by_{act} AFTER {act} ON main.chunks BEGIN"  # noqa: S608
                f" SELECT chunk_changed(rowid) FROM patients WHERE patient = {row}.patient; END"
            )

    def _chunk_changed(self, number: int) -> None:
        for changed in self._watching:
            changed(number)

    def header(self, patient: str, chunk: str, version: int) -> Header:
        """One chunk's header, confirmed or not. Raises RefusedTransition (`chunk_unknown`), EnvelopeError."""
        row = self._one(
            "SELECT header FROM chunks WHERE patient = ? AND chunk = ? AND version = ?",
            patient,
            chunk,
            version,
        )
        if row is None:
            raise RefusedTransition("No header is kept for this chunk.", code="chunk_unknown")
        return _header(self.patient_key(patient), patient, chunk, version, row[0])

    def restrict_chunk(self, patient: str, chunk: str, version: int, label: str) -> None:
        """Raises RefusedTransition (`chunk_unknown`), EnvelopeError."""
        with self.transaction() as db:
            header = self.header(patient, chunk, version)
            highest = "V" if "V" in header.labels else "R"
            labels = (set(header.labels) - {"N", "R"}) | {label, highest}
            header = replace(header, labels=tuple(sorted(labels)))
            sealed = seal(self.patient_key(patient), _header_body(header), _header_aad(patient, header))
            db.execute(
                "UPDATE chunks SET header = ? WHERE chunk = ? AND version = ?", (sealed, chunk, version)
            )

    def replace_chunks(
        self, patient: str, *, confirm: Sequence[tuple[str, int]], retire: Sequence[tuple[str, int]], at: int
    ) -> None:
        """In one transaction `confirm` may be selected and `retire` are gone, with the keys that open them.

        Harmless to repeat. Raises RefusedTransition (`chunk_unknown`).
        """
        with self.transaction() as db:
            self.confirm_chunks(confirm)
            db.executemany(
                "DELETE FROM chunks WHERE chunk = ? AND version = ? AND patient = ?",
                [(*chunk, patient) for chunk in retire],
            )
            db.execute("INSERT OR REPLACE INTO regrouped VALUES (?, ?)", (patient, at))
        self.truncate_journal()  # the keys of what is retired are gone from there too

    def regrouped_at(self, patient: str) -> int:
        """When the patient's chunks were last regrouped, in seconds since 1970 UTC; -1: never."""
        row = self._one("SELECT at FROM regrouped WHERE patient = ?", patient)
        return -1 if row is None else int(row[0])

    # Consents

    def add_opening(self, opening: Opening) -> None:
        """Keep the opening; the first one kept of a consent stays."""
        body = orjson.dumps(
            {
                "canonical": opening.canonical,
                "channel": self.channel_of(opening.patient),
                "key": opening.key.hex(),
                "signature": opening.signature,
                "signature_required": opening.signature_required,
            }
        )
        key = self.patient_key(opening.patient)
        sealed = seal(key, body, _opening_aad(opening.patient, opening.consent))
        with self.transaction() as db:
            db.execute(
                "INSERT INTO consents VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (opening.consent, opening.patient, sealed),
            )

    def opening(self, consent: str) -> Opening | None:
        row = self._one("SELECT patient, opening FROM consents WHERE consent = ?", consent)
        if row is None:
            return None
        patient, sealed = row
        return _opening(self.patient_key(patient), patient, consent, sealed)

    def openings_of(self, patients: Iterable[str], *, without: Iterable[str] = ()) -> list[Opening]:
        """Every opening of these patients `without` these consents', whatever became of their grant.

        With one statement; each patient's in the order of their consents. Raises EnvelopeError.
        """
        rows = self._all(
            "SELECT patient, wrapped_key, kek, consent, opening FROM patients JOIN consents USING (patient)"
            " WHERE patient IN (SELECT value FROM json_each(?))"
            " AND consent NOT IN (SELECT value FROM json_each(?)) ORDER BY patient, consent",
            _listed(patients),
            _listed(without),
        )
        return [_opening(key, patient, *row) for key, patient, row in self._with_keys(rows)]

    def deny(self, consent: str, *, at: int) -> None:
        """From the return on, no opening rests on this consent (or access). There is no way back."""
        with self.transaction() as db:
            db.execute("INSERT INTO denied VALUES (?, ?) ON CONFLICT DO NOTHING", (consent, at))

    def is_denied(self, consents: Iterable[str]) -> bool:
        return (
            self._one(
                "SELECT 1 FROM denied WHERE consent IN (SELECT value FROM json_each(?))", _listed(consents)
            )
            is not None
        )

    # Submissions

    def submission(self, purpose: str) -> Submission | None:
        row = self._one(
            "SELECT purpose, tx_id, envelope, result, state, code, block FROM submissions"
            " WHERE purpose = ? AND state != 'invalid'",
            purpose,
        )
        if row is None:
            return None
        purpose, tx_id, envelope, result, state, code, block = row
        return Submission(purpose, tx_id, envelope, orjson.loads(result), state, code, block)

    def add_submission(self, purpose: str, *, tx_id: str, envelope: bytes, result: Json) -> None:
        """Keep the envelope before it is first sent."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO submissions (purpose, tx_id, envelope, result, state)"
                " VALUES (?, ?, ?, ?, 'prepared')",
                (purpose, tx_id, envelope, orjson.dumps(result)),
            )

    def settle(self, tx_id: str, *, state: str, code: str = "", block: int | None = None) -> None:
        with self.transaction() as db:
            db.execute(
                "UPDATE submissions SET state = ?, code = ?, block = ? WHERE tx_id = ?",
                (state, code, block, tx_id),
            )

    def tx_id(self, purpose: str) -> str:
        """The transaction that went out for this purpose, or an empty string."""
        row = self._one("SELECT tx_id FROM submissions WHERE purpose = ? AND state != 'invalid'", purpose)
        return "" if row is None else str(row[0])

    def put_batch(self, purpose: str, consents: Sequence[str]) -> None:
        """These consents are granted together, by the submission of this purpose."""
        with self.transaction() as db:
            db.executemany(
                "INSERT INTO batches VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(consent, purpose) for consent in consents],
            )

    def batch_of(self, consent: str) -> str | None:
        """The purpose of the submission that grants this consent with others, unless that is invalid."""
        row = self._one(
            "SELECT purpose FROM batches JOIN submissions USING (purpose)"
            " WHERE consent = ? AND state != 'invalid'",
            consent,
        )
        return None if row is None else str(row[0])

    def block(self, purpose: str) -> int:
        """Where what went out for this purpose was committed; -1 as long as that is not known."""
        row = self._one(
            "SELECT block FROM submissions WHERE purpose = ? AND state = 'committed' AND block IS NOT NULL",
            purpose,
        )
        return -1 if row is None else int(row[0])

    # Jobs and accesses

    def put_release(self, job: str, attempt: int, release: Release) -> None:
        """Keep what is about to be asked; a try that never took effect is written over."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO releases VALUES (?, ?, ?, ?, ?)",
                (job, attempt, orjson.dumps(release.body), release.nonce, release.issued),
            )

    def release(self, job: str, attempt: int) -> Release | None:
        row = self._one(
            "SELECT body, nonce, issued FROM releases WHERE job = ? AND attempt = ?", job, attempt
        )
        return None if row is None else Release(_parsed(row[0]), row[1], row[2])

    def last_attempt(self, job: str) -> int:
        """The highest attempt whose release took effect or still may, 0 when there is none."""
        row = self._one(
            "SELECT COALESCE(MAX(attempt), 0) FROM releases WHERE job = ? AND EXISTS"
            " (SELECT 1 FROM submissions"
            " WHERE purpose = 'release/' || job || '/' || attempt AND state != 'invalid')",
            job,
        )
        return int(row[0])

    def put_delivery(self, job: str, attempt: int, outputs: list[Json]) -> None:
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?)", (job, attempt, orjson.dumps(outputs))
            )

    def delivery(self, job: str) -> tuple[int, list[Json]] | None:
        """The attempt and the outputs `[{digest, subjects, consents}]` of the last delivery asked for."""
        row = self._one(
            "SELECT attempt, outputs FROM deliveries WHERE job = ? ORDER BY attempt DESC LIMIT 1", job
        )
        return None if row is None else (row[0], _parsed(row[1]))

    def aggregates(
        self, *, recipient: str, models: Collection[str], besides: tuple[str, int]
    ) -> list[tuple[set[str], int]]:
        """Whom each output about several that left, or still may, is about, and when its release was issued:
        of these models, to this recipient, in whatever job, but not of the attempt `besides`."""
        rows = self._all(
            "SELECT outputs, body, issued, result FROM releases JOIN deliveries USING (job, attempt)"  # noqa: S608 (the words stand in schema.py)
            " JOIN submissions ON purpose = 'deliver/' || job || '/' || attempt AND state != 'invalid'"
            f" WHERE {ASKED_BY} = ? AND {ASKED_FOR} IN (SELECT value FROM json_each(?))"
            " AND NOT (job = ? AND attempt = ?)",
            recipient,
            orjson.dumps(sorted(models)).decode(),
            *besides,
        )
        found = []
        for outputs, body, issued, result in rows:
            left = set(orjson.loads(result)["outputs"])
            about = [
                one for one in orjson.loads(outputs) if one["digest"] in left and len(one["subjects"]) > 1
            ]
            if about:
                parts = orjson.loads(body)["parts"]
                patients = {one["subject"]: one["patient"] for part in parts for one in part["subjects"]}
                found += [({patients[subject] for subject in one["subjects"]}, issued) for one in about]
        return found

    def put_access(
        self,
        access: str,
        *,
        kind: str,
        patient: str,
        details: Json,
        digest: str,
        expires: int,
        signature: Json | None = None,
    ) -> None:
        key, aad = self.patient_key(patient), _access_aad(patient, access)
        sealed = seal(key, orjson.dumps(details), aad)
        signed = None if signature is None else seal(key, orjson.dumps(signature), b"signed " + aad)
        with self.transaction() as db:
            db.execute(
                "INSERT INTO accesses VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (access, kind, patient, sealed, digest, expires, signed),
            )

    def access(self, access: str) -> Access | None:
        row = self._one("SELECT kind, patient, digest, expires FROM accesses WHERE access = ?", access)
        return None if row is None else Access(*row)

    def access_details(self, access: str) -> Json:
        """What was said of an access that is kept. Raises EnvelopeError."""
        patient, sealed = self._one("SELECT patient, details FROM accesses WHERE access = ?", access)
        return dict(orjson.loads(unseal(self.patient_key(patient), sealed, _access_aad(patient, access))))

    def access_signature(self, access: str) -> Json | None:
        """What was kept of who signed an access that is kept. Raises EnvelopeError."""
        patient, sealed = self._one("SELECT patient, signature FROM accesses WHERE access = ?", access)
        if sealed is None:
            return None
        aad = b"signed " + _access_aad(patient, access)
        return dict(orjson.loads(unseal(self.patient_key(patient), sealed, aad)))

    def begun(self, kind: str, *, at: int) -> int:
        """How many accesses of this kind have not run out by then, ended ones too."""
        row = self._one("SELECT COUNT(*) FROM accesses WHERE kind = ? AND expires > ?", kind, at)
        return int(row[0])

    def emergencies_to_complete(self, channel: str) -> list[str]:
        """Those that our organisation recorded and of which the rest did not say so yet, by their end."""
        with self.transaction() as db:
            rows = db.execute(
                "SELECT access FROM accesses JOIN patients USING (patient)"
                " WHERE kind = 'emergency' AND channel = ?"
                " AND EXISTS (SELECT 1 FROM submissions WHERE purpose = 'emergency/' || access"
                " AND state = 'committed')"
                " AND NOT EXISTS (SELECT 1 FROM submissions WHERE purpose = 'completed/' || access"
                " AND state = 'committed') ORDER BY expires, access",
                (channel,),
            ).fetchall()
        return [access for (access,) in rows]

    # Channels

    def know_channel(self, name: str, identity: str) -> None:
        """Note which ledger a channel's name means, when it is first seen.

        Raises RefusedTransition (`channel_differs`) when it meant another, or another name means this one:
        on a foreign ledger a deny would look as if it had never been given.
        """
        with self.transaction() as db:
            db.execute("INSERT INTO channels VALUES (?, ?) ON CONFLICT DO NOTHING", (name, identity))
        if self._one("SELECT identity FROM channels WHERE name = ?", name) != (identity,):
            raise RefusedTransition(
                f"The channel {name} means another ledger than before. Put its URL right.",
                code="channel_differs",
            )

    def heights(self, channel: str = HOME) -> dict[str, int]:
        """The height that each organisation showed on the channel."""
        return dict(self._all("SELECT org, height FROM heights WHERE channel = ? ORDER BY org", channel))

    def raise_heights(self, heights: Mapping[str, int], channel: str = HOME) -> None:
        """Remember the height that each organisation showed, where it is a new one."""
        known = self.heights(channel)
        if all(known.get(org, -1) >= height for org, height in heights.items()):
            return
        with self.transaction() as db:
            db.executemany(
                "INSERT INTO heights VALUES (?, ?, ?) ON CONFLICT (channel, org) DO UPDATE"
                " SET height = MAX(height, excluded.height)",
                [(channel, org, height) for org, height in heights.items()],
            )

    # The clock

    @property
    def latest(self) -> int:
        """The latest time that was ever rested on, in seconds since 1970 UTC."""
        return self._latest

    def put_latest(self, seconds: int) -> None:
        with self.transaction() as db:
            db.execute("UPDATE meta SET value = ? WHERE name = 'clock'", (b"%d" % seconds,))
        self._latest = seconds

    def counts(self) -> dict[str, int]:
        return {
            table: self._one(f"SELECT COUNT(*) FROM {table}")[0]  # noqa: S608 (the names stand here)
            for table in ("patients", "chunks", "consents", "openings")
        }


def hold(folder: Path) -> int:
    """Nobody else holds the store in this folder until the file descriptor is closed.

    Raises RefusedTransition (`store_held`).
    """
    lock = os.open(folder / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise RefusedTransition(
            "Another keyholder holds this store. Stop it first.", code="store_held"
        ) from None
    return lock


def read_only(folder: Path) -> sqlite3.Connection:
    """The store's file, also while a keyholder holds it. Raises EnvelopeError (`store_missing`)."""
    try:
        return sqlite3.connect(f"{(folder / FILE).resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        raise EnvelopeError("There is no keyholder's store in this folder.", code="store_missing") from None


@lru_cache(maxsize=MOST_PARSED)
def _parsed(body: bytes) -> Any:
    """The value, parsed once for the same bytes: whoever gets it changes nothing in it."""
    return orjson.loads(body)


def _listed(ids: Iterable[str]) -> str:
    """As one parameter of a statement, however many they are: json_each reads it."""
    return orjson.dumps(list(ids)).decode()


def _opening(key: bytes, patient: str, consent: str, sealed: bytes) -> Opening:
    body = orjson.loads(unseal(key, sealed, _opening_aad(patient, consent)))
    return Opening(
        consent,
        patient,
        body["canonical"],
        bytes.fromhex(body["key"]),
        body.get("signature"),  # openings of before signatures have none
        body.get("signature_required", False),
        body.get("channel", HOME),  # and openings of before channels are home's
    )


def _header_body(header: Header) -> bytes:
    return orjson.dumps(
        {
            "count": header.count,
            "dek": header.dek.hex(),
            "labels": list(header.labels),
            "resource_type": header.resource_type,
        }
    )


def _header(key: bytes, patient: str, chunk: str, version: int, sealed: bytes) -> Header:
    body = orjson.loads(unseal(key, sealed, b"header" + chunk_aad(patient, chunk, version)))
    return Header(
        chunk,
        version,
        body["resource_type"],
        tuple(body["labels"]),
        body["count"],
        bytes.fromhex(body["dek"]),
    )


def _header_aad(patient: str, header: Header) -> bytes:
    return b"header" + chunk_aad(patient, header.chunk, header.version)


def _index_aad(patient: str) -> bytes:
    return b"index key" + patient.encode()


def _opening_aad(patient: str, consent: str) -> bytes:
    return b"opening" + patient.encode() + b"/" + consent.encode()


def _access_aad(patient: str, access: str) -> bytes:
    return b"access" + patient.encode() + b"/" + access.encode()


def _unknown_patient() -> RefusedTransition:
    return RefusedTransition("No key is kept for this patient. Enrol first.", code="patient_unknown")


def _unwritable(error: sqlite3.OperationalError) -> GatewayError:
    """A full disk or a lost one: nothing was written, and the caller must not act as if it were."""
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_BUSY")):
        return GatewayError(
            "The keyholder cannot write to its store. Free space on its disk.", code="store_unwritable"
        )
    return InvalidInput("The keyholder's store refused a statement.", code="store_refused")

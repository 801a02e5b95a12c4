"""Permitted chunks passed on as NDJSON without being parsed: an export that takes records as they are."""

import os

from cryptography.fernet import Fernet
from django.db import connection

from gateway.bench import Row
from gateway.bench.open_and_parse import CHUNK, CHUNKS, PATIENT, RESOURCES, observation
from gateway.keyholder import envelope
from gateway.records import lines


class PassThrough(Row):
    name = "pass-through"
    unit = "resources"
    goal = "≥ 30 × the peer"
    product_is = f"{CHUNKS} chunks from the database, opened, {RESOURCES:,} lines of NDJSON"
    peer_is = "a row for each record, Fernet (no model, which would be slower yet)"
    limit_is = "one decryption in memory, its lines counted"
    needs_database = True

    def setup(self) -> None:
        received = [observation(n) for n in range(RESOURCES)]
        fernet = Fernet(Fernet.generate_key())
        self._fernet = fernet
        self._keys = [envelope.new_key() for _ in range(CHUNKS)]
        self._key = os.urandom(32)
        self._whole = envelope.seal(self._key, lines.pack(received), b"")
        blobs = [
            envelope.seal_chunk(key, lines.pack(received[n::CHUNKS]), patient=PATIENT, chunk=CHUNK, version=1)
            for n, key in enumerate(self._keys)
        ]
        kind = "bytea" if connection.vendor == "postgresql" else "blob"
        with connection.cursor() as cursor:
            for table, values in (("bench_chunks", blobs), ("bench_records", map(fernet.encrypt, received))):
                cursor.execute(f"CREATE TABLE {table} (id integer primary key, blob {kind})")
                cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s)", list(enumerate(values)))  # noqa: S608

    def teardown(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE bench_chunks")
            cursor.execute("DROP TABLE bench_records")

    def product(self) -> int:
        found = 0
        for number, blob in _all("bench_chunks"):
            key = self._keys[number]
            ndjson = envelope.open_chunk(key, bytes(blob), patient=PATIENT, chunk=CHUNK, version=1)
            found += lines.portable(ndjson).count(b"\n")
        return found

    def peer(self) -> int:
        return sum(1 for _, blob in _all("bench_records") if self._fernet.decrypt(bytes(blob)))

    def limit(self) -> int:
        return envelope.unseal(self._key, self._whole, b"").count(b"\n")


def _all(table: str) -> list[tuple[int, bytes]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, blob FROM {table} ORDER BY id")  # noqa: S608
        return list(cursor.fetchall())


ROW = PassThrough()

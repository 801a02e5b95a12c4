"""A trace over a million edges: from one sealed packet, and from a model back to all that it was given.

A real keyholder is asked over its socket, with a log of as many openings; what stands beside it is a table of
edges, which the product does not keep (docs/adr/0020-trace.md).
"""

import os
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path

import orjson
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from consent.models import Patient, Requester
from gateway.analysis.models import AIModel, Job, JobSubject, Leg
from gateway.bench import Row, beside
from gateway.bench.databases import _sqlite
from gateway.compliance import trace
from gateway.keyholder.client import Keyholder
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.schema import REFERENCE, SUBJECT
from gateway.keyholder.store import Store
from gateway.processes import Processes
from gateway.records.models import Chunk

PATIENTS, USES, PACKETS = 1_000, int(os.environ.get("BENCH_TRACE_JOBS", "100")), 10
EDGES = PATIENTS * USES * PACKETS
AT_ONCE = 5_000
_REACH = (
    "WITH RECURSIVE reach(n) AS (VALUES (?) UNION SELECT {} FROM edges JOIN reach ON {} = n)"
    " SELECT n FROM reach"
)
_LINES = f"SELECT line FROM openings WHERE {REFERENCE} = ? AND {SUBJECT} IS ?"  # noqa: S608

_FILES = "SELECT openings FROM filed WHERE reference = ? ORDER BY shelf"


class Graph:
    """An installation's database and keyholder with PATIENTS × USES × PACKETS openings, by one model."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-trace-")
        self.home = Path(self._folder.name)
        self._before = connections.databases["default"]
        connections["default"].close()
        connections.databases["default"] = {**self._before, **_sqlite(self.home)}
        del connections["default"]
        call_command("migrate", verbosity=0)
        self._fill()
        self._processes = Processes(self.home)
        beside.start(self._processes)
        self.keyholder = Keyholder(self.home / "keyholder" / "keyholder.sock")
        self.keyholder.file_openings()  # as the relay has it done, minute by minute

    def _fill(self) -> None:
        helix = Requester.objects.create(name="Helix AI")
        self.model = secrets.token_hex(32)
        AIModel.objects.create(digest=self.model, name="x", version="1", provider=helix, card={})
        patients = [Patient(name="A patient", record_id=secrets.token_hex(8)) for _ in range(PATIENTS)]
        Patient.objects.bulk_create(patients)
        now, today = timezone.now(), timezone.localdate()
        jobs = [
            Job(requester=helix, model=self.model, purpose="TREAT", index_date=today, state="done")
            for _ in range(USES)
        ]
        Job.objects.bulk_create(jobs)
        Job.objects.update(created_at=now - timedelta(days=1))
        legs = [Leg(id=job.pk, job=job, state="done") for job in jobs]
        Leg.objects.bulk_create(legs)
        self.packets = {one.pk: [secrets.token_hex(32) for _ in range(PACKETS)] for one in patients}
        self.packet = self.packets[patients[0].pk][0]
        Chunk.objects.create(id=self.packet, patient=patients[0], blob=b"")
        subjects = [
            JobSubject(job=job, leg=leg, number=n, patient=one, consent="cc" * 32, state="delivered")
            for job, leg in zip(jobs, legs, strict=True)
            for n, one in enumerate(patients)
        ]
        JobSubject.objects.bulk_create(subjects, batch_size=1_000)
        self.subjects = [(one.pk, one.job_id, str(one.patient_id)) for one in subjects]
        beside.make(self.home)
        Store(self.home / "keyholder", FileKEK(self.home / "keyholder" / "kek")).close()
        self._log()
        self._edges()

    def _log(self) -> None:
        """Openings as `log.append` writes them, but for their proofs."""
        with closing(sqlite3.connect(self.home / "keyholder" / "keyholder.sqlite3")) as db:
            db.execute("INSERT INTO proofs VALUES ('', x'')")
            rows = self._openings()
            while page := list(islice(rows, AT_ONCE)):
                db.executemany("INSERT INTO openings (line, digest, proof) VALUES (?, ?, '')", page)
            db.commit()

    def _openings(self) -> Iterator[tuple[bytes, bytes]]:
        previous, now = bytes(32), int(time.time())
        for subject, leg, patient in self.subjects:
            for packet in self.packets[patient]:
                line = orjson.dumps(
                    {
                        "at": now, "attempt": 1, "channel": None, "consents": ["cc" * 32],
                        "ground": "release", "opened": [f"{packet}/1"], "part": 0,
                        "previous": previous.hex(), "proof": "ab" * 32, "reference": leg,
                        "subjects": [subject], "tx_id": "cd" * 32,
                    }
                )  # fmt: skip
                previous = sha256(line).digest()
                yield line, previous

    def _edges(self) -> None:
        self.edges = sqlite3.connect(self.home / "edges.sqlite3")
        self.edges.execute("CREATE TABLE edges (a TEXT, b TEXT)")
        for subject, job, patient in self.subjects:
            ways = [(packet, subject) for packet in self.packets[patient]]
            self.edges.executemany("INSERT INTO edges VALUES (?, ?)", [*ways, (subject, job)])
        jobs = sorted({(job, self.model) for _, job, _ in self.subjects})
        self.edges.executemany("INSERT INTO edges VALUES (?, ?)", jobs)
        self.edges.execute("CREATE INDEX up ON edges (a, b)")
        self.edges.execute("CREATE INDEX down ON edges (b, a)")
        self.edges.commit()

    def close(self) -> None:
        self.keyholder.close()
        self._processes.stop_all()
        self.edges.close()
        connections["default"].close()
        connections.databases["default"] = self._before
        del connections["default"]
        self._folder.cleanup()


class _Trace(Row):
    unit = "edges"

    def setup(self) -> None:
        self._graph = Graph()
        path = self._graph.home / "keyholder" / "keyholder.sqlite3"
        self._store = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)

    def teardown(self) -> None:
        self._store.close()
        self._graph.close()

    def _raw(self, places: Iterable[tuple[str, str]]) -> int:
        return sum(len(self._store.execute(_LINES, place).fetchall()) for place in places)


class OfRecord(_Trace):
    name = "trace"
    goal = f"a trace in a graph of {EDGES:,} edges under 2.2 s"
    product_is = (
        f"of_packet(): {USES * PACKETS:,} edges of one patient, read from the keyholder's log, checked"
    )
    peer_is = "recursive SQL over an indexed table of edges, which nothing holds against the log"
    limit_is = "the same openings by the same index, not parsed and not checked"

    def product(self) -> int:
        found = list(trace.of_packet(self._graph.packet, self._graph.keyholder))
        assert len(found) == USES
        return sum(len(use.records) for use in found)

    def peer(self) -> int:
        self._graph.edges.execute(_REACH.format("b", "a"), (self._graph.packet,)).fetchall()
        return USES * PACKETS

    def limit(self) -> int:
        patient = next(one for one, held in self._graph.packets.items() if self._graph.packet in held)
        return self._raw((leg, subject) for subject, leg, whose in self._graph.subjects if whose == patient)


class OfModel(_Trace):
    name = "recall"
    goal = f"all {EDGES:,} edges of one model under 2.2 s ({EDGES / 2.2:,.0f} a second)"
    product_is = "of_model(): every use and every packet opened for it, as the keyholder has its log filed"
    peer_is = OfRecord.peer_is
    limit_is = (
        "the same files read from the keyholder's store and parsed: not checked, and nothing else known"
    )

    def product(self) -> int:
        return sum(len(use.records) for use in trace.of_model(self._graph.model, self._graph.keyholder))

    def peer(self) -> int:
        self._graph.edges.execute(_REACH.format("a", "b"), (self._graph.model,)).fetchall()
        return EDGES

    def limit(self) -> int:
        legs = sorted({leg for _, leg, _ in self._graph.subjects})
        files = (file for leg in legs for (file,) in self._store.execute(_FILES, (leg,)))
        return sum(len(opened) for file in files for _, _, opened in orjson.loads(file))


SEVERAL = [OfRecord(), OfModel()]

"""Taking records in, up to the sealed chunk; what follows is a few calls and rows for each patient."""

import tempfile
from collections import defaultdict
from datetime import date
from pathlib import Path

import carebundle
import orjson
from fhir.resources.R4B import get_fhir_model_class

from gateway.bench import Row
from gateway.keyholder.envelope import new_key, seal_chunk, seal_notes
from gateway.keyholder.regrouping import notes_of, resource_name
from gateway.records.fresh import digests
from gateway.records.intake import Intake, Record
from gateway.records.lines import pack
from gateway.records.sealing import note_of
from gateway.records.sources import Source

PATIENTS = 12
PATIENT, CHUNK = "1" * 64, "2" * 64


class Ingest(Row):
    name = "ingest"
    unit = "resources"
    goal = "≥ 0.85 of validation alone"
    product_is = f"NDJSON files of {PATIENTS} patients: strict reading, validation, binding, labels, sealing"
    peer_is = "fhir.resources alone, from JSON (model_validate_json)"
    limit_is = "orjson and fhir.resources alone"

    def setup(self) -> None:
        bundles = carebundle.generate_cohort(
            count=PATIENTS, seed=7, age_range=(45, 70), reference_date=date(2026, 1, 1)
        )
        self._folder = tempfile.TemporaryDirectory()
        self._paths = []
        self._lines = []
        for kind, text in sorted(carebundle.to_ndjson(bundles).items()):
            path = Path(self._folder.name) / f"{kind}.ndjson"
            path.write_text(text)
            self._paths.append(path)
            self._lines += text.encode().splitlines()
        self._kinds = [orjson.loads(line)["resourceType"] for line in self._lines]
        self.limit()  # the models are imported once in a process's life

    def teardown(self) -> None:
        self._folder.cleanup()

    def product(self) -> int:
        key = new_key()
        intake = Intake()
        count = 0
        for path in self._paths:
            groups: dict[tuple[object, ...], list[Record]] = defaultdict(list)
            with Source(path) as source:
                for record in intake.records(source):
                    if not isinstance(record, Record):
                        raise RuntimeError("The files that are measured should be without fault.")
                    groups[record.owner, record.kind, record.labels].append(record)
            for group in groups.values():
                digests(key, group)
                for one in group:
                    resource_name(key, one.resource)
                seal_chunk(key, pack(one.raw for one in group), patient=PATIENT, chunk=CHUNK, version=1)
                noted = notes_of(map(note_of, group))
                seal_notes(key, noted, patient=PATIENT, chunk=CHUNK, version=1)
                count += len(group)
        return count

    def peer(self) -> int:
        for line, kind in zip(self._lines, self._kinds, strict=True):
            get_fhir_model_class(kind).model_validate_json(line)
        return len(self._lines)

    def limit(self) -> int:
        for line in self._lines:
            body = orjson.loads(line)
            get_fhir_model_class(body["resourceType"]).model_validate(body)
        return len(self._lines)


ROW = Ingest()

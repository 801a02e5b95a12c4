"""Opening a consented selection in the job child: the data keys are there, the release is paid for."""

import json
import os

import orjson
from cryptography.fernet import Fernet

from gateway.bench import Row
from gateway.keyholder import envelope
from gateway.records import lines

RESOURCES, CHUNKS = 1_000, 4
PATIENT, CHUNK, SUBJECT, JOB = "1" * 64, "2" * 64, "3" * 64, "4" * 64


def observation(n: int) -> bytes:
    """A usual laboratory value, about 900 bytes."""
    return json.dumps(
        {
            "resourceType": "Observation",
            "id": f"obs-{n}",
            "meta": {"profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"]},
            "status": "final",
            "category": [
                {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                            "code": "laboratory",
                            "display": "Laboratory",
                        }
                    ]
                }
            ],
            "code": {
                "coding": [{"system": "http://loinc.org", "code": "2093-3", "display": "Total Cholesterol"}],
                "text": "Total Cholesterol",
            },
            "subject": {"reference": "Patient/p"},
            "encounter": {"reference": f"Encounter/{n // 5}"},
            "effectiveDateTime": f"20{n % 25:02}-0{n % 9 + 1}-11T08:15:00+01:00",
            "valueQuantity": {
                "value": 150 + n % 90,
                "unit": "mg/dL",
                "system": "http://unitsofmeasure.org",
                "code": "mg/dL",
            },
        }
    ).encode()


class SealedSelection(Row):
    """What one patient gave, in chunks for the child, record by record for the peer, in one for the limit."""

    def setup(self) -> None:
        received = [observation(n) for n in range(RESOURCES)]
        private, public = envelope.new_part_key()
        wrapper = envelope.PartWrapper(public, job=JOB, attempt=1, part=0)
        self._unwrapper = envelope.PartUnwrapper(private, job=JOB, attempt=1, part=0)
        self._chunks = []
        for first in range(CHUNKS):
            dek = envelope.new_key()
            ndjson = lines.pack(received[first::CHUNKS])
            blob = envelope.seal_chunk(dek, ndjson, patient=PATIENT, chunk=CHUNK, version=1)
            self._chunks.append((wrapper.wrap(dek, subject=SUBJECT, chunk=CHUNK, version=1), blob))
        self._fernet = Fernet(Fernet.generate_key())
        self._records = [self._fernet.encrypt(one) for one in received]
        self._key = os.urandom(32)
        self._whole = envelope.seal(self._key, b"\n".join(received), b"")


class OpenAndParse(SealedSelection):
    name = "open and parse"
    unit = "resources"
    goal = "≥ 0.90 of the limit, ≥ 11 × the peer"
    product_is = f"unwrap the DEK, AES-GCM, zstd, orjson: {RESOURCES:,} Observations in {CHUNKS} chunks"
    peer_is = "Fernet for each record, json"
    limit_is = "one AES-GCM decryption, orjson for each line"

    def product(self) -> int:
        found = 0
        for wrapped, blob in self._chunks:
            dek = self._unwrapper.unwrap(wrapped, subject=SUBJECT, chunk=CHUNK, version=1)
            ndjson = envelope.open_chunk(dek, blob, patient=PATIENT, chunk=CHUNK, version=1)
            found += sum(1 for _ in lines.resources(ndjson))
        return found

    def peer(self) -> int:
        return sum(1 for one in self._records if json.loads(self._fernet.decrypt(one)))

    def limit(self) -> int:
        opened = envelope.unseal(self._key, self._whole, b"")
        return sum(1 for line in opened.split(b"\n") if orjson.loads(line))


ROW = OpenAndParse()

"""How much memory reading an export in takes as it grows: each size in a process of its own.

What is measured is everything before a chunk is sealed (reading, validation, binding, labels and what is
remembered for labels that follow); sealing holds 64 MB of records at most and then sets them aside.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.bench import Measured

SIZES = (10_000, 50_000, 200_000)
PER_PATIENT = 200
_SCRIPT = """
import json, resource, sys, time
from pathlib import Path
from gateway.records.intake import Intake, Record
from gateway.records.sources import Source
intake, count, start = Intake(), 0, time.perf_counter()
for path in map(Path, sys.argv[1:]):
    with Source(path) as source:
        for found in intake.records(source):
            assert isinstance(found, Record), found
            count += 1
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"resources": count, "seconds": time.perf_counter() - start, "peak_kib": peak}))
"""


@dataclass(frozen=True)
class Growth:
    """One line for each size: resources, bytes, peak resident memory and rate."""

    machine: str
    lines: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        return {"machine": self.machine, "report": "ingest memory", "sizes": self.lines}

    def table(self) -> str:
        head = "| Resources | Files | Peak memory | Rate |\n|---|---|---|---|"
        rows = [
            f"| {one['resources']:,} | {one['bytes'] / 2**20:,.0f} MB | {one['peak_kib'] / 1024:,.0f} MB | "
            f"{one['resources'] / one['seconds']:,.0f} resources/s |"
            for one in self.lines
        ]
        return "\n".join([head, *rows, "", self.machine])


class IngestMemory:
    name = "ingest memory"

    def steps(self, rounds: int) -> int:
        return len(SIZES)

    def run(self, rounds: int, machine: str, step: Callable[[], None]) -> Measured:
        lines = []
        for size in SIZES:
            with tempfile.TemporaryDirectory() as folder:
                paths = write_export(Path(folder), size)
                done = subprocess.run(
                    [sys.executable, "-c", _SCRIPT, *map(str, paths)],
                    capture_output=True,
                    check=True,
                    cwd=Path(__file__).parents[2],
                )
                read = sum(path.stat().st_size for path in paths)
                lines.append({**json.loads(done.stdout), "bytes": read})
            step()
        return Growth(machine, lines)


def write_export(folder: Path, size: int) -> list[Path]:
    """`size` resources as Bulk Data, in the order that `ingest` takes them: patients, conditions, orders and
    claims that rest on them, and laboratory values. The same bytes each time."""
    paths = [folder / f"{kind}.ndjson" for kind in ("Patient", "Condition", "Observation", "Claim")]
    patient, condition, observation, claim = (path.open("w") for path in paths)
    with patient, condition, observation, claim:
        for n in range(size):
            who, at = n // PER_PATIENT, n % PER_PATIENT
            subject = {"reference": f"Patient/p{who}"}
            if at == 0:
                patient.write(_line("Patient", f"p{who}", name=[{"text": f"Person {who}"}]))
            elif at % 10 == 1:
                code = {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": f"I{n % 90 + 10}"}]}
                condition.write(_line("Condition", f"c{n}", code=code, subject=subject))
            elif at % 10 == 2:
                claim.write(_claim(n, subject))
            else:
                code = {"coding": [{"system": "http://loinc.org", "code": f"{2000 + n % 900}-3"}]}
                value = {"value": n % 300, "unit": "mg/dL"}
                more = {"status": "final", "code": code, "valueQuantity": value}
                observation.write(_line("Observation", f"o{n}", subject=subject, **more))
    return paths


def _claim(n: int, patient: dict[str, str]) -> str:
    return _line(
        "Claim",
        f"k{n}",
        status="active",
        use="claim",
        type={"text": "professional"},
        patient=patient,
        created="2026-01-01",
        provider={"display": "Riverside"},
        priority={"text": "normal"},
        insurance=[{"sequence": 1, "focal": True, "coverage": {"display": "none"}}],
        diagnosis=[{"sequence": 1, "diagnosisReference": {"reference": f"Condition/c{n - 1}"}}],
    )


def _line(kind: str, id: str, **more: Any) -> str:
    return json.dumps({"resourceType": kind, "id": id, **more}) + "\n"


REPORT = IngestMemory()

"""How much memory and time `manage.py ingest` takes as an export grows: each size in its own installation.

What is measured is the process that takes in, from its start to the last chunk that was confirmed; keyholder,
ledger and database are beside it. `BENCH_RESOURCES="10000 1000000"` names other sizes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.bench import Measured, beside
from gateway.processes import Processes

SIZES = tuple(map(int, os.environ.get("BENCH_RESOURCES", "10000 50000 200000").split()))
PER_PATIENT = 200
_SCRIPT = """
import json, os, resource, sys, time
from pathlib import Path
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
import django
django.setup()
from gateway.records.ingest import ingest
start = time.perf_counter()
report = ingest(map(Path, sys.argv[1:]))
assert not report.refused and all(one.confirmed for one in report.files), report.refused[:1]
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "resources": report.sealed,
    "seconds": time.perf_counter() - start,
    "processor_seconds": used.ru_utime + used.ru_stime,
    "peak_kib": used.ru_maxrss,
}))
"""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Growth:
    """One line for each size: resources, bytes, peak resident memory, rate, and processor time: it says more
    than the rate where other work runs beside it."""

    machine: str
    lines: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        return {"machine": self.machine, "report": "ingest memory", "sizes": self.lines}

    def table(self) -> str:
        head = "| Resources | Files | Peak memory | Rate | Processor time |\n|---|---|---|---|---|"
        rows = [
            f"| {one['resources']:,} | {one['bytes'] / 2**20:,.0f} MB | {one['peak_kib'] / 1024:,.0f} MB | "
            f"{one['resources'] / one['seconds']:,.0f} resources/s | "
            f"{one['processor_seconds'] / one['resources'] * 1e6:,.0f} µs a resource |"
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
            with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
                paths = write_export(Path(folder), size)
                with _installation(Path(folder) / "home") as environment:
                    done = subprocess.run(
                        [sys.executable, "-c", _SCRIPT, *map(str, paths)],
                        stdout=subprocess.PIPE,
                        check=True,
                        cwd=ROOT,
                        env=environment,
                    )
                read = sum(path.stat().st_size for path in paths)
                lines.append({**json.loads(done.stdout), "bytes": read})
            step()
        return Growth(machine, lines)


@contextmanager
def _installation(home: Path) -> Iterator[dict[str, str]]:
    """A ledger, a keyholder and an SQLite database; the environment that leads to them."""
    home.mkdir()
    elsewhere = ("DATABASE_URL", "KEYHOLDER_SOCKET")
    environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
    environment["GATEWAY_HOME"] = str(home)
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    beside.make(home)
    with Processes(home) as processes:
        beside.start(processes)
        yield environment


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

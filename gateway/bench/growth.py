"""How a decision grows with the consents that are kept: the keyholder's store, found, opened and decided.

`manage.py bench growth`; `BENCH_CONSENTS="1000 100000"` names other sizes. Each is a store of its own;
the consents of others are filler. What is timed is what an opening does for one patient: find her openings,
unseal them, decide.
"""

import os
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gateway.bench import Measured
from gateway.bench.one_decision import AT, OTHER, RECIPIENT, REQUEST, fhir
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.store import Opening, Store
from ledger.contract.consents import compile_consent
from ledger.contract.decision import decide

SIZES = tuple(map(int, os.environ.get("BENCH_CONSENTS", "1000 100000 10000000").split()))
PATIENTS = 20  # who are asked about, spread over the store
TIMES = 200
FILLER = 100  # bytes of a consent that nobody asks about
_AT_ONCE = 10_000


@dataclass(frozen=True)
class Growth:
    """One line for each size: consents, seconds to find and decide (median and worst), bytes on disk."""

    machine: str
    lines: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        return {"machine": self.machine, "report": "growth", "sizes": self.lines}

    def table(self) -> str:
        """With a bar for each size, as long as its median."""
        head = "| Consents | Store | Find and decide | p99 | Against the least | |\n|---|---|---|---|---|---|"
        least = self.lines[0]["median"]
        longest = max(one["median"] for one in self.lines)
        rows = [
            f"| {one['consents']:,} | {one['bytes'] / 2**20:,.0f} MB | {one['median'] * 1e6:,.0f} µs | "
            f"{one['p99'] * 1e6:,.0f} µs | {one['median'] / least:.2f} × | "
            f"{'█' * max(1, round(24 * one['median'] / longest))} |"
            for one in self.lines
        ]
        return "\n".join([head, *rows, "", self.machine])


class StoreGrowth:
    name = "growth"
    sizes = SIZES

    def steps(self, rounds: int) -> int:
        return len(self.sizes)

    def run(self, rounds: int, machine: str, step: Callable[[], None]) -> Measured:
        lines = []
        for size in self.sizes:
            with tempfile.TemporaryDirectory(prefix="bench-growth-") as folder:
                lines.append(_measure(Path(folder), size, rounds))
            step()
        return Growth(machine, lines)


def _measure(folder: Path, size: int, rounds: int) -> dict[str, Any]:
    folder.chmod(0o700)
    FileKEK.create(folder / "kek")
    store = Store(folder, FileKEK(folder / "kek"))
    try:
        patients = [secrets.token_hex(32) for _ in range(PATIENTS)]
        for patient in patients:
            _grant(store, patient)
        _fill(store, size - 2 * PATIENTS)
        taken = []
        for _ in range(rounds):
            for number in range(TIMES):
                start = time.perf_counter()
                openings = store.openings_of([patients[number % PATIENTS]])
                verdict = decide([one.canonical for one in openings], REQUEST, at=AT)
                taken.append(time.perf_counter() - start)
                if verdict.decision != "permit":
                    raise RuntimeError("The request that is measured should be permitted.")
        used = sum(path.stat().st_size for path in folder.iterdir())
    finally:
        store.close()
    taken.sort()
    return {
        "consents": size,
        "bytes": used,
        "median": median(taken),
        "p99": taken[int(len(taken) * 0.99)],
    }


def _grant(store: Store, patient: str) -> None:
    """Two consents, as in the row "one decision"."""
    store.enrol(patient)
    for recipient in (RECIPIENT, OTHER):
        consent = secrets.token_hex(32)
        canonical = compile_consent(fhir(recipient), consent=consent, patient=patient)
        store.add_opening(Opening(consent, patient, canonical, secrets.token_bytes(32)))


def _fill(store: Store, count: int) -> None:
    """Others' consents, ten for each patient, in the order of their ids."""
    filler = secrets.token_bytes(FILLER)
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count))
        with store.transaction() as db:
            db.executemany(
                "INSERT INTO patients (patient, wrapped_key, index_key) VALUES (?, ?, ?)",
                [(_id(number // 10), b"", b"") for number in numbers if number % 10 == 0],
            )
            db.executemany(
                "INSERT INTO consents VALUES (?, ?, ?)",
                [(_id(number), _id(number // 10), filler) for number in numbers],
            )


def _id(number: int) -> str:
    """Spread over all that 32 bytes may be, in the order of the numbers."""
    return f"{number * (2**256 // max(SIZES)):064x}"


REPORT = StoreGrowth()

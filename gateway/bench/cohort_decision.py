"""Whom a cohort's criteria fit, and what the contract decides of each, from sealed headers to a verdict."""

import secrets
import tempfile
from pathlib import Path

from consent.cohorts import LOOK_AT_ONCE, Criteria
from gateway.bench import Row
from gateway.bench.one_decision import AT, RECIPIENT, REQUEST, TYPES, fhir
from gateway.keyholder.kek import FileKEK
from gateway.keyholder.preselection import Preselection
from gateway.keyholder.store import Header, Store
from ledger.contract.consents import compile_consent
from ledger.contract.decision import decide

PATIENTS = 2_000
BYTES = 30  # that an array holds of a patient whom it decides
SWEEP = 1_000_000


class CohortDecision(Row):
    name = "cohort decision"
    unit = "patients"
    goal = "≥ 0.5 of memory bandwidth on an arrays path"
    product_is = (
        f"{PATIENTS:,} patients with {len(TYPES)} chunks each, held against the criteria by the keyholder's "
        "array, then the contract's decision on each one's consent"
    )
    peer_is = "a Python loop: the contract's decision alone, on consents at hand"
    limit_is = f"reading {BYTES} bytes of memory for each patient"

    def setup(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-cohort-")
        folder = Path(self._folder.name)
        folder.chmod(0o700)
        FileKEK.create(folder / "kek")
        self._store = Store(folder, FileKEK(folder / "kek"))
        self._patients = [secrets.token_hex(32) for _ in range(PATIENTS)]
        self._consents = {}
        with self._store.transaction():
            for patient in self._patients:
                self._store.enrol(patient)
                headers = [
                    Header(secrets.token_hex(32), 1, kind, ("N",), 50, secrets.token_bytes(32))
                    for kind in TYPES
                ]
                self._store.add_chunks(patient, headers)
                self._store.confirm_chunks([(one.chunk, 1) for one in headers])
                consent = secrets.token_hex(32)
                self._consents[patient] = compile_consent(fhir(RECIPIENT), consent=consent, patient=patient)
        self._criteria = Criteria(kinds=["Observation", "Condition"])
        self._found = Preselection(self._store)
        self._memory = bytes(BYTES * SWEEP)
        self._fitting()  # from now on the array has them

    def teardown(self) -> None:
        self._store.close()
        self._folder.cleanup()

    def product(self) -> int:
        return self._decide(self._fitting())

    def _fitting(self) -> list[str]:
        found: list[str] = []
        for first in range(0, PATIENTS, LOOK_AT_ONCE):
            some = self._patients[first : first + LOOK_AT_ONCE]
            found += self._criteria.fitting(some, self._found.with_kinds)
        return found

    def peer(self) -> int:
        return self._decide(self._patients)

    def _decide(self, patients: list[str]) -> int:
        for patient in patients:
            if decide([self._consents[patient]], REQUEST, at=AT).decision != "permit":
                raise RuntimeError("The request that is measured should be permitted.")
        return len(patients)

    def limit(self) -> int:
        if self._memory.count(1):
            raise RuntimeError("There is none.")
        return SWEEP


class CohortFirstLook(CohortDecision):
    """The same where nobody was looked at before: what the array is made of is unsealed first."""

    name = "cohort decision, first look"
    product_is = (
        f"{PATIENTS:,} patients with {len(TYPES)} chunks each: their headers unsealed for the keyholder's "
        "array, then the contract's decision on each one's consent"
    )

    def before(self, path: str) -> None:
        for number in self._store.numbers(self._patients).values():
            self._found.forget(number)


SEVERAL = (CohortDecision(), CohortFirstLook())

"""One file on its way in: read to its end, checked, and sealed as far as it is not here already.

Nothing of it is in the database before `keeping.py` has all of it. What is held in plaintext is bounded.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import cached_property
from tempfile import TemporaryFile
from typing import Self

from django.db import DatabaseError

from consent.channels import channel_for
from consent.models import Patient
from gateway.keyholder.client import Keyholder
from gateway.keyholder.regrouping import CUSTODIAN
from gateway.labels.labelling import FOLLOWS
from gateway.labels.rules import VERSION
from gateway.records import clinical_labels
from gateway.records.fresh import Fresh, Here, named
from gateway.records.intake import Deleted, Intake, Record, Spoiled, refusal
from gateway.records.quarantine import Aside
from gateway.records.reports import FileReport
from gateway.records.sealing import Spool, rules_of, seal
from gateway.records.sources import Place, Source
from gateway.records.spill import Spill
from gateway.records.strict_json import Refused
from gateway.statements import in_batches
from ledger.client import HOME

# Plaintext held at once while one file is read; past it, what is there is sealed and set aside.
MAX_HELD_BYTES = 16 * 1024 * 1024
# Records of whole patients that are looked up and sealed together, by two calls of the keyholder.
SEALED_AT_ONCE = 2_000
# Faulty resources of one file that a lenient run sets aside; past it, the file is refused: it is not R4.
MAX_ASIDE, MAX_ASIDE_BYTES = 10_000, 64 * 1024 * 1024
MAX_PATIENTS = 50_000  # looked-up persons that are remembered


class Run:
    """One call of `ingest`: what its files share."""

    def __init__(
        self,
        keyholder: Keyholder,
        *,
        dry_run: bool = False,
        create: bool = True,
        lenient: bool = False,
        progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.keyholder, self.progress = keyholder, progress
        self.dry_run, self.create, self.lenient = dry_run, create, lenient
        self.intake = Intake()
        self.lacked = False  # something that a record must follow was not in the files
        # record id → patient id and channel, as far as they were looked up
        self.patients: dict[str, tuple[str, str]] = {}

    @cached_property
    def custodian_key(self) -> bytes:
        """What resources are named by. Raises GatewayError."""
        return self.keyholder.enrol_many(channels={CUSTODIAN: HOME})[CUSTODIAN]

    def find(self, record_ids: Iterable[str]) -> None:
        """Look up which of these persons are known. Whom it asked about before may be forgotten."""
        if len(self.patients) > MAX_PATIENTS and not self.dry_run:
            self.patients.clear()
        for some in in_batches(one for one in record_ids if one not in self.patients):
            try:
                rows = Patient.objects.filter(record_id__in=some).values_list("record_id", "pk", "channel")
                self.patients.update((record_id or "", (pk, channel)) for record_id, pk, channel in rows)
            except DatabaseError:
                if not self.dry_run:
                    raise
                return  # a dry run needs no database: nobody is known yet


class Arriving:
    """A context manager; what it has set aside is gone with it.

    made       where the file is only checked: persons whom earlier sections make known
    seen       names of this file's resources, with a number of the version that came first; digests of others
    labelled   versions that are here under older rules: JSON lines of whose, and their labels by today's
    deleted    resources, `Type/id`; `again`: names that came again after their deletion
    new        persons whom the file makes known, by record id
    unsettled  whose older records are touched
    passing_on patients to whose records clinicians gave labels that pass along
    """

    def __init__(
        self,
        run: Run,
        source: Source,
        report: FileReport,
        *,
        made: Spill | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self.run, self.source, self.report, self.made = run, source, report, made
        self.progress = progress or run.progress
        with ExitStack() as opened:
            self.spool = opened.enter_context(Spool())
            self.seen = opened.enter_context(closing(Spill()))
            self.labelled = opened.enter_context(TemporaryFile())
            self._opened = opened.pop_all()
        self.deleted: list[bytes] = []
        self.again: list[str] = []
        self.new: dict[str, Patient] = {}
        self.unsettled: set[str] = set()
        self.passing_on: set[str] = set()
        self.aside: list[Aside] = []
        self._aside_size = 0
        self._held: dict[str | None, list[Record]] = defaultdict(list)
        self._size = 0
        self._places: dict[str, Place] = {}  # where each owner was named first

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    # 1. Read and check

    def read(self) -> None:
        """Read to the end. With the first refusal nothing is held any more, but all faults are told."""
        done = self.source.start
        for found in self.run.intake.records(self.source):
            if isinstance(found, Spoiled):
                self._spoiled(found)
                continue
            if isinstance(found, Deleted):
                self.deleted.append(found.resource)
                self.report.deleted += 1
                continue
            self.progress(max(found.place.offset + found.place.length - done, 0))
            done = max(done, found.place.offset + found.place.length)
            self._count(found)
            if self._is_only_checked or self.report.state == "refused":
                continue
            self._held[found.owner].append(found)
            self._size += len(found.raw)
            if self._size > MAX_HELD_BYTES:
                self._check_owners()
                if self.report.state != "refused":
                    self.seal()
        self._check_owners()
        self.progress(max(self.source.start + self.source.size - done, 0))

    @property
    def _is_only_checked(self) -> bool:
        return self.run.dry_run or self.made is not None

    def _spoiled(self, found: Spoiled) -> None:
        """Set it aside where that is wanted and can be, or refuse the file."""
        if not self.run.lenient or found.raw is None or found.place is None:
            self.report.refuse(*found.refusals)
        elif self.report.aside == MAX_ASIDE or self._aside_size > MAX_ASIDE_BYTES:
            said = f"has more faulty resources than are set aside ({MAX_ASIDE:,}): it is refused whole"
            self.report.refuse(refusal(self.source, Refused("too_many_faults", said), None))
        else:
            self.report.tell(*found.refusals)
            self.report.aside += 1
            if not self._is_only_checked and self.report.state != "refused":
                self.aside.append(Aside(found.raw, found.place, found.refusals, self.run.intake.addresses))
                self._aside_size += len(found.raw)
        if self.report.state == "refused":
            self._held.clear()
            self.aside.clear()

    def _count(self, found: Record) -> None:
        self.report.by_type[found.kind] += 1
        self.report.withheld += "unlabelled" in found.labels
        if found.owner is not None:
            self._places.setdefault(found.owner, found.place)
        if found.person is not None and self.run.create:
            person = found.person
            self.new.setdefault(
                person.record_id,
                Patient(
                    record_id=person.record_id,
                    name=person.name,
                    birth_date=person.birth_date,
                    channel=channel_for(person.custodian),
                ),
            )

    def _check_owners(self) -> None:
        """Every person is known, or is made known by a Patient resource of this file."""
        self.run.find(self._places)
        for owner, place in self._places.items():
            if owner in self.run.patients or owner in self.new or (self.made and owner in self.made):
                continue
            fault = Refused(
                "unknown_patient", "is of a patient who is not known here; take in the Patient first"
            )
            if not self.run.lenient:
                self.report.refuse(refusal(self.source, fault, place))
                continue
            for one in self._held.pop(owner, []):
                found = refusal(self.source, fault, one.place)
                self._spoiled(Spoiled((found,), one.place, one.raw))
                self.report.by_type[one.kind] -= 1
            if self.run.dry_run:
                self.report.tell(refusal(self.source, fault, place))
        self._places = {owner: at for owner, at in self._places.items() if owner not in self.run.patients}

    # 2. Seal what is new

    def seal(self) -> None:
        """Seal what is held, as far as it is not here already, into the spool."""
        self.run.find(self._held.keys() - {None})  # type: ignore[arg-type]
        for record_id in self.new.keys() & self.run.patients.keys():
            del self.new[record_id]
        for some in self._in_parts():
            self._seal(some)
        self._held.clear()
        self._size = 0

    def _in_parts(self) -> Iterator[dict[str | None, list[Record]]]:
        part: dict[str | None, list[Record]] = {}
        size = 0
        for owner, records in self._held.items():
            part[owner] = records
            size += len(records)
            if size >= SEALED_AT_ONCE:
                yield part
                part, size = {}, 0
        if part:
            yield part

    def _seal(self, held: dict[str | None, list[Record]]) -> None:
        places = {owner: self._place(owner) for owner in held}
        keys = self.run.keyholder.enrol_many(channels=dict(places.values()))
        came = {
            patient: named(keys[patient], self.run.custodian_key, held[owner])
            for owner, (patient, _) in places.items()
        }
        known = (patient for owner, (patient, _) in places.items() if owner not in self.new)
        here = Here(one for patient in known for one in came[patient])
        found = {patient: self._fresh(patient, some, here) for patient, some in came.items()}
        fresh = {patient: some for patient, some in found.items() if some}
        if fresh:
            seal(self.run.keyholder, fresh, self.spool)
        self.report.sealed += sum(map(len, fresh.values()))

    def _place(self, owner: str | None) -> tuple[str, str]:
        """Whose key seals the records, and the channel of that patient's consents."""
        if owner is None:
            return CUSTODIAN, HOME
        if (new := self.new.get(owner)) is not None:
            return new.pk, new.channel
        return self.run.patients[owner]

    def _fresh(self, patient: str, came: list[Fresh], here: Here) -> list[Fresh]:
        """Those that are in no chunk yet, each once; notes what is to be regrouped because of them."""
        found, labelled = [], {}
        for one in came:
            if one.digest in here.gone:
                continue
            if one.digest in here.rules:
                if here.rules[one.digest] != VERSION:
                    said = one.record
                    labelled[one.digest] = said.labels, said.basis, one.name, said.codes
            elif not here.is_deleted(one) and self._is_first(one, patient):
                if one.name in here.deleted:
                    self.again.append(one.name)
                if one.name in here.older:
                    self.unsettled.add(patient)
                self.run.lacked = self.run.lacked or rules_of(one.record) == ""
                found.append(one)
        if labelled and clinical_labels.passing_on([patient]):
            # What follows others is left to the keyholder: it knows of clinicians' labels, and we do not.
            self.passing_on.add(patient)
            labelled = {one: said for one, said in labelled.items() if FOLLOWS not in said[3]}
        if labelled:
            self.report.labelled += len(labelled)
            self.labelled.write(json.dumps([patient, labelled]).encode() + b"\n")
        return found

    def _is_first(self, one: Fresh, patient: str) -> bool:
        """Whether this file said it for the first time; where it said something else before of the same
        resource, the patient's records are to be regrouped."""
        number = int(one.digest[:15], 16)  # of 60 bits: a database's integer holds it
        before = self.seen.get(one.name)
        if before is None:
            self.seen[one.name] = number
            return True
        if before == number or one.digest in self.seen:
            return False
        self.seen[one.digest] = number
        self.unsettled.add(patient)
        return True

"""From a file to records: each resource read, validated, bound to its patient and labelled, or refused.

No Django, no database, no keyholder: this is all that a dry run does.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from gateway.labels.labelling import UNLABELLED, Labels, label, noted
from gateway.labels.rules import FOLLOWED, ORDER
from gateway.records.sources import BundleEntry, BundleFault, Place, Source, deleted
from gateway.records.spill import Spill
from gateway.records.strict_json import MAX_RESOURCE_BYTES, Parsed, Refused, read
from gateway.records.validation import People, validate

_PLAIN = ("N",)


@dataclass(frozen=True)
class Refusal:
    """One reason why a file was not taken in. `line` and `offset` (bytes) are None for all of it.

    `message` goes on from the element or the file: "Observation.status is required".
    """

    file: str
    line: int | None
    offset: int | None
    element: str
    code: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.element or 'this'} {self.message} [{self.code}]"


@dataclass(frozen=True)
class Person:
    """What a Patient resource says of the person that it is about; `custodian` is managingOrganization."""

    record_id: str
    name: str
    birth_date: date | None
    custodian: str = ""


class Record(NamedTuple):
    """One resource to seal. `name` is type, id, version and digest of the bytes: what makes it this version.

    owner   id of the Patient resource; None for a resource of no patient
    labels  the contract's labels, sorted; UNLABELLED alone where the rules cannot tell
    basis   why, as `labels.Labels.basis`; empty where UNLABELLED
    person  of a Patient resource
    updated, version   meta.lastUpdated and meta.versionId, as received
    codes   those that label rules can speak of, as `labelling.noted` writes them
    """

    raw: bytes
    kind: str
    owner: str | None
    labels: tuple[str, ...]
    name: bytes
    place: Place
    basis: tuple[str, ...] = ()
    person: Person | None = None
    updated: str = ""
    version: str = ""
    codes: tuple[str, ...] = ()

    @property
    def resource(self) -> bytes:
        """`Type/id`."""
        kind, id, _ = self.name.split(b"/", 2)
        return kind + b"/" + id

    @property
    def versioned(self) -> bytes:
        """`Type/id/_history/versionId`."""
        return self.resource + b"/_history/" + self.version.encode()


class Deleted(NamedTuple):
    """A resource that the source has deleted, `Type/id`. Whose it was is not said."""

    resource: bytes
    place: Place


class Spoiled(NamedTuple):
    """What cannot be taken in: `refusals` say why. `raw` is the resource's bytes, None where it is no one
    resource that is at fault: the file cannot be read on, or a line is too long to be held."""

    refusals: tuple[Refusal, ...]
    place: Place | None = None
    raw: bytes | None = None


class Known:
    """The labels of resources by `Type/id`, of however many: each distinct set is kept once, and a number
    for each resource, on disk past a bound."""

    def __init__(self) -> None:
        self._numbers = Spill()
        self._by_labels: dict[Labels | None, int] = {}
        self._labels: list[Labels | None] = []

    def get(self, name: str) -> Labels | None:
        number = self._numbers.get(name)
        return None if number is None else self._labels[number]

    def __setitem__(self, name: str, labels: Labels | None) -> None:
        if labels not in self._by_labels:
            self._by_labels[labels] = len(self._labels)
            self._labels.append(labels)
        self._numbers[name] = self._by_labels[labels]


@dataclass
class Intake:
    """Reads files one after the other; labels of one file are known to those that follow.

    addresses  fullUrl → `Type/id` in the file that is being read
    """

    known: Known = field(default_factory=Known)
    addresses: Mapping[str, str] = field(default_factory=dict)

    def records(self, source: Source) -> Iterator[Record | Spoiled | Deleted]:
        """Everything in the file. It is all the caller's to take or to leave."""
        self.addresses = source.addresses
        return self._lines(source) if source.is_ndjson else self._bundle(source)

    def _lines(self, source: Source) -> Iterator[Record | Spoiled | Deleted]:
        people = People(self.addresses)
        for place, raw in source.lines():
            if raw is None:
                said = f"is a line of more than {MAX_RESOURCE_BYTES // 2**20} MB"
                yield Spoiled((refusal(source, Refused("line_too_long", said), place),))
                continue
            record, faults = self._record(raw, place, people, self.known, is_checked=source.is_checked)
            if faults and faults[0].code == "type_not_taken":
                body = read(raw).body
                if body.get("resourceType") == "Bundle" and body.get("type") == "transaction":
                    yield from _deletions(source, body, raw, place)
                    continue
            yield record or _spoiled(source, faults, place, raw)

    def _bundle(self, source: Source) -> Iterator[Record | Spoiled | Deleted]:
        try:
            entries = list(source.entries())
            self.addresses = _addresses(entries)
        except BundleFault as fault:
            yield Spoiled((refusal(source, fault, fault.place),))
            return
        people = People(self.addresses)
        patients = [entry.id for entry in entries if entry.kind == "Patient" and not entry.is_deleted]
        whose = patients[0] if patients else None
        known: dict[str, Labels | None] = {}
        for entry in sorted(entries, key=lambda one: ORDER.get(one.kind, 1)):
            place = entry.place
            if entry.is_deleted:
                yield Deleted(f"{entry.kind}/{entry.id}".encode(), place)
                continue
            raw = source.at(place)
            record, faults = self._record(raw, place, people, known)
            if record is not None:
                if entry.full_url and entry.kind in FOLLOWED:
                    known[entry.full_url] = known.get(f"{record.kind}/{entry.id}")
                if record.owner is not None and record.owner != (whose := whose or record.owner):
                    record = None
                    said = "is of another patient than this Bundle; a Bundle holds the records of one"
                    faults = [Refused("another_patient", said, element=entry.kind)]
            yield record or _spoiled(source, faults, place, raw)

    def _record(
        self,
        raw: bytes,
        place: Place,
        people: People,
        known: Known | dict[str, Labels | None],
        *,
        is_checked: bool = False,
    ) -> tuple[Record | None, list[Refused]]:
        try:
            parsed = read(raw)
            if not is_checked and (faults := validate(parsed.body, people.bundle)):
                return None, faults
            owner = people.owner(parsed)
        except Refused as fault:
            return None, [fault]
        body = parsed.body
        kind, identifier = body["resourceType"], body["id"]
        labels = label(body, known, parsed.codings)
        codes = (UNLABELLED,) if labels is None else labels.codes
        if kind in FOLLOWED and not (kind == "Observation" and codes == _PLAIN):
            known[f"{kind}/{identifier}"] = labels
        meta = body.get("meta") or {}
        version = meta.get("versionId", "")
        name = f"{kind}/{identifier}/{version}/".encode() + hashlib.sha256(raw).digest()
        person = _person(parsed) if kind == "Patient" else None
        basis = () if labels is None else labels.basis
        updated, said = meta.get("lastUpdated", ""), noted(body, parsed.codings)
        return Record(raw, kind, owner, codes, name, place, basis, person, updated, version, said), []


def _deletions(
    source: Source, bundle: Mapping[str, Any], raw: bytes, place: Place
) -> Iterator[Deleted | Spoiled]:
    """A line of a Bulk Data export's `deleted` files: a Bundle whose entries delete, and nothing else."""
    try:
        entries = bundle.get("entry", [])
        if not isinstance(entries, list):
            raise Refused("wrong_type", "must be a list", element="Bundle.entry")
        found = []
        for number, entry in enumerate(entries):
            element = f"Bundle.entry[{number}]"
            if not isinstance(entry, dict) or "resource" in entry:
                raise Refused(
                    "type_not_taken", "stands in a line; a line holds deletions alone", element=element
                )
            found.append(deleted(entry.get("request"), element))
    except Refused as fault:
        yield _spoiled(source, [fault], place, raw)
        return
    for kind, id in found:
        yield Deleted(f"{kind}/{id}".encode(), place)


def _spoiled(source: Source, faults: list[Refused], place: Place, raw: bytes) -> Spoiled:
    return Spoiled(tuple(refusal(source, fault, place, raw) for fault in faults), place, raw)


def refusal(source: Source, fault: Refused, place: Place | None, raw: bytes = b"") -> Refusal:
    """The fault with its place in the file."""
    if place is None:
        return Refusal(str(source.path), None, None, fault.element, fault.code, fault.message)
    line, offset = place.line, place.offset
    if fault.offset is not None:
        line, offset = line + raw[: fault.offset].count(b"\n"), offset + fault.offset
    element = fault.element
    if place.entry and not element.startswith("Bundle"):
        _, dot, rest = element.partition(".")
        element = f"{place.entry}.resource{dot}{rest}"
    return Refusal(str(source.path), line, offset, element, fault.code, fault.message)


def _addresses(entries: list[BundleEntry]) -> dict[str, str]:
    """fullUrl → `Type/id`. Two resources at one address would let a reference mean either."""
    found: dict[str, str] = {}
    for entry in entries:
        meant = f"{entry.kind}/{entry.id}"
        # FHIR R4, Bundle.entry.fullUrl: absolute. A relative one could rename another's reference.
        if entry.full_url and (":" not in entry.full_url or found.get(entry.full_url, meant) != meant):
            fault = Refused(
                "full_url", "must be absolute, and of one resource", element=f"{entry.place.entry}.fullUrl"
            )
            raise BundleFault(fault, entry.place)
        if entry.full_url:
            found[entry.full_url] = meant
    return found


def _person(parsed: Parsed) -> Person:
    body = parsed.body
    names: list[dict[str, Any]] = body.get("name") or [{}]
    chosen = next((name for name in names if name.get("use") == "official"), names[0])
    parts = [*(chosen.get("given") or []), chosen.get("family")]
    text = chosen.get("text") or " ".join(part for part in parts if part) or "Name not recorded"
    try:
        birth_date = date.fromisoformat(body.get("birthDate", ""))
    except ValueError:
        birth_date = None  # FHIR allows a year or a month alone
    custodian = (body.get("managingOrganization") or {}).get("reference", "")
    return Person(body["id"], text[:200], birth_date, custodian)

"""Records as a typed table: one row for each coded value, with its time, unit and the resource that said so.

For models that want columns instead of resources. Observations and their components, Conditions and
medication orders are read by a typed decoder that passes over every other element; nothing is guessed.
No Django, no database: the job child and `manage.py features` use it. docs/features.md has the columns.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from gateway.analysis.catalogue.evidence import Evidence
from gateway.analysis.catalogue.units import UCUM, UnknownUnit, convert
from gateway.records.lines import as_received, unpack
from ledger.contract import times

KINDS = {"Observation": "observation", "Condition": "condition", "MedicationRequest": "medication"}
# A unit that is wanted for a result, by `system|code`.
Units = Mapping[str, str]


class Row(NamedTuple):
    """One coded statement of one resource.

    subject      whoever the table calls the patient
    kind         observation, condition or medication
    start, end   seconds since 1970 (UTC): what the time as written can mean, or null
    value, unit  a quantity, in the unit that was wanted, else in UCUM as received; null where there is none
    comparator   the value is a bound, not a measure: <, <=, >=, >
    value_system, value_code   a coded answer
    status       of the result or order; of a condition its clinicalStatus
    problem      why value, unit or code is null though something stands there: unknown_unit, not_ucum,
                 by_reference
    source, digest   `Type/id`, and SHA-256 (hex) of the resource as received
    """

    subject: str
    kind: str
    system: str | None
    code: str | None
    start: int | None
    end: int | None
    value: float | None
    unit: str | None
    comparator: str | None
    value_system: str | None
    value_code: str | None
    status: str | None
    problem: str | None
    source: str
    digest: str


class _Coding(msgspec.Struct, frozen=True, gc=False):
    system: str | None = None
    code: str | None = None


class _Concept(msgspec.Struct, frozen=True, gc=False):
    coding: tuple[_Coding, ...] = ()


class _Quantity(msgspec.Struct, frozen=True, gc=False):
    value: float | None = None
    comparator: str | None = None
    system: str | None = None
    code: str | None = None


class _Period(msgspec.Struct, frozen=True, gc=False):
    start: str | None = None
    end: str | None = None


class _Meta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    version_id: str = ""
    last_updated: str = ""


class _Part(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    code: _Concept = _Concept()
    value_quantity: _Quantity | None = None
    value_codeable_concept: _Concept | None = None


class _Resource(_Part, frozen=True, gc=False, rename="camel"):
    resource_type: str = ""
    id: str = ""
    meta: _Meta = _Meta()
    status: str | None = None
    clinical_status: _Concept = _Concept()
    effective_date_time: str | None = None
    effective_instant: str | None = None
    effective_period: _Period = _Period()
    onset_date_time: str | None = None
    onset_period: _Period = _Period()
    recorded_date: str | None = None
    authored_on: str | None = None
    medication_codeable_concept: _Concept | None = None
    component: tuple[_Part, ...] = ()


# Results of one visit share their time.
_moment = lru_cache(maxsize=4096)(times.span)
_decode = msgspec.json.Decoder(_Resource).decode
_NO_CODE = (_Coding(),)
# coding, value, unit, comparator, coded answer, problem
_Statement = tuple[_Coding, float | None, str | None, str | None, _Coding, str | None]
_NOTHING = (None, None, None, _NO_CODE[0])


class Table:
    """Rows of one or many patients. Of several versions of a resource the newest counts."""

    def __init__(self, units: Units | None = None) -> None:
        self._units = units or {}
        self._rows: dict[tuple[str, str], tuple[tuple[str, int], list[Row]]] = {}

    def add_chunk(self, ndjson: bytes, subject: str) -> None:
        """All resources of an opened chunk, or of NDJSON as a source sends it."""
        for line in unpack(ndjson):
            self.add(line, subject)

    def add(self, line: bytes, subject: str) -> None:
        """One resource that was validated when it came in. One of another type is passed over."""
        self._add(_decode(line), hashlib.sha256(as_received(line)).hexdigest(), subject)

    def add_evidence(self, evidence: Evidence, subject: str) -> None:
        """What a model was given to read."""
        for each in evidence.resources:
            self._add(msgspec.convert(each.body, _Resource), each.digest, subject)

    def __iter__(self) -> Iterator[Row]:
        """Sorted by subject and source."""
        for _, (_, rows) in sorted(self._rows.items()):
            yield from rows

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` with typed columns; `start` and `end` are timestamps. Raises ImportError."""
        import pyarrow as pa

        text, moment = pa.dictionary(pa.int32(), pa.string()), pa.timestamp("s", tz="UTC")
        types = {
            "start": moment,
            "end": moment,
            "value": pa.float64(),
            "source": pa.string(),
            "digest": pa.string(),
        }
        schema = pa.schema([(name, types.get(name, text)) for name in Row._fields])
        columns = list(zip(*self, strict=True)) or [()] * len(Row._fields)
        arrays = [pa.array(list(column), each.type) for column, each in zip(columns, schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _add(self, found: _Resource, digest: str, subject: str) -> None:
        kind = KINDS.get(found.resource_type)
        if kind is None:
            return
        source = f"{found.resource_type}/{found.id}"
        version = found.meta.version_id
        stamp = (found.meta.last_updated, int(version) if version.isascii() and version.isdigit() else 0)
        known = self._rows.get((subject, source))
        if known is not None and stamp < known[0]:
            return
        start, end = _span(found)
        status = found.status
        if kind == "observation":
            said = self._results(found)
        elif kind == "condition":
            status = next((one.code for one in found.clinical_status.coding), None)
            said = [(one, *_NOTHING, None) for one in found.code.coding or _NO_CODE]
        else:
            concept = found.medication_codeable_concept
            problem = "by_reference" if concept is None else None
            said = [(one, *_NOTHING, problem) for one in _codings(concept)]
        rows = [
            Row(
                subject, kind, coding.system, coding.code, start, end, value, unit, comparator, answer.system,
                answer.code, status, problem, source, digest,
            )
            for coding, value, unit, comparator, answer, problem in said
        ]  # fmt: skip
        self._rows[subject, source] = (stamp, rows)

    def _results(self, found: _Resource) -> list[_Statement]:
        """Of the observation and its components. A panel has values in its components alone; its own code
        still says that it was taken."""
        said: list[_Statement] = []
        for part in (found, *found.component) if found.component else (found,):
            answer = _codings(part.value_codeable_concept)[0]
            comparator = part.value_quantity.comparator if part.value_quantity else None
            for one in part.code.coding or _NO_CODE:
                value, unit, problem = self._quantity(part.value_quantity, one)
                said.append((one, value, unit, comparator, answer, problem))
        return said

    def _quantity(
        self, quantity: _Quantity | None, coding: _Coding
    ) -> tuple[float | None, str | None, str | None]:
        if quantity is None or quantity.value is None:
            return None, None, None
        wanted = self._units.get(f"{coding.system}|{coding.code}")
        if quantity.system != UCUM or quantity.code is None:
            return (None, None, "not_ucum") if wanted else (quantity.value, None, "not_ucum")
        if wanted is None or wanted == quantity.code:
            return quantity.value, quantity.code, None
        try:
            value = convert(Decimal(repr(quantity.value)), unit=quantity.code, to=wanted)
        except UnknownUnit:
            return None, wanted, "unknown_unit"
        return float(value), wanted, None


def of_chunks(chunks: Iterable[bytes], subject: str, units: Units | None = None) -> Table:
    table = Table(units)
    for ndjson in chunks:
        table.add_chunk(ndjson, subject)
    return table


def _codings(concept: _Concept | None) -> tuple[_Coding, ...]:
    return concept.coding if concept is not None and concept.coding else _NO_CODE


def _span(found: _Resource) -> tuple[int | None, int | None]:
    at = found.effective_date_time or found.effective_instant or found.onset_date_time
    at = at or found.authored_on
    period = found.effective_period if found.resource_type == "Observation" else found.onset_period
    first, last = (at, at) if at else (period.start or period.end, period.end or period.start)
    if not first:
        first = last = found.recorded_date
    if not first or not last:
        return None, None
    begins = _moment(first)
    ends = begins if last == first else _moment(last)
    return (begins[0], ends[1]) if begins and ends else (None, None)

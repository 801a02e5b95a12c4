"""Records as a typed table: one row for each coded value, with its time, unit and the resource that said so.

For models that want columns instead of resources. Observations and their components, Conditions and
medication orders are read by a typed decoder that passes over every other element; nothing is guessed.
No Django, no database: the job child and `manage.py features` use it. docs/features.md has the columns.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from gateway.analysis.catalogue.evidence import Evidence
from gateway.analysis.catalogue.units import UCUM, UnknownUnit, convert
from gateway.records.lines import as_received, unpack
from ledger.contract import times

KINDS = {"Observation": "observation", "Condition": "condition", "MedicationRequest": "medication"}
# A unit that is wanted for a result, by `system|code`.
Units = Mapping[str, str]
Span = tuple[int | None, int | None]


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


_ABSENT = msgspec.Raw(b"")
_NOTHING, _NO_QUANTITY, _NO_TIME = _Concept(), _Quantity(), (None, None)


class _Part(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    code: msgspec.Raw = _ABSENT  # as text, which is the same in a thousand resources: _Shapes reads it once
    value_quantity: _Quantity = _NO_QUANTITY
    value_codeable_concept: _Concept | None = None


class _Resource(_Part, frozen=True, gc=False, rename="camel"):
    resource_type: str = ""
    id: str = ""
    meta: _Meta = _Meta()
    status: str | None = None
    clinical_status: _Concept = _NOTHING
    effective_date_time: str | None = None
    effective_instant: str | None = None
    effective_period: _Period = _Period()
    onset_date_time: str | None = None
    onset_period: _Period = _Period()
    recorded_date: str | None = None
    authored_on: str | None = None
    medication_codeable_concept: msgspec.Raw = _ABSENT
    component: tuple[_Part, ...] = ()


_MANY = 16_384  # of what is remembered
_AT_ONCE = 256  # resources that are held decoded, be a chunk as large as it may
_decode = msgspec.json.Decoder(_Resource).decode
_decode_concept = msgspec.json.Decoder(_Concept).decode


class _Shape(NamedTuple):
    """What a row says beside its patient, time, value and source: a few of these serve all rows."""

    kind: str
    system: str | None
    code: str | None
    unit: str | None
    comparator: str | None
    value_system: str | None
    value_code: str | None
    status: str | None
    problem: str | None


class Table:
    """Rows of one or many patients. Of several versions of a resource the newest counts."""

    def __init__(self, units: Units | None = None) -> None:
        self._shapes = _Shapes(units or {})
        self._moments = _Moments()
        # A column for each thing that is told of a resource, in the order that they came,
        self._subjects: list[str] = []
        self._sources: list[str] = []
        self._versions: list[_Meta] = []
        self._spans: list[Span] = []
        self._digests: list[str] = []
        # and of a row: its resource by number, its shape, its value.
        self._parents: list[int] = []
        self._said: list[int] = []
        self._values: list[float | None] = []

    def add_chunk(self, ndjson: bytes, subject: str) -> None:
        """All resources of an opened chunk, or of NDJSON as a source sends it."""
        # Looking for a carriage return once in all is cheaper than once in each.
        raw = as_received if b"\r" in ndjson else bytes
        lines = unpack(ndjson)
        while some := list(islice(lines, _AT_ONCE)):
            found = list(map(_decode, some))
            if any(one.resource_type not in KINDS for one in found):
                these = [n for n, one in enumerate(found) if one.resource_type in KINDS]
                found, some = [found[n] for n in these], [some[n] for n in these]
            self._add(found, [hashlib.sha256(raw(line)).hexdigest() for line in some], subject)

    def add(self, received: bytes, subject: str) -> None:
        """One resource as a source sends it, that was validated. One of another type is passed over."""
        self._add([_decode(received)], [hashlib.sha256(received).hexdigest()], subject)

    def add_evidence(self, evidence: Evidence, subject: str) -> None:
        """What a model was given to read."""
        found = [_decode(msgspec.json.encode(each.body)) for each in evidence.resources]
        self._add(found, [each.digest for each in evidence.resources], subject)

    def __iter__(self) -> Iterator[Row]:
        """Sorted by subject and source."""
        for row in self._rows():
            n = self._parents[row]
            shape = self._shapes.all[self._said[row]]
            yield Row(
                self._subjects[n], *shape[:3], *self._spans[n], self._values[row], *shape[3:],
                self._sources[n], self._digests[n],
            )  # fmt: skip

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` with typed columns; `start` and `end` are timestamps. Raises ImportError."""
        import pyarrow as pa

        number, text, moment = pa.int32(), pa.string(), pa.timestamp("s", tz="UTC")
        rows = self._rows()
        parents = pa.array([self._parents[row] for row in rows], number)
        of_resource = {
            "subject": pa.array(self._subjects, pa.dictionary(number, text)),
            "start": pa.array([start for start, _ in self._spans], moment),
            "end": pa.array([end for _, end in self._spans], moment),
            "source": pa.array(self._sources, text),
            "digest": pa.array(self._digests, text),
        }
        columns = {name: each.take(parents) for name, each in of_resource.items()}
        columns["value"] = pa.array([self._values[row] for row in rows], pa.float64())
        columns |= self._shapes.to_arrow([self._said[row] for row in rows])
        return pa.table({name: columns[name] for name in Row._fields})

    def _rows(self) -> Sequence[int]:
        """The rows that count, sorted by subject and source."""
        newest: Iterable[int] = range(len(self._sources))
        if len(set(self._sources)) < len(self._sources):
            newest = self._newest()
        order = sorted(newest, key=self._sources.__getitem__)
        order.sort(key=self._subjects.__getitem__)
        if len(self._parents) == len(order):
            return order  # one row each
        place = {n: at for at, n in enumerate(order)}
        rows = [row for row, n in enumerate(self._parents) if n in place]
        return sorted(rows, key=lambda row: place[self._parents[row]])

    def _newest(self) -> Iterable[int]:
        newest: dict[tuple[str, str], int] = {}
        for n, key in enumerate(zip(self._subjects, self._sources, strict=True)):
            known = newest.get(key)
            if known is None or _stamp(self._versions[n]) >= _stamp(self._versions[known]):
                newest[key] = n
        return newest.values()

    def _add(self, found: Sequence[_Resource], digests: Sequence[str], subject: str) -> None:
        """Resources with their digests. A chunk has one type; what has several is taken type by type."""
        kinds = {one.resource_type for one in found}
        if len(kinds) > 1:
            for kind in kinds & KINDS.keys():
                these = [n for n, one in enumerate(found) if one.resource_type == kind]
                self._add([found[n] for n in these], [digests[n] for n in these], subject)
            return
        if not kinds & KINDS.keys():
            return
        count = len(self._sources)
        parents: Sequence[int] = range(count, count + len(found))
        parts: Sequence[_Part] = found
        statuses = [one.status for one in found]
        if kinds == {"Condition"}:
            statuses = [next((each.code for each in one.clinical_status.coding), None) for one in found]
        elif kinds == {"MedicationRequest"}:
            parts = [_Part(one.medication_codeable_concept) for one in found]
        elif any(one.component for one in found):
            # A panel has values in its components alone; its own code still says that it was taken.
            sizes = [1 + len(one.component) for one in found]
            parents = [n for n, size in zip(parents, sizes, strict=True) for _ in range(size)]
            statuses = [status for status, size in zip(statuses, sizes, strict=True) for _ in range(size)]
            parts = [part for one in found for part in (one, *one.component)]
        known = self._shapes.of(found[0].resource_type, statuses, parts)
        moments = self._moments
        spans = [moments[at] if (at := one.effective_date_time) else _span(one, moments) for one in found]
        values = [
            part.value_quantity.value if read is None else read(part.value_quantity.value)
            for part, (_, reads) in zip(parts, known, strict=True)
            for read in reads
        ]
        self._subjects += [subject] * len(found)
        self._sources += [f"{one.resource_type}/{one.id}" for one in found]
        self._versions += [one.meta for one in found]
        self._spans += spans
        self._digests += digests
        if len(values) > len(parents):
            parents = [n for n, (shapes, _) in zip(parents, known, strict=True) for _ in shapes]
        self._parents += parents
        self._said += [shape for shapes, _ in known for shape in shapes]
        self._values += values


# How a value that was received is read for one row; None where it stays as it is.
_Read = Callable[[Any], float | None] | None
# kind, status, code, answer, then of the quantity: comparator, system, code, and whether it has no value
_Statement = tuple[str, str | None, bytes, _Concept | None, str | None, str | None, str | None, bool]
# The shapes of the rows that a statement makes, one for each coding, and how the value of each is read.
_Known = tuple[tuple[int, ...], tuple[_Read, ...]]


class _Shapes:
    """Every shape by its number. A statement that was met before costs one look-up."""

    def __init__(self, units: Units) -> None:
        self.all: list[_Shape] = []
        self._units = units
        self._numbers: dict[_Shape, int] = {}
        self._met: dict[_Statement, _Known] = {}

    def of(self, kind: str, statuses: Iterable[str | None], parts: Iterable[_Part]) -> list[_Known]:
        met, learn = self._met.get, self._learn
        statements = [
            (
                kind, status, bytes(part.code), part.value_codeable_concept, quantity.comparator,
                quantity.system, quantity.code, quantity.value is None,
            )
            for status, part in zip(statuses, parts, strict=True)
            for quantity in (part.value_quantity,)
        ]  # fmt: skip
        return [met(statement) or learn(statement) for statement in statements]

    def to_arrow(self, rows: Sequence[int]) -> dict[str, Any]:
        """A column for each field of the rows' shapes. What no row says is in none of them."""
        import pyarrow as pa

        encoded = pa.dictionary(pa.int32(), pa.string())
        places = {shape: place for place, shape in enumerate(set(rows))}
        said = pa.array(
            [self.all[shape]._asdict() for shape in places],
            pa.struct([(name, encoded) for name in _Shape._fields]),
        )
        columns = said.take(pa.array([places[shape] for shape in rows], pa.int32())).flatten()
        return dict(zip(_Shape._fields, columns, strict=True))

    def _learn(self, statement: _Statement) -> _Known:
        kind, status, text, answer, comparator, system, code, empty = statement
        codings = _decode_concept(text).coding if text else ()
        answered = answer.coding[0] if answer and answer.coding else _Coding()
        shapes, reads = [], []
        for one in codings or (_Coding(),):
            unit, problem, read = (None, None, None) if empty else self._unit(one, system, code)
            if kind == "MedicationRequest" and not text:
                problem = "by_reference"
            shape = _Shape(
                KINDS[kind], one.system, one.code, unit, comparator, answered.system, answered.code, status,
                problem,
            )  # fmt: skip
            number = self._numbers.setdefault(shape, len(self.all))
            if number == len(self.all):
                self.all.append(shape)
            shapes.append(number)
            reads.append(read)
        if len(self._met) == _MANY:
            self._met.clear()
        known = self._met[statement] = tuple(shapes), tuple(reads)
        return known

    def _unit(
        self, coding: _Coding, system: str | None, code: str | None
    ) -> tuple[str | None, str | None, _Read]:
        """The unit of a value in its row, what is the matter with it, and how the value comes to it."""
        wanted = self._units.get(f"{coding.system}|{coding.code}")
        if system != UCUM or code is None:
            return None, "not_ucum", _drop if wanted else None
        if wanted is None or wanted == code:
            return code, None, None
        read = partial(_convert, unit=code, to=wanted)
        try:
            read(1.0)
        except UnknownUnit:
            return wanted, "unknown_unit", _drop
        return wanted, None, read


def _drop(value: float) -> None:
    return None


def _convert(value: float, *, unit: str, to: str) -> float:
    return float(convert(Decimal(repr(value)), unit=unit, to=to))


def of_chunks(chunks: Iterable[bytes], subject: str, units: Units | None = None) -> Table:
    table = Table(units)
    for ndjson in chunks:
        table.add_chunk(ndjson, subject)
    return table


def _stamp(meta: _Meta) -> tuple[str, int]:
    version = meta.version_id
    return meta.last_updated, int(version) if version.isascii() and version.isdigit() else 0


def _span(found: _Resource, moments: Mapping[str, Span]) -> Span:
    at = found.effective_date_time or found.effective_instant or found.onset_date_time or found.authored_on
    if at:
        return moments[at]
    period = found.effective_period if found.resource_type == "Observation" else found.onset_period
    first, last = period.start or period.end, period.end or period.start
    if not first or not last:
        first = last = found.recorded_date or ""
    (start, _), (_, end) = moments[first], moments[last]
    return _NO_TIME if start is None or end is None else (start, end)


# A time as it is mostly written, which Python reads in a third of the time.
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-](?:0\d|1[0-3]):[0-5]\d)", re.ASCII)


class _Moments(dict[str, Span]):
    """`times.span` of each text, with null for what is no time. Results of one visit share theirs."""

    def __missing__(self, text: str) -> Span:
        span = None
        if _INSTANT.fullmatch(text):
            try:
                second = int(datetime.fromisoformat(text).timestamp())
                span = (second, second + 1)
            except ValueError:  # a leap second; no such day
                pass
        self[text] = known = span or times.span(text) or _NO_TIME
        return known

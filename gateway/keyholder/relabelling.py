"""Labels sealed records anew when the rules have changed, by the keyholder's own rules, for nobody to read.

Pure functions over bytes: no file, no clock, no ledger. `survey` tells from headers and notes alone which
chunks newer rules may concern; `label_anew` opens those, and says how their records are labelled today. What
then moves between chunks is regrouping.py's. `open_sealed` is the only caller.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from gateway.keyholder.regrouping import (
    UNLABELLED,
    Changes,
    Held,
    Line,
    Note,
    open_lines,
    open_noted,
    resource_name,
)
from gateway.keyholder.store import Header
from gateway.labels.labelling import FOLLOWS, Labels, label, noted
from gateway.labels.rules import FOLLOWED, ORDER, STATEMENTS, VERSION
from gateway.labels.versions import difference

# Of one call over its records. References of one rank go against their order seldom, and not so deep.
PASSES = 8


@dataclass(frozen=True)
class Doubt:
    """What newer rules may concern of one patient.

    ranks     the chunks, with the order in which they are to be labelled: what is referred to comes first
    followed  whether others' labels may follow from theirs
    """

    ranks: Mapping[str, int] = field(default_factory=dict)
    followed: bool = False


@dataclass(frozen=True)
class Neighbour:
    """A chunk in which something stands that records refer to; its own records stay sealed."""

    patient: str
    header: Header
    held: Held


def survey(headers: Mapping[str, Header], held: Mapping[str, Held], *, patient: str, followed: bool) -> Doubt:
    """The chunks in doubt among these: no record is opened to know it.

    A chunk is in doubt when it was found so before, when the difference between a line's rules and today's
    concerns it, or when its labels follow from others and such are in doubt (or were elsewhere: `followed`).

    Raises EnvelopeError.
    """
    notes = {chunk: open_noted(header, held[chunk], patient) for chunk, header in headers.items()}
    found = {
        chunk for chunk, header in headers.items() if any(_is_in_doubt(header, note) for note in notes[chunk])
    }
    followed = followed or any(headers[chunk].resource_type in FOLLOWED for chunk in found)
    if followed:
        found |= {
            chunk
            for chunk, header in headers.items()
            if _follows(header.resource_type)
            and any(note.codes is None or FOLLOWS in note.codes for note in notes[chunk])
        }
    return Doubt({chunk: ORDER.get(headers[chunk].resource_type, 1) for chunk in sorted(found)}, followed)


@dataclass(frozen=True)
class Anew:
    """What the rules say of the records of some chunks.

    waiting   lines that cannot be told yet, because what they follow is itself in doubt: no change names
              them, so they stay withheld as they are, and come again
    wanted    names of what records refer to and that was not at hand: nothing else is told then
    """

    changes: Changes = field(default_factory=Changes)
    waiting: Sequence[Line] = ()
    wanted: Sequence[str] = ()


def label_anew(
    headers: Mapping[str, Header],
    held: Mapping[str, Held],
    neighbours: Sequence[Neighbour] | None,
    *,
    patient: str,
    index_key: bytes,
) -> Anew:
    """The labels of every record in these chunks by today's rules, or the names that are wanted for it.

    `index_key` is the custodian's, which names resources. Without `neighbours` what records refer to and is
    in none of these chunks is named; with them it is then taken for absent, and a record that must follow it
    is withheld. Raises EnvelopeError.
    """
    notes = {chunk: open_noted(headers[chunk], held[chunk], patient) for chunk in headers}
    known = _Known(index_key)
    doubtful: set[str] = set()
    for one in neighbours or ():
        for name, note in zip(one.held.names, open_noted(one.header, one.held, one.patient), strict=False):
            known.put(name, _passed_on(note))
            if _is_in_doubt(one.header, note):
                doubtful.add(name)
    records: list[_Record] = []
    for chunk in sorted(headers, key=lambda one: ORDER.get(headers[one].resource_type, 1)):
        lines = open_lines(headers[chunk], held[chunk], patient)
        for number, (raw, note) in enumerate(zip(lines, notes[chunk], strict=True)):
            body = orjson.loads(raw)
            # By the record itself: what the caller names so could be another.
            name = resource_name(index_key, f"{body['resourceType']}/{body['id']}".encode())
            records.append(_Record((chunk, number), name, note, body))
            known.put(name, None)
    found: dict[Line, Labels | None] = {}
    changed = records
    for _ in range(PASSES):
        before = dict(found)
        for record in records:
            found[record.line] = _labelled(record, known)
            known.put(record.name, _with_added(found[record.line], record.note))
        changed = [one for one in records if one.line not in before or before[one.line] != found[one.line]]
        if not changed:
            break
    if known.wanted and neighbours is None:
        return Anew(wanted=sorted(known.wanted))
    doubtful -= {record.name for record in records}
    waiting = _waiting(records, changed, doubtful)
    label = [_entry(one, found[one.line]) for one in records if one.line not in waiting]
    return Anew(Changes(label=label), sorted(waiting))


@dataclass(frozen=True)
class _Record:
    line: Line
    name: str
    note: Note
    body: dict[str, Any]
    asked: set[str] = field(default_factory=set)  # the names that it refers to


class _Known:
    """Labels by reference, as `labelling.label` looks them up.

    missed  a reference led to nothing here, or to what is withheld
    asked   the names that were looked up
    """

    def __init__(self, index_key: bytes) -> None:
        self._key = index_key
        self._labels: dict[str, Labels | None] = {}
        self.wanted: set[str] = set()
        self.missed = False
        self.asked: set[str] = set()

    def put(self, name: str, labels: Labels | None) -> None:
        if name:
            self._labels[name] = labels

    def get(self, reference: str, /) -> Labels | None:
        names = [resource_name(self._key, one.encode()) for one in _resources(reference)]
        self.asked.update(names)
        for name in names:
            if name in self._labels:
                found = self._labels[name]
                self.missed = self.missed or found is None
                return found
        self.wanted.update(names)
        self.missed = True
        return None


def _resources(reference: str) -> Iterator[str]:
    """`Type/id` of what a reference may name: a Bundle's `urn:uuid:` does not say the type."""
    if reference.startswith("urn:uuid:"):
        yield from (f"{kind}/{reference.removeprefix('urn:uuid:')}" for kind in sorted(FOLLOWED))
    elif reference.partition("/")[0] in FOLLOWED and reference.count("/") == 1:
        yield reference


def _labelled(record: _Record, known: _Known) -> Labels | None:
    known.missed, known.asked = False, record.asked
    labels = label(record.body, known)
    if labels is not None and known.missed and "followed" in record.note.basis:
        # It followed something that is not at hand any more: what that gave it stays.
        return labels.joined(Labels.of(record.note.labels))
    return labels


def _waiting(records: Iterable[_Record], changed: Sequence[_Record], doubtful: Iterable[str]) -> set[Line]:
    """The lines that still changed in the last pass, and all that follow, over whatever is between, from
    those or from what is in doubt elsewhere."""
    followers: dict[str, list[_Record]] = defaultdict(list)
    for record in records:
        for name in record.asked:
            followers[name].append(record)
    waiting = {record.line for record in changed}
    names = [*doubtful, *(record.name for record in changed)]
    while names:
        for record in followers.pop(names.pop(), ()):
            if record.line not in waiting:
                waiting.add(record.line)
                names.append(record.name)
    return waiting


def _with_added(labels: Labels | None, note: Note) -> Labels | None:
    """What passes along references: the rules' labels and those that clinicians added. What they lifted from
    one record was lifted from no other."""
    codes = (UNLABELLED,) if labels is None else labels.codes
    return Labels.of(replace(note, labels=codes, lifted={}).effective)


def _passed_on(note: Note) -> Labels | None:
    return _with_added(Labels.of(note.labels), note)


def _entry(
    record: _Record, labels: Labels | None
) -> tuple[Line, tuple[str, ...], tuple[str, ...], str, tuple[str, ...]]:
    codes, basis = ((UNLABELLED,), ()) if labels is None else (labels.codes, labels.basis)
    return record.line, codes, basis, VERSION, noted(record.body)


def _is_in_doubt(header: Header, note: Note) -> bool:
    return (UNLABELLED in header.labels and UNLABELLED not in note.labels) or difference(note.rules).concerns(
        header.resource_type, note.codes
    )


def _follows(kind: str) -> bool:
    statement = STATEMENTS.get(kind)
    return statement is not None and bool(statement.follows or statement.must)

"""Moves the lines of sealed chunks between chunks: sealed in, sealed out, no record read by anybody.

Pure functions over bytes: no file, no clock, no ledger. A line is cut at its line break and never parsed.
What is known of each line (its labels with their basis, its version) stands in the chunk's notes, which are
sealed under the chunk's own data key and kept beside the blob. `open_sealed` is the only caller.
"""

import hmac
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from gateway.keyholder.envelope import new_key, open_chunk, open_notes, seal_chunk, seal_notes
from gateway.keyholder.store import Header
from ledger.contract.state import Json
from ledger.errors import EnvelopeError, InvalidInput

# Under whose key resources of no patient are kept. No consent names it, so no job opens them.
CUSTODIAN = "0" * 64
MAX_CHUNK_BYTES = 8 * 1024 * 1024
# So many small chunks of one type and one set of labels are sealed as one.
MOST_TAILS = 4
SMALL_BYTES = 256 * 1024
UNLABELLED = "unlabelled"
CONFIDENTIALITIES = frozenset({"N", "R", "V"})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Line = tuple[str, int]  # a chunk, and the number of a line in it, from 0
Labels = tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """What is known of one line: the labels that rules gave it with their basis and the rules' version, what
    clinicians added and lifted (code → the act's id), FHIR's meta.lastUpdated and meta.versionId, and the
    codes that rules can speak of (labelling.noted; None where none were noted)."""

    labels: Labels
    basis: tuple[str, ...] = ()
    rules: str = ""
    added: Mapping[str, str] = field(default_factory=dict)
    lifted: Mapping[str, str] = field(default_factory=dict)
    updated: str = ""
    version: str = ""
    codes: tuple[str, ...] | None = None

    @property
    def effective(self) -> Labels:
        """The rules' labels with what clinicians said of them; what cannot be labelled stays withheld."""
        if UNLABELLED in self.labels or not (self.added or self.lifted):
            return self.labels
        said = set(self.labels)
        sensitivity = (said - CONFIDENTIALITIES - self.lifted.keys()) | self.added.keys()
        confidentiality = next(iter(said & CONFIDENTIALITIES), "N")
        if confidentiality != "V":
            kept = confidentiality if "source" in self.basis else "N"
            confidentiality = "R" if sensitivity else kept
        return tuple(sorted({confidentiality, *sensitivity}))

    @property
    def age(self) -> tuple[int, int]:
        """Orders the versions of one resource: meta.lastUpdated in microseconds, then a numeric versionId.

        -1 for what was not said.
        """
        version = int(self.version) if self.version.isdecimal() and len(self.version) < 19 else -1
        return instant(self.updated), version


@dataclass(frozen=True)
class Held:
    """A chunk as the database keeps it. `notes` is empty for one of before there were notes.

    `names`, where they are asked for: `resource_name` of each line, "" where there is none.
    """

    version: int
    blob: bytes
    notes: bytes
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Changes:
    """What is to become of the lines.

    same    groups of lines that are versions of one resource, as they came: the newest stays
    drop    lines that are deleted, with meta.lastUpdated of the deletion ("": whatever their age)
    label   lines that rules label anew: labels, basis, the rules' version, and the codes that are noted
    add     lines to which a clinician adds a sensitivity, with the act's id
    lift    lines from which a clinician lifts one
    merge   chunks that are sealed as one where there are many of their kind
    """

    same: Sequence[Sequence[Line]] = ()
    drop: Sequence[tuple[Line, str]] = ()
    label: Sequence[tuple[Line, Labels, tuple[str, ...], str, tuple[str, ...]]] = ()
    add: Sequence[tuple[Line, str, str]] = ()
    lift: Sequence[tuple[Line, str, str]] = ()
    merge: Sequence[str] = ()

    @classmethod
    def read(cls, body: Json) -> "Changes":
        """Of JSON with lists where this has tuples. Raises InvalidInput."""
        try:
            return cls(
                same=[[_line(one) for one in group] for group in body.get("same", ())],
                drop=[(_line(one), _text(until)) for one, until in body.get("drop", ())],
                label=[
                    (_line(one), _texts(labels), _texts(basis), _text(rules), _texts(codes))
                    for one, labels, basis, rules, codes in body.get("label", ())
                ],
                add=[(_line(one), _text(code), _text(act)) for one, code, act in body.get("add", ())],
                lift=[(_line(one), _text(code), _text(act)) for one, code, act in body.get("lift", ())],
                merge=[_text(one) for one in body.get("merge", ())],
            )
        except (TypeError, ValueError):
            raise InvalidInput("The field changes is malformed.") from None


@dataclass(frozen=True)
class NewChunk:
    """A chunk that was sealed here. `lines` says where each of its lines was before, in their order."""

    header: Header
    blob: bytes
    notes: bytes
    lines: list[Line]


@dataclass(frozen=True)
class Regrouped:
    """`retired` are the chunks that were opened, and that `chunks` replace; `notes` are the new notes of
    chunks that stay as they are.

    Nothing was changed where names are `wanted`: of resources that records follow, and that were not at hand.
    Lines, as they were sent, are `waiting` where rules could not speak of them yet: they stay withheld.
    """

    chunks: Sequence[NewChunk] = ()
    retired: Sequence[str] = ()
    notes: Mapping[str, bytes] = field(default_factory=dict)
    wanted: Sequence[str] = ()
    waiting: Sequence[Line] = ()


def resource_name(index_key: bytes, resource: bytes) -> str:
    """What finds all versions of a resource (`Type/id`): 16 bytes in hex, under the custodian's index key."""
    return hmac.digest(index_key, b"name " + resource, "sha256")[:16].hex()


def instant(text: str) -> int:
    """FHIR's instant in microseconds since 1970 UTC; -1 for what is none."""
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, TypeError):  # TypeError: without a zone
        return -1


def notes_of(notes: Iterable[Note]) -> bytes:
    """As they are sealed: one JSON array, what is empty left out."""
    return orjson.dumps([_said(one) for one in notes])


def _said(note: Note) -> Json:
    said = {name: value for name, value in vars(note).items() if value}
    said["labels"] = note.labels
    if note.codes is not None:  # that there are none is known too
        said["codes"] = note.codes
    return said


def regroup(
    headers: Mapping[str, Header], held: Mapping[str, Held], changes: Changes, *, patient: str
) -> Regrouped:
    """Open the chunks that the changes touch, and no others, and seal their lines in new ones.

    Raises InvalidInput for a line that is not there, EnvelopeError.
    """
    # 1. What is noted of each line, with no record opened; a chunk of before notes says it by its header.
    before = {chunk: open_noted(headers[chunk], held[chunk], patient) for chunk in headers}
    after = {chunk: list(notes) for chunk, notes in before.items()}
    gone = _apply(changes, after)
    decided = {line for line, *_ in changes.label}
    unexplained = {chunk: _unexplained(headers[chunk], before[chunk], changes) for chunk in headers}

    def labels_of(line: Line) -> Labels:
        chunk, number = line
        # What is withheld in doubt of newer rules (relabelling.py) stays so until they have spoken.
        if UNLABELLED in headers[chunk].labels and line not in decided:
            return headers[chunk].labels
        note = after[chunk][number]
        return _joined(note.effective, unexplained[chunk] - note.lifted.keys())

    # 2. A chunk is touched when one of its lines goes or has other labels than its header, or to be merged.
    touched = set(_merged(headers, held, changes.merge))
    for chunk, notes in after.items():
        lines = ((chunk, number) for number in range(len(notes)))
        if any(line in gone or labels_of(line) != headers[chunk].labels for line in lines):
            touched.add(chunk)
    # 3. Lines of one type and one set of labels come together, in the order in which they came.
    groups: dict[tuple[str, Labels], list[tuple[Line, Note, bytes]]] = defaultdict(list)
    for chunk in sorted(touched):
        for number, raw in enumerate(open_lines(headers[chunk], held[chunk], patient)):
            line = chunk, number
            if line not in gone:
                labels = labels_of(line)
                groups[headers[chunk].resource_type, labels].append((line, after[chunk][number], raw))
    chunks = [
        _sealed(kind, labels, piece, patient)
        for (kind, labels), group in sorted(groups.items())
        for piece in _pieces(group)
    ]
    rewritten = {
        chunk: _seal_notes(headers[chunk], after[chunk], patient)
        for chunk in after.keys() - touched
        if after[chunk] != before[chunk]
    }
    return Regrouped(chunks, sorted(touched), rewritten)


def _apply(changes: Changes, notes: Mapping[str, list[Note]]) -> set[Line]:
    """Changes `notes`; the lines that go."""

    def at(line: Line) -> Note:
        try:
            return notes[line[0]][line[1]]
        except LookupError:
            raise InvalidInput("The changes name a line that is not there.", code="line_unknown") from None

    gone: set[Line] = set()
    for line, labels, basis, rules, codes in changes.label:
        notes[line[0]][line[1]] = replace(at(line), labels=labels, basis=basis, rules=rules, codes=codes)
    for line, code, act in changes.add:
        note = at(line)
        lifted = {name: by for name, by in note.lifted.items() if name != code}
        notes[line[0]][line[1]] = replace(note, added={**note.added, code: act}, lifted=lifted)
    for line, code, act in changes.lift:
        note = at(line)
        added = {name: by for name, by in note.added.items() if name != code}
        notes[line[0]][line[1]] = replace(note, added=added, lifted={**note.lifted, code: act})
    for group in changes.same:
        *older, newest = sorted(group, key=lambda line: at(line).age)  # of equal ones the last that came
        for line in older:
            # What a clinician said holds for the resource, whichever version of it stays.
            note, kept = at(line), at(newest)
            notes[newest[0]][newest[1]] = replace(
                kept, added={**note.added, **kept.added}, lifted={**note.lifted, **kept.lifted}
            )
            gone.add(line)
    for line, until in changes.drop:
        note = at(line)
        if instant(note.updated) <= instant(until) or not until:
            gone.add(line)
    return gone


def _unexplained(header: Header, notes: Iterable[Note], changes: Changes) -> frozenset[str]:
    """Sensitivities that stand in the header alone: a clinician's word that no note has yet stays, on every
    line, until changes say of which line it was."""
    said = {code for note in notes for code in (*note.effective, *note.added)}
    said |= {code for line, code, _ in changes.add if line[0] == header.chunk}
    return frozenset(_sensitivities(header.labels) - said)


def _sensitivities(labels: Labels) -> set[str]:
    return set(labels) - CONFIDENTIALITIES - {UNLABELLED}


def _joined(labels: Labels, more: frozenset[str]) -> Labels:
    if not more:
        return labels
    highest = "V" if "V" in labels else "R"
    return tuple(sorted({*labels, *more, highest} - {"N"}))


def _merged(headers: Mapping[str, Header], held: Mapping[str, Held], wanted: Sequence[str]) -> list[str]:
    groups: dict[tuple[str, Labels], list[str]] = defaultdict(list)
    for chunk in wanted:
        if chunk not in headers:
            raise InvalidInput("The changes name a chunk that is not there.", code="chunk_unknown")
        if len(held[chunk].blob) <= SMALL_BYTES:
            groups[headers[chunk].resource_type, headers[chunk].labels].append(chunk)
    return [chunk for group in groups.values() if len(group) > MOST_TAILS for chunk in group]


def open_noted(header: Header, held: Held, patient: str) -> list[Note]:
    """What is noted of each line; no record is opened. Raises EnvelopeError."""
    if not held.notes:
        # Which of them were a clinician's word cannot be told any more: no rule takes any away.
        added = dict.fromkeys(sorted(_sensitivities(header.labels)), "")
        return [Note(header.labels, added=added)] * header.count
    raw = open_notes(header.dek, held.notes, patient=patient, chunk=header.chunk, version=header.version)
    notes = [_note(one) for one in orjson.loads(raw)]
    if len(notes) != header.count:
        raise EnvelopeError("The notes of a chunk do not fit it.", code="notes_differ")
    return notes


def _note(said: Json) -> Note:
    lists: Json = {name: tuple(said[name]) for name in ("labels", "basis", "codes") if name in said}
    return Note(**(said | lists))


def open_lines(header: Header, held: Held, patient: str) -> list[bytes]:
    """The lines of the chunk itself. Raises EnvelopeError."""
    raw = open_chunk(header.dek, held.blob, patient=patient, chunk=header.chunk, version=header.version)
    lines = raw.split(b"\n")[:-1]
    if len(lines) != header.count:
        raise EnvelopeError("A chunk has another number of lines than its header.", code="lines_differ")
    return lines


Piece = list[tuple[Line, Note, bytes]]


def _pieces(group: Piece) -> Iterable[Piece]:
    """None above MAX_CHUNK_BYTES unless one line is."""
    piece: Piece = []
    size = 0
    for one in group:
        if piece and size + len(one[2]) > MAX_CHUNK_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(one)
        size += len(one[2])
    yield piece


def _sealed(kind: str, labels: Labels, piece: Piece, patient: str) -> NewChunk:
    header = Header(os.urandom(32).hex(), 1, kind, labels, len(piece), new_key())
    lines = b"".join(raw + b"\n" for _, _, raw in piece)
    blob = seal_chunk(header.dek, lines, patient=patient, chunk=header.chunk, version=header.version)
    notes = _seal_notes(header, [note for _, note, _ in piece], patient)
    return NewChunk(header, blob, notes, [line for line, _, _ in piece])


def _seal_notes(header: Header, notes: Iterable[Note], patient: str) -> bytes:
    return seal_notes(
        header.dek, notes_of(notes), patient=patient, chunk=header.chunk, version=header.version
    )


def _line(value: Any) -> Line:
    chunk, number = value
    if type(number) is not int or number < 0:
        raise ValueError
    return _text(chunk), number


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value

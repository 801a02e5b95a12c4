"""In which sealed packets a FHIR resource lies, and in which it lay before: by keyed names, opening nothing.

A packet's content never changes: whatever was opened of it held then what it held when it was sealed.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from django.utils.translation import gettext as _

from consent.models import Patient
from gateway.keyholder.client import Keyholder
from gateway.records.models import Chunk, Gone, Moved, ResourceVersion
from ledger.errors import InvalidInput, RefusedTransition

_REFERENCE = re.compile(r"[A-Z][A-Za-z]{1,40}/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?")
_HISTORY = "/_history/"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """The packets of one patient that matter for a record; ids of chunks.

    now     hold it
    before  held it, for certain
    maybe   were sealed again, with others, in a packet that held it: one of them did
    lost    it was sealed again before it was written down where from: any packet of the patient's that
            stands no more may have held it
    stands  the packets of the patient that stand
    """

    patient: Patient
    now: frozenset[str]
    before: frozenset[str]
    maybe: frozenset[str]
    lost: bool
    stands: frozenset[str]

    def held_by(self, opened: set[str]) -> str:
        """Whether it was among these packets: "yes", "maybe" or ""."""
        if opened & (self.now | self.before):
            return "yes"
        if opened & self.maybe:
            return "maybe"
        return "maybe" if self.lost and opened - self.stands else ""


def reference_of(text: str) -> str:
    """`Type/id`, or `Type/id/_history/versionId` for one version: as typed, or of the resource's own JSON.

    Raises InvalidInput (`record_reference`), which never quotes it.
    """
    text = text.strip()
    if text.startswith("{"):
        try:
            resource = json.loads(text)
            version = resource.get("meta", {}).get("versionId")
            text = f"{resource['resourceType']}/{resource['id']}" + (
                f"{_HISTORY}{version}" if version else ""
            )
        except (ValueError, KeyError, AttributeError, RecursionError):
            text = ""
    if not _REFERENCE.fullmatch(text):
        raise InvalidInput(
            _("A record is named so: Condition/123. One version of it: Condition/123/_history/2."),
            code="record_reference",
        )
    return text


def whereabouts(reference: str, *, keyholder: Keyholder, patient: Patient | None = None) -> list[Whereabouts]:
    """Where this record lies and lay, for each patient whose it is; of one patient only, where one is given.

    Raises InvalidInput (`record_reference`, `unknown_record`), KeyholderUnavailable.
    """
    reference = reference_of(reference)
    try:
        name = keyholder.resource_name(resource=reference)
    except RefusedTransition:
        raise unknown() from None  # nothing was ever taken in
    by = {"version" if _HISTORY in reference else "name": name}
    now: dict[str, set[str]] = defaultdict(set)
    gone: dict[str, set[str]] = defaultdict(set)
    for whose, chunk in ResourceVersion.objects.filter(**by).values_list("chunk__patient", "chunk"):
        now[whose].add(chunk)
    for whose, chunk in Gone.objects.filter(**by).values_list("patient", "chunk"):
        gone[whose].add(chunk)
    patients = Patient.objects.filter(pk__in={*now, *gone} - {None})
    if patient is not None:
        patients = patients.filter(pk=patient.pk)
    found = [_of(one, now[one.pk], gone[one.pk], whole=_HISTORY not in reference) for one in patients]
    if not found:
        raise unknown()
    return found


def unknown() -> InvalidInput:
    """What is said of a record that is not there, and of one that is not for whoever asks."""
    return InvalidInput(
        _("No patient’s record here has this name, or no version of it. Look at each letter."),
        code="unknown_record",
    )


def sealed_from(chunks: set[str]) -> dict[str, set[str]]:
    """For each of these packets, and of all that they were sealed from, the packets that gave it lines."""
    sources: dict[str, set[str]] = {}
    frontier = set(chunks)
    while frontier:
        sources.update((one, set()) for one in frontier)
        for old, new in Moved.objects.filter(new__in=frontier).values_list("old", "new"):
            sources[new].add(old)
        frontier = {old for one in frontier for old in sources[one]} - sources.keys() - {""}
    return sources


def standing(patient: Patient) -> set[str]:
    return set(Chunk.objects.filter(patient=patient, retired_at=None).values_list("pk", flat=True))


def _of(patient: Patient, now: set[str], gone: set[str], *, whole: bool) -> Whereabouts:
    sources = sealed_from(now | gone)
    sure = {one for each in now | gone for one in _line_of(each, sources)}
    # Of a version that was gone before it was written down where, nothing says what it was a version of.
    unnamed = whole and Gone.objects.filter(patient=patient, chunk="").exists()
    return Whereabouts(
        patient,
        frozenset(now),
        frozenset(sure - now),
        frozenset(sources.keys() - sure),
        unnamed or any("" in each for each in sources.values()),
        frozenset(standing(patient)),
    )


def _line_of(chunk: str, sources: dict[str, set[str]]) -> Iterator[str]:
    """The packet, and each before it as long as there was only one that its lines can have come from."""
    yield chunk
    while len(sources[chunk]) == 1 and (chunk := next(iter(sources[chunk]))):
        yield chunk

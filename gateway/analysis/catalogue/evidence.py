"""Reading FHIR R4 resources for a model: codes, times, quantities, and which resource said so.

Everything here looks only at what lies at or before the index date, and only at what is asserted:
final results, confirmed diagnoses, orders in force.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"
ICD10 = frozenset(
    {
        "http://hl7.org/fhir/sid/icd-10",
        "http://hl7.org/fhir/sid/icd-10-cm",
        "http://fhir.de/CodeSystem/bfarm/icd-10-gm",
    }
)

RESULT_STATUSES = ("final", "amended", "corrected")
REFUTED = frozenset({"entered-in-error", "refuted", "unconfirmed", "provisional", "differential"})
OVER = frozenset({"inactive", "resolved"})

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Resource:
    """One resource: `reference` is `Type/id`, `digest` the SHA-256 (hex) of its bytes as received."""

    reference: str
    digest: str
    body: Body


@dataclass(frozen=True)
class Evidence:
    """The resources of one patient that may be read, and the types of which nothing was held back.

    Only for a type in `complete` does finding nothing mean that there is nothing on record.
    """

    resources: tuple[Resource, ...]
    complete: frozenset[str]

    def of_type(self, resource_type: str) -> list[Resource]:
        """Resources of one type, each once: of several versions the one last updated."""
        return _newest(each for each in self.resources if each.body.get("resourceType") == resource_type)

    def digests(self) -> dict[str, str]:
        """The digest of each resource, of several versions that of the one last updated, by `Type/id`."""
        return {each.reference: each.digest for each in _newest(self.resources)}

    def observations(self, system: str, codes: frozenset[str], *, until: date) -> list[tuple[Resource, Body]]:
        """Final results with one of `codes`, latest first, as `(resource, observation or component)`."""
        found = []
        for each in self.of_type("Observation"):
            if each.body.get("status") not in RESULT_STATUSES:
                continue
            at = _observed(each.body, until)
            if at is None:
                continue
            for part in [each.body, *_objects(each.body.get("component"))]:
                if has_code(part.get("code"), system, codes):
                    found.append(((at, each.reference), each, part))
                    break
        found.sort(key=lambda entry: entry[0], reverse=True)
        return [(resource, part) for _, resource, part in found]

    def diagnoses(
        self, codes: Mapping[str, frozenset[str]], icd10: tuple[str, ...], *, until: date, ever: bool = False
    ) -> list[Resource]:
        """Confirmed conditions by code or start of an ICD-10 code; if `ever`, also those that are over."""
        found = []
        for each in self.of_type("Condition"):
            body = each.body
            if _status(body.get("verificationStatus")) & REFUTED:
                continue
            if not ever and _status(body.get("clinicalStatus")) & OVER:
                continue
            begun = (
                body.get("onsetDateTime")
                or _object(body.get("onsetPeriod")).get("start")
                or body.get("recordedDate")
            )
            if begun is not None and not _is_by(begun, until):
                continue
            for system, code, _ in codings(body.get("code")):
                if code in codes.get(system, frozenset()) or (
                    system in ICD10 and code.upper().startswith(icd10)
                ):
                    found.append(each)
                    break
        return found

    def orders_in_force(self, *, until: date) -> Iterator[tuple[Resource, Body | None]]:
        """Active medication orders with the CodeableConcept of the medication (None: it cannot be found)."""
        for each in self.of_type("MedicationRequest"):
            body = each.body
            if body.get("status") != "active" or body.get("intent") in ("proposal", "plan"):
                continue
            if body.get("doNotPerform") is True or not _is_by(body.get("authoredOn"), until):
                continue
            yield each, self._medication(body)

    def _medication(self, request: Body) -> Body | None:
        concept = request.get("medicationCodeableConcept")
        if isinstance(concept, dict):
            return concept
        wanted = _object(request.get("medicationReference")).get("reference")
        if not isinstance(wanted, str):
            return None
        for inner in _objects(request.get("contained")):
            if wanted == f"#{inner.get('id')}":
                return _object(inner.get("code"))
        for each in self.of_type("Medication"):
            if wanted in (each.reference, f"urn:uuid:{each.body.get('id')}"):
                return _object(each.body.get("code"))
        return None


def codings(concept: object) -> Iterator[tuple[str, str, str]]:
    """`(system, code, display)` of a CodeableConcept's codings."""
    for coding in _objects(_object(concept).get("coding")):
        system, code, display = (coding.get(key) for key in ("system", "code", "display"))
        if isinstance(system, str) and isinstance(code, str):
            yield system, code.strip(), display if isinstance(display, str) else ""


def has_code(concept: object, system: str, codes: frozenset[str]) -> bool:
    return any(found == system and code in codes for found, code, _ in codings(concept))


def full_date(text: object) -> date | None:
    """A FHIR date with year, month and day; a less precise one is None."""
    if not isinstance(text, str) or len(text) < 10:
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def age_at(born: date, day: date) -> Decimal:
    """Completed years."""
    return Decimal(day.year - born.year - ((day.month, day.day) < (born.month, born.day)))


def _moment(text: object) -> datetime | None:
    """The latest moment that a FHIR dateTime can mean; UTC where it names no zone."""
    if not isinstance(text, str):
        return None
    try:
        if len(text) == 4:
            return datetime(int(text) + 1, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
        if len(text) == 7:
            year, month = int(text[:4]), int(text[5:])
            return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC) - timedelta(seconds=1)
        if len(text) == 10:
            return datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(
                hours=23, minutes=59, seconds=59
            )
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _is_by(text: object, until: date) -> bool:
    """Whether it surely lies on or before the index date, by the date as it was written down."""
    moment = _moment(text)
    return moment is not None and moment.date() <= until


def observed_at(resource: Resource) -> datetime | None:
    """When an observation's result holds for, as the latest moment that the text can mean."""
    return _moment(_effective(resource.body))


def _effective(body: Body) -> object:
    period = _object(body.get("effectivePeriod"))
    return (
        body.get("effectiveDateTime")
        or body.get("effectiveInstant")
        or period.get("end")
        or period.get("start")
    )


def _observed(body: Body, until: date) -> datetime | None:
    """When the result holds for; None when that is unknown, imprecise around the index date, or after it."""
    text = _effective(body)
    return _moment(text) if _is_by(text, until) else None


def _newest(resources: Iterable[Resource]) -> list[Resource]:
    newest: dict[str, Resource] = {}
    for each in resources:
        known = newest.get(each.reference)
        if known is None or _updated(each.body) >= _updated(known.body):
            newest[each.reference] = each
    return list(newest.values())


def _updated(body: Body) -> tuple[datetime, int]:
    meta = _object(body.get("meta"))
    version = meta.get("versionId")
    number = (
        int(version)
        if isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 10
        else 0
    )
    return _moment(meta.get("lastUpdated")) or datetime.min.replace(tzinfo=UTC), number


def _status(concept: object) -> set[str]:
    return {code for _, code, _ in codings(concept)}


def _object(value: object) -> Body:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> Iterable[Body]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []

"""What a decision needs to know of one FHIR resource: type, id, codes, dates, encounter, author."""

from collections.abc import Iterable, Mapping
from typing import Any

from ledger.contract import times
from ledger.contract.consents import DOUBT, codes_of, name_of

_CODES = ("code", "vaccineCode", "medicationCodeableConcept", "medication", "type", "category", "serviceType")
# What says in the first place what it is. Where one is there without a code, a code is missing.
_SAYS_WHAT = frozenset(
    {"code", "vaccineCode", "medicationCodeableConcept", "medicationReference", "medication", "type"}
)
# When it happened, before when it was written down; the first that is there counts.
_DATES = (
    "effectiveDateTime", "effectivePeriod", "effectiveInstant", "performedDateTime", "performedPeriod",
    "occurrenceDateTime", "occurrencePeriod", "occurredDateTime", "occurredPeriod", "onsetDateTime",
    "onsetPeriod", "period", "performedString", "onsetAge", "onsetRange", "onsetString",
    "authoredOn", "started",
    "created", "recordedDate", "dateTime",
    "dateAsserted", "date", "issued", "recorded", "assertedDate",
)  # fmt: skip
_VAGUE = frozenset({"performedString", "onsetAge", "onsetRange", "onsetString"})
_AUTHORS = ("author", "performer", "asserter", "recorder", "requester", "participant")


def item_of(resource: Mapping[str, Any], labels: Iterable[str] | None) -> dict[str, Any]:
    """The item of a FHIR R4 or R5 resource (as parsed JSON) whose labels are known.

    What the resource does not say plainly is None, and then permits nothing that depends on it.
    """
    start, end = _dates(resource)
    return {
        "author": _authors(resource),
        "codes": sorted(_codes(resource)) or None,
        "encounter": _one_name(resource.get("encounter", resource.get("context"))),
        "end": end,
        "id": resource.get("id") if isinstance(resource.get("id"), str) else None,
        "labels": sorted(set(labels)) if labels else None,
        "start": start,
        "type": resource.get("resourceType"),
    }


def subject_of(resource: Mapping[str, Any]) -> str | None:
    """The patient that the resource is about, as `Patient/<id>`; None where it names none."""
    if resource.get("resourceType") == "Patient":
        return f"Patient/{resource['id']}" if isinstance(resource.get("id"), str) else None
    for element in ("subject", "patient", "individual", "for", "beneficiary"):
        if element in resource:
            return _one_name(resource[element])
    return None


def _codes(resource: Mapping[str, Any]) -> set[str]:
    """Its codes; DOUBT among them where it says what it is by words or a reference alone."""
    found: set[str] = set()
    for element in (*_CODES, "medicationReference"):
        value = resource.get(element)
        for concept in value if isinstance(value, list) else [value]:
            codes = codes_of(concept)
            if isinstance(concept, dict):
                codes += codes_of(concept.get("concept"))
                if not codes and element in _SAYS_WHAT:
                    codes = [DOUBT]
            found.update(codes)
    components = resource.get("component")
    for component in components if isinstance(components, list) else []:
        if isinstance(component, dict):
            found.update(codes_of(component.get("code")) or [DOUBT])
    return found if found - {DOUBT} else set()


def _dates(resource: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """First and last second: a day or a month is taken whole, an ongoing period has no end."""
    element = next((name for name in _DATES if name in resource), None)
    if element is None or element in _VAGUE:
        return None, None
    value = resource[element]
    if isinstance(value, dict):
        found = times.period(value)
        if found is None:
            return None, None
        return found[0], None if found[1] is None else found[1] - 1
    span = times.span(value)
    return (None, None) if span is None else (span[0], span[1] - 1)


def _authors(resource: Mapping[str, Any]) -> str | list[str] | None:
    names: set[str] = set()
    for element in _AUTHORS:
        value = resource.get(element)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                names.add(name_of(one.get("actor") or one.get("individual") or one))
    return sorted(names) if len(names) > 1 else names.pop() if names else None


def _one_name(value: object) -> str | None:
    name = name_of(value)
    return None if name == DOUBT else name

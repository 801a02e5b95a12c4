"""FHIR R4 resources as lines that a clinician reads in an emergency: when, what, and what else it says.

Pure: bytes in, text out. It shows what is there and judges nothing; what it does not know how to say in
words it names, so that no part is missed in silence.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from gateway.records.lines import resources
from gateway.records.ucum import unit_of

Json = dict[str, Any]
MOST_DETAILS = 12

# Where the time of a resource stands, the most telling first (FHIR R4; a period counts by its start).
TIMES = (
    "effectiveDateTime", "effectivePeriod", "effectiveInstant", "onsetDateTime", "onsetPeriod",
    "performedDateTime", "performedPeriod", "occurrenceDateTime", "authoredOn", "started", "period",
    "billablePeriod", "recordedDate", "dateAsserted", "date", "created", "issued", "startDate",
)  # fmt: skip
# What a resource is about.
SUBJECTS = (
    "code", "medicationCodeableConcept", "medicationReference", "vaccineCode", "type", "relationship",
    "deviceName", "class", "description", "title", "category", "name",
)  # fmt: skip

# Element -> its name on the page. The order is that of the page.
DETAILS: dict[str, Promise] = {
    "value": _("Value"),
    "component": _("Parts"),
    "interpretation": _("Interpretation"),
    "referenceRange": _("Normal range"),
    "dataAbsentReason": _("Why there is no value"),
    "criticality": _("How serious"),
    "reaction": _("Reaction"),
    "clinicalStatus": _("Clinical status"),
    "verificationStatus": _("How sure"),
    "severity": _("Severity"),
    "bodySite": _("Where on the body"),
    "abatementDateTime": _("Ended"),
    "dosageInstruction": _("Dose"),
    "dosage": _("Dose"),
    "reasonCode": _("Reason"),
    "outcome": _("Outcome"),
    "conclusion": _("Conclusion"),
    "result": _("Results"),
    "activity": _("Activities"),
    "condition": _("Problems"),
    "status": _("Status"),
    "gender": _("Sex"),
    "birthDate": _("Born"),
    "deceasedDateTime": _("Died"),
    "telecom": _("Contact"),
    "contact": _("People to call"),
    "address": _("Address"),
    "communication": _("Language"),
    "participant": _("Who"),
    "note": _("Note"),
    "text": _("Text"),
}

# A code of FHIR where the element has its own list of them; one that is not here is shown as it came.
CODED = ("status", "clinicalStatus", "verificationStatus", "criticality", "severity", "gender")
WORDS: dict[str, Promise] = {
    "active": _("active"),
    "inactive": _("not active"),
    "recurrence": _("came back"),
    "relapse": _("came back"),
    "remission": _("better for now"),
    "resolved": _("over"),
    "confirmed": _("confirmed"),
    "provisional": _("not confirmed yet"),
    "differential": _("one of several that it may be"),
    "unconfirmed": _("not confirmed"),
    "refuted": _("found not to be so"),
    "entered-in-error": _("entered by mistake"),
    "registered": _("no result yet"),
    "partial": _("not complete yet"),
    "preliminary": _("not final yet"),
    "amended": _("changed later"),
    "corrected": _("corrected"),
    "appended": _("added to later"),
    "cancelled": _("cancelled"),
    "stopped": _("stopped"),
    "on-hold": _("on hold"),
    "draft": _("draft"),
    "planned": _("planned"),
    "intended": _("planned"),
    "in-progress": _("going on"),
    "preparation": _("being prepared"),
    "not-done": _("not done"),
    "not-taken": _("not taken"),
    "completed": _("completed"),
    "superseded": _("replaced by a newer one"),
    "unknown": _("not known"),
    "low": _("low"),
    "high": _("high"),
    "unable-to-assess": _("not known"),
    "mild": _("mild"),
    "moderate": _("moderate"),
    "severe": _("severe"),
    "male": _("male"),
    "female": _("female"),
    "other": _("other"),
}
# A status that every record of its kind ends with, and that tells a reader nothing. A medicine that is
# completed is another matter: it is taken no more.
USUAL = {
    "Observation": "final",
    "DiagnosticReport": "final",
    "Encounter": "finished",
    "Procedure": "completed",
    "Immunization": "completed",
    "DocumentReference": "current",
}


@dataclass(frozen=True)
class Line:
    """One resource. `when` is a date, or a datetime where the time of day is known; `said` as received.
    `name` is `Type/id`, "" where it has no id."""

    when: date | None
    said: str
    what: str
    details: tuple[tuple[Promise, str], ...]
    name: str = ""

    @property
    def has_time(self) -> bool:
        return isinstance(self.when, datetime)


@dataclass(frozen=True)
class Records:
    """Lines, newest first; those without a time come first of all, so that none is overlooked."""

    lines: tuple[Line, ...]


def records_of(chunks: Iterable[bytes]) -> Records:
    """The newest version of each resource in these chunks (NDJSON as ingest packed it)."""
    newest: dict[tuple[str, str], Json] = {}
    for number, resource in enumerate(_resources(chunks)):
        key = (str(resource.get("resourceType")), str(resource.get("id") or number))
        if key not in newest or _version(resource) >= _version(newest[key]):
            newest[key] = resource
    lines = [_line(resource) for resource in newest.values()]
    lines.sort(key=lambda line: (line.said == "", line.said), reverse=True)
    return Records(tuple(lines))


def _resources(chunks: Iterable[bytes]) -> Iterator[Json]:
    for ndjson in chunks:
        for _received, resource in resources(ndjson):
            yield resource


def _version(resource: Json) -> tuple[int, str]:
    meta = resource.get("meta") or {}
    version = str(meta.get("versionId", ""))
    return (int(version) if version.isdecimal() else 0, str(meta.get("lastUpdated", "")))


def _line(resource: Json) -> Line:
    said = next((text for name in TIMES if (text := _time(resource.get(name)))), "")
    what = next((text for name in SUBJECTS if (text := _text(resource.get(name)))), "")
    details = tuple((label, text) for name, label in DETAILS.items() if (text := _detail(resource, name)))
    kind, id = str(resource.get("resourceType", "")), resource.get("id")
    name = f"{kind}/{id}" if isinstance(id, str) else ""
    return Line(_when(said), said, what or kind, details[:MOST_DETAILS], name)


def _detail(resource: Json, name: str) -> str:
    """What one element says, in words where it is a code or a day."""
    element = _element(resource, name)
    text = _text(element)
    if name == "status" and text == USUAL.get(str(resource.get("resourceType"))):
        return ""
    if name == "birthDate" and (day := _when(text)):
        return date_format(day, "DATE_FORMAT")
    if name in CODED:
        return str(next((WORDS[code] for code in (*_codes(element), text) if code in WORDS), text))
    return text


def _codes(concept: Any) -> list[str]:
    """The codes of a CodeableConcept: what is said by a code has a word here, whatever its display says."""
    codings = concept.get("coding") if isinstance(concept, dict) else None
    held = codings if isinstance(codings, list) else []
    return [code for one in held if isinstance(one, dict) and isinstance(code := one.get("code"), str)]


def _element(resource: Json, name: str) -> Any:
    """An element, or one of its kinds: `value` finds `valueQuantity` (value[x])."""
    if name == "value":
        return next((value for key, value in resource.items() if key.startswith("value")), None)
    if name == "text":  # the narrative is markup: only plain text elements are shown
        return None
    return resource.get(name)


def _time(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("start") or value.get("end")
    return value if isinstance(value, str) else ""


def _when(said: str) -> date | None:
    try:
        return datetime.fromisoformat(said) if "T" in said else date.fromisoformat(said)
    except ValueError:  # a year, or a year and a month
        return None


def _text(value: Any) -> str:
    """Any element as text: what a person would read of it."""
    match value:
        case None:
            return ""
        case bool():
            return str(_("yes") if value else _("no"))
        case str() | int() | float():
            return str(value)
        case list():
            return "; ".join(text for each in value if (text := _text(each)))
        case dict():
            return _complex(value)
    return ""


def _complex(value: Json) -> str:  # noqa: PLR0911 (one line for each form)
    """A complex element, by the form that it has."""
    match value:
        case {"code": {}}:  # a component: what, and its value
            found = _text(_element(value, "value"))
            return f"{_text(value['code'])}: {found}" if found else _text(value["code"])
        case {"coding": list()} | {"text": str()}:
            return _concept(value)
        case {"value": int() | float()}:
            return f"{value.get('comparator', '')}{value['value']} {unit_of(value)}".strip()
        case {"display": str(display)}:
            return display
        case {"numerator": _, "denominator": _}:
            return f"{_text(value['numerator'])} / {_text(value['denominator'])}"
        case {"start": _} | {"end": _} | {"low": _} | {"high": _}:
            ends = (_text(value.get(name)) for name in ("start", "low", "end", "high"))
            return " – ".join(text for text in ends if text)
        case {"family": str()} | {"given": list()}:
            return _human_name(value)
        case {"reference": str()}:
            return ""  # another resource, which has a line of its own
    return " ".join(text for name in _PARTS if (text := _text(value.get(name))))


def _human_name(value: Json) -> str:
    """As people write it; of what it is used for, only what is not to be expected."""
    found = (value.get(part) or () for part in ("prefix", "given", "family", "suffix"))
    name = " ".join(str(text) for part in found for text in ([part] if isinstance(part, str) else part))
    use = value.get("use", "official")
    return name if use in ("official", "usual") else f"{name} ({use})"


def _concept(value: Json) -> str:
    if isinstance(value.get("text"), str) and value["text"]:
        return str(value["text"])
    coded = (each.get("display") or each.get("code") for each in value.get("coding", ()))
    return ", ".join(dict.fromkeys(str(text) for text in coded if text))


# Of an element that has no form of its own: what is shown, in this order.
_PARTS = (
    "name", "given", "family", "prefix", "use", "relationship", "value", "manifestation", "severity",
    "doseAndRate", "doseQuantity", "timing", "repeat", "frequency", "period", "periodUnit", "route",
    "asNeededBoolean", "language", "individual", "actor", "telecom", "line", "city", "postalCode",
    "country", "detail", "description", "status", "comment", "code",
)  # fmt: skip

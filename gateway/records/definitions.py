"""FHIR R4's element definitions, as far as one resource can be held against them: names, types, how many,
which codes and which references.

Read from the R4B models of fhir.resources, which know names, types and cardinality and check little else;
what they lack stands here as tables (FHIR R4, "Data Types" and the value sets that the elements are bound
to with strength *required*). No Django, no database.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from gateway.records.narrative import narrative_fault

# What is wrong with a value: a stable code, and how the sentence goes on after the element.
Fault = tuple[str, str]
Check = Callable[[Any], Fault | None]

EMPTY: Fault = ("empty", "is empty; leave it out, or give it a value")
NOT_ONE_OF_MANY: Fault = ("cardinality", "may be there once only, and is a list")
NOT_A_LIST: Fault = ("cardinality", "must be a list")
NOT_AN_OBJECT: Fault = ("wrong_type", "must be an object")
_NOT_TEXT: Fault = ("wrong_type", "must be text")
_NOT_A_NUMBER: Fault = ("wrong_type", "must be a number, without quotation marks")
_NOT_WHOLE: Fault = ("wrong_type", "must be a whole number, without quotation marks")
_NOT_TRUTH: Fault = ("wrong_type", "must be true or false, without quotation marks")
_FORM: Fault = ("wrong_form", "does not have the form that FHIR R4 asks for")
_NO_DAY: Fault = ("wrong_form", "names a day that the calendar does not have")
_TOO_LONG: Fault = ("wrong_form", "is longer than FHIR R4's 1,048,576 characters")

# Value sets.

_OBSERVATION_STATUS = "registered preliminary final amended corrected cancelled entered-in-error unknown"
_ENCOUNTER_STATUS = "planned arrived triaged in-progress onleave finished cancelled entered-in-error unknown"
_COMPARATOR = "< <= >= >"
# Of these the models give a part, or nothing. (type, element) → all codes of the required value set.
CODES = {
    **{(kind, "status"): _OBSERVATION_STATUS for kind in ("DetectedIssue", "Observation", "RiskAssessment")},
    **{(kind, "status"): _ENCOUNTER_STATUS for kind in ("Encounter", "EncounterStatusHistory")},
    **{(kind, "comparator"): _COMPARATOR for kind in ("Age", "Count", "Distance", "Duration", "Quantity")},
    ("AuditEvent", "action"): "C R U D E",
    ("AuditEvent", "outcome"): "0 4 8 12",
    ("AuditEventAgentNetwork", "type"): "1 2 3 4 5",
    ("Composition", "confidentiality"): "U L M N R V",
    ("DeviceUdiCarrier", "entryType"): "barcode rfid manual card self-reported unknown",
    ("DeviceUseStatement", "status"): "active completed entered-in-error intended stopped on-hold",
    ("DiagnosticReport", "status"): "registered partial preliminary final amended corrected appended "
    "cancelled entered-in-error unknown",
    ("TimingRepeat", "when"): "MORN MORN.early MORN.late NOON AFT AFT.early AFT.late EVE EVE.early EVE.late "
    "NIGHT PHS HS WAKE C CM CD CV AC ACM ACD ACV PC PCM PCD PCV",
}  # fmt: skip
# What the models list here is an example of the value set, not all of it.
_OPEN = frozenset({("Expression", "language")})

_STATUS = "http://terminology.hl7.org/CodeSystem/"
# The CodeableConcepts with a required binding: (type, element) → system and codes.
CONCEPTS = {
    ("Condition", "clinicalStatus"): (
        f"{_STATUS}condition-clinical",
        "active recurrence relapse inactive remission resolved",
    ),
    ("Condition", "verificationStatus"): (
        f"{_STATUS}condition-ver-status",
        "unconfirmed provisional differential confirmed refuted entered-in-error",
    ),
    ("AllergyIntolerance", "clinicalStatus"): (
        f"{_STATUS}allergyintolerance-clinical",
        "active inactive resolved",
    ),
    ("AllergyIntolerance", "verificationStatus"): (
        f"{_STATUS}allergyintolerance-verification",
        "unconfirmed confirmed refuted entered-in-error",
    ),
}


# Primitive types.


def _text(pattern: str) -> Check:
    matches = re.compile(pattern).fullmatch

    def check(value: Any) -> Fault | None:
        if type(value) is not str:
            return _NOT_TEXT
        if not value:
            return EMPTY
        return None if matches(value) else _FORM

    return check


def _string(value: Any) -> Fault | None:
    if type(value) is not str:
        return _NOT_TEXT
    if not value:
        return EMPTY
    return None if len(value) <= 1_048_576 else _TOO_LONG


def _whole(low: int, high: int = 2**31 - 1) -> Check:
    def check(value: Any) -> Fault | None:
        if type(value) is not int:
            return _NOT_WHOLE
        return None if low <= value <= high else _FORM

    return check


def _number(value: Any) -> Fault | None:
    return None if type(value) in (int, float) else _NOT_A_NUMBER


def _truth(value: Any) -> Fault | None:
    return None if type(value) is bool else _NOT_TRUTH


def _dated(pattern: str) -> Check:
    form = _text(pattern)

    def check(value: Any) -> Fault | None:
        if (fault := form(value)) is not None or len(value) < 10:
            return fault
        try:
            date.fromisoformat(value[:10])
        except ValueError:
            return _NO_DAY
        return None

    return check


def _base64(value: Any) -> Fault | None:
    if type(value) is not str:
        return _NOT_TEXT
    bare = "".join(value.split())
    if not bare:
        return EMPTY
    return None if len(bare) % 4 == 0 and _BASE64(bare) else _FORM


_BASE64 = re.compile(r"[0-9A-Za-z+/]*={0,2}").fullmatch
_YEAR = r"(?!0000)[0-9]{4}"
_DAY = r"(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"

PRIMITIVES: dict[str, Check] = {
    "base64Binary": _base64,
    "boolean": _truth,
    "canonical": _text(r"\S*"),
    "code": _text(r"\S+(?:\s\S+)*"),
    "date": _dated(rf"{_YEAR}(?:-(?:0[1-9]|1[0-2])|-{_DAY})?"),
    "dateTime": _dated(rf"{_YEAR}(?:-(?:0[1-9]|1[0-2])|-{_DAY}(?:T{_CLOCK}{_ZONE})?)?"),
    "decimal": _number,
    "id": _text(r"[A-Za-z0-9\-.]{1,64}"),
    "instant": _dated(rf"{_YEAR}-{_DAY}T{_CLOCK}{_ZONE}"),
    "integer": _whole(-(2**31)),
    "markdown": _string,
    "oid": _text(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+"),
    "positiveInt": _whole(1),
    "string": _string,
    "time": _text(_CLOCK),
    "unsignedInt": _whole(0),
    "uri": _text(r"\S*"),
    "url": _text(r"\S*"),
    "uuid": _text(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "xhtml": lambda value: narrative_fault(value) if type(value) is str else _NOT_TEXT,
}
_ELEMENT_ID = _text(r"\S+")
_CURRENCY = _text(r"[A-Z]{3}")


def _one_of(codes: frozenset[str]) -> Check:
    listed = ", ".join(sorted(codes)) if len(codes) <= 12 else ""
    outside = ("value_set", f"must be one of {listed}" if listed else "is no code of its required value set")

    def check(value: Any) -> Fault | None:
        if type(value) is not str:
            return _NOT_TEXT
        return None if value in codes else outside if value else EMPTY

    return check


# Elements and types.


class Concepts(NamedTuple):
    """A CodeableConcept's codings of `system` must be of `codes`; at least one coding must be."""

    system: str
    codes: frozenset[str]


@dataclass(slots=True)
class Element:
    """One element of a type. Either `check` judges its value, or it is an object of the type `kind`.

    choice    the `value` of `value[x]`, else ""
    base      the name without the underscore of a primitive's extensions
    targets   types that a Reference may lead to; empty: any
    """

    name: str
    base: str
    many: bool
    kind: str
    check: Check | None = None
    choice: str = ""
    targets: frozenset[str] = frozenset()
    concepts: Concepts | None = None


@dataclass(slots=True)
class Definition:
    """One type: its elements by name as JSON writes them, and the groups of which one must be there."""

    kind: str
    elements: dict[str, Element] = field(default_factory=dict)
    required: list[tuple[str, ...]] = field(default_factory=list)


class UnknownType(LookupError):
    """FHIR R4 has no such type."""


@cache
def definition(kind: str) -> Definition:
    """The definition of a FHIR R4 type; of a backbone element by its path: `ObservationComponent`.

    Raises UnknownType.
    """
    from fhir.resources.R4B import get_fhir_model_class

    try:
        model = get_fhir_model_class(kind)
    except (LookupError, ValueError):
        raise UnknownType(kind) from None
    made = Definition(kind)
    is_resource = issubclass(model, get_fhir_model_class("Resource"))
    choices: dict[str, list[str]] = {}
    for python_name, found in model.model_fields.items():
        name = found.alias or python_name
        told: dict[str, Any] = found.json_schema_extra if isinstance(found.json_schema_extra, dict) else {}
        if name == "fhir_comments":  # of DSTU2
            continue
        element = _element(kind, name, found.annotation, told)
        if name == "id" and not is_resource:
            element.check = _ELEMENT_ID
        made.elements[name] = element
        if element.choice and told.get("one_of_many_required"):
            choices.setdefault(element.choice, []).append(name)
        elif found.is_required() or told.get("element_required"):
            made.required.append((name, f"_{name}"))
    made.required += [tuple(names) for names in choices.values()]
    # `_valueString` belongs to the same choice as `valueString`.
    for name, element in made.elements.items():
        if name.startswith("_"):
            primitive = made.elements[name[1:]]
            element.choice, element.many = primitive.choice, primitive.many
    return made


def _element(kind: str, name: str, annotation: Any, told: dict[str, Any]) -> Element:
    of, many = _unwrapped(annotation)
    element = Element(name, name.removeprefix("_"), many, "", choice=told.get("one_of_many", ""))
    if get_origin(of) is Annotated:
        element.check = _primitive(kind, name, of.__metadata__[-1], told)
    elif of is bool:
        element.check = _truth
    else:
        element.kind = of.__name__.removesuffix("Type")
    if element.kind == "FHIRPrimitiveExtension":
        element.kind = "Element"
    targets = frozenset(told.get("enum_reference_types", ()))
    element.targets = frozenset() if "Resource" in targets else targets
    if (kind, name) in CONCEPTS:
        system, codes = CONCEPTS[kind, name]
        element.concepts = Concepts(system, frozenset(codes.split()))
    return element


def _unwrapped(annotation: Any) -> tuple[Any, bool]:
    """What stands inside of `| None` and of a list, and whether it is a list."""
    many = False
    while get_origin(annotation) is not Annotated:
        inner = [one for one in get_args(annotation) if one is not type(None)]
        if not inner:
            break
        many = many or get_origin(annotation) is list
        annotation = inner[0]
    return annotation, many


def _primitive(kind: str, name: str, said: Any, told: dict[str, Any]) -> Check:
    codes = (
        frozenset(CODES[kind, name].split())
        if (kind, name) in CODES
        else frozenset(told.get("enum_values", ()))
    )
    if codes and (kind, name) not in _OPEN:
        return _one_of(codes)
    if (kind, name) == ("Money", "currency"):
        return _CURRENCY
    # pydantic's own UUID is the one type that carries no name of FHIR's.
    return PRIMITIVES[getattr(said, "__visit_name__", "uuid")]

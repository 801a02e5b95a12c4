"""FHIR R4's own rules across elements (invariants) of the types that are taken in, as one table.

Each is a pure function over one object whose elements are known to be of the right types. What is only
a warning or best practice in R4 (dom-6, con-3) is not here. docs/validation.md lists what is left out.
"""
# ruff: noqa: E501 (the table reads best with one rule on one line)

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

Node = Mapping[str, Any]
UCUM = "http://unitsofmeasure.org"


@dataclass(frozen=True)
class Invariant:
    """`key` is FHIR R4's; it is for objects of the types `on`. `says` goes on after the element."""

    key: str
    on: tuple[str, ...]
    says: str
    holds: Callable[[Node], bool]


def _has(*names: str) -> Callable[[Node], bool]:
    return lambda node: any(name in node for name in names)


def _only_with(name: str, other: str) -> Callable[[Node], bool]:
    """`name` may be there only where `other` is."""
    return lambda node: name not in node or other in node


def _not_both(*names: str) -> Callable[[Node], bool]:
    return lambda node: sum(name in node for name in names) <= 1


def _one_of(*names: str) -> Callable[[Node], bool]:
    return lambda node: sum(name in node for name in names) == 1


def _not_negative(name: str) -> Callable[[Node], bool]:
    return lambda node: node.get(name, 0) >= 0


def _values(node: Node, prefix: str) -> bool:
    """Whether one element of the choice `prefix[x]` is there."""
    return any(name.startswith(prefix) and name[len(prefix) : len(prefix) + 1].isupper() for name in node)


def _codes(concept: Any) -> set[str]:
    return {str(coding.get("code")) for coding in (concept or {}).get("coding", ())}


def _coded(concept: Any) -> set[tuple[Any, Any]]:
    return {(one.get("system"), one["code"]) for one in (concept or {}).get("coding", ()) if "code" in one}


def _in_order(start: str | None, end: str | None) -> bool:
    """Whether `start` is not after `end`, as far as both are known to the same precision."""
    if start is None or end is None:
        return True
    if len(start) > 10 and len(end) > 10:
        try:
            return datetime.fromisoformat(start) <= datetime.fromisoformat(end)
        except ValueError:  # a leap second
            return start[:10] <= end[:10]
    length = min(len(start), len(end), 10)
    return start[:length] <= end[:length]


def _range_in_order(node: Node) -> bool:
    low, high = node.get("low", {}), node.get("high", {})
    same_unit = all(low.get(name) == high.get(name) for name in ("system", "code", "unit"))
    return not same_unit or "value" not in low or "value" not in high or low["value"] <= high["value"]


def _ratio_is_whole(node: Node) -> bool:
    return ("numerator" in node) == ("denominator" in node) and ("numerator" in node or "extension" in node)


def _is_age(node: Node) -> bool:
    return (
        ("code" in node or "value" not in node)
        and node.get("system", UCUM) == UCUM
        and node.get("value", 1) > 0
    )


def _is_duration(node: Node) -> bool:
    return "code" not in node or (node.get("system") == UCUM and "value" in node)


def _component_repeats_no_value(node: Node) -> bool:
    if not _values(node, "value"):
        return True
    code = _coded(node.get("code"))
    return not any(code & _coded(part.get("code")) for part in node.get("component", ()))


def _condition_is_over(node: Node) -> bool:
    over = {"inactive", "resolved", "remission"}
    return not _values(node, "abatement") or bool(_codes(node.get("clinicalStatus")) & over)


def _was_an_error(node: Node) -> bool:
    return "entered-in-error" in _codes(node.get("verificationStatus"))


def _telecom_not_at_home(node: Node) -> bool:
    return all(one.get("use") != "home" for one in node.get("telecom", ()))


def _address_not_at_home(node: Node) -> bool:
    return all(one.get("use") != "home" for one in node.get("address", ()))


def _names_a_policy(node: Node) -> bool:
    return "policy" in node or "policyRule" in node


_QUANTITY = ("Age", "Count", "Distance", "Duration", "Quantity")

INVARIANTS = (
    # Data types
    Invariant("ext-1", ("Extension",), "needs either a value or extensions of its own, and not both",
              lambda node: ("extension" in node) != _values(node, "value")),
    Invariant("qty-3", _QUANTITY, "has a coded unit without its system", _only_with("code", "system")),
    Invariant("age-1", ("Age",), "must be a positive number in a coded UCUM unit", _is_age),
    Invariant("drt-1", ("Duration",), "must have a value and be in UCUM, where its unit is coded", _is_duration),
    Invariant("per-1", ("Period",), "ends before it starts",
              lambda node: _in_order(node.get("start"), node.get("end"))),
    Invariant("rng-2", ("Range",), "has a low end above its high end", _range_in_order),
    Invariant("rat-1", ("Ratio",), "needs both numerator and denominator", _ratio_is_whole),
    Invariant("cpt-2", ("ContactPoint",), "has a value, so it needs a system", _only_with("value", "system")),
    Invariant("att-1", ("Attachment",), "has data, so it needs a contentType", _only_with("data", "contentType")),
    Invariant("tim-1", ("TimingRepeat",), "has a duration without its unit",
              _only_with("duration", "durationUnit")),
    Invariant("tim-2", ("TimingRepeat",), "has a period without its unit", _only_with("period", "periodUnit")),
    Invariant("tim-4", ("TimingRepeat",), "has a duration below zero", _not_negative("duration")),
    Invariant("tim-5", ("TimingRepeat",), "has a period below zero", _not_negative("period")),
    Invariant("tim-6", ("TimingRepeat",), "has a longest period without a period",
              _only_with("periodMax", "period")),
    Invariant("tim-7", ("TimingRepeat",), "has a longest duration without a duration",
              _only_with("durationMax", "duration")),
    Invariant("tim-8", ("TimingRepeat",), "has a highest count without a count", _only_with("countMax", "count")),
    Invariant("tim-9", ("TimingRepeat",), "has an offset, and nothing that it is an offset to",
              lambda node: "offset" not in node or bool(set(node.get("when", ())) - {"C", "CM", "CD", "CV"})),
    Invariant("tim-10", ("TimingRepeat",), "gives both times of day and events of the day",
              _not_both("timeOfDay", "when")),
    # Resources
    Invariant("ait-1", ("AllergyIntolerance",), "needs a clinicalStatus",
              lambda node: "clinicalStatus" in node or _was_an_error(node)),
    Invariant("ait-2", ("AllergyIntolerance",), "was entered in error and so has no clinicalStatus",
              lambda node: "clinicalStatus" not in node or not _was_an_error(node)),
    Invariant("sev-1", ("AuditEventEntity",), "gives both a name and a query", _not_both("name", "query")),
    Invariant("cpl-3", ("CarePlanActivity",), "gives both a reference and details",
              _not_both("reference", "detail")),
    Invariant("con-1", ("ConditionStage",), "needs a summary or an assessment", _has("summary", "assessment")),
    Invariant("con-2", ("ConditionEvidence",), "needs a code or details", _has("code", "detail")),
    Invariant("con-4", ("Condition",), "is over, so its clinicalStatus must say so", _condition_is_over),
    Invariant("con-5", ("Condition",), "was entered in error and so has no clinicalStatus",
              lambda node: "clinicalStatus" not in node or not _was_an_error(node)),
    Invariant("ppc-1", ("Consent",), "needs a policy or a policyRule", _names_a_policy),
    Invariant("cmp-1", ("CompositionSection",), "needs text, entries or sections",
              _has("text", "entry", "section")),
    Invariant("cmp-2", ("CompositionSection",), "says why it is empty, and has entries",
              _not_both("emptyReason", "entry")),
    Invariant("fhs-1", ("FamilyMemberHistory",), "gives both an age and a birth",
              lambda node: not (_values(node, "age") and _values(node, "born"))),
    Invariant("fhs-2", ("FamilyMemberHistory",), "calls an age estimated that it does not give",
              lambda node: "estimatedAge" not in node or _values(node, "age")),
    Invariant("gol-1", ("GoalTarget",), "has details, so it needs a measure",
              lambda node: "measure" in node or not _values(node, "detail")),
    Invariant("imm-1", ("ImmunizationEducation",), "needs a documentType or a reference",
              _has("documentType", "reference")),
    Invariant("mad-1", ("MedicationAdministrationDosage",), "needs a dose or a rate",
              lambda node: "dose" in node or _values(node, "rate")),
    Invariant("mdd-1", ("MedicationDispense",), "was handed over before it was prepared",
              lambda node: _in_order(node.get("whenPrepared"), node.get("whenHandedOver"))),
    Invariant("obs-3", ("ObservationReferenceRange",), "needs a low end, a high end or text",
              _has("low", "high", "text")),
    Invariant("obs-6", ("Observation",), "says why there is no value, and has one",
              lambda node: "dataAbsentReason" not in node or not _values(node, "value")),
    Invariant("obs-7", ("Observation",), "has a value, and a component with the same code",
              _component_repeats_no_value),
    Invariant("org-1", ("Organization",), "needs an identifier or a name", _has("identifier", "name")),
    Invariant("org-2", ("Organization",), "has a telecom for use at home", _telecom_not_at_home),
    Invariant("org-3", ("Organization",), "has an address for use at home", _address_not_at_home),
    Invariant("pat-1", ("PatientContact",), "needs a name, telecom, address or organization",
              _has("name", "telecom", "address", "organization")),
    Invariant("qrs-1", ("QuestionnaireResponseItem",), "has both answers and items", _not_both("answer", "item")),
    Invariant("ras-2", ("RiskAssessmentPrediction",), "has a probability above 100",
              lambda node: node.get("probabilityDecimal", 0) <= 100),
    Invariant("prr-1", ("ServiceRequest",), "has details of an order without its code",
              _only_with("orderDetail", "code")),
)  # fmt: skip


@cache
def of(kind: str) -> tuple[Invariant, ...]:
    """Those for objects of this type."""
    return tuple(rule for rule in INVARIANTS if kind in rule.on)


def contained_faults(resource: Node) -> Iterator[tuple[str, int, str]]:
    """dom-2 to dom-5 for what a resource contains: key, index in `contained`, what is wrong."""
    if "contained" not in resource:
        return
    named = _references(resource)
    for index, inner in enumerate(resource["contained"]):
        meta = inner.get("meta", {})
        if "contained" in inner:
            yield "dom-2", index, "contains a resource, and is contained itself"
        if f"#{inner.get('id', '')}" not in named and "#" not in _references(inner):
            yield "dom-3", index, "is referred to from nowhere"
        if "versionId" in meta or "lastUpdated" in meta:
            yield "dom-4", index, "has a version of its own, and is contained"
        if "security" in meta:
            yield "dom-5", index, "has a security label of its own, and is contained"


def _references(node: Any) -> set[str]:
    """All texts below `node` that begin with #: references and canonicals to what is contained."""
    found: set[str] = set()
    stack = [node]
    while stack:
        one = stack.pop()
        if type(one) is dict:
            stack += one.values()
        elif type(one) is list:
            stack += one
        elif type(one) is str and one.startswith("#"):
            found.add(one)
    return found

"""The rules left over after a request is decided, applied to single resources and to chunks.

A rule is one provision without what the request already settled:
`{"type", "path", "types"?, "codes"?, "labels"?, "data_period"?, "authors"?, "data"?, "doubt"?,
"provisions"?}`.
Rules are plain JSON: they go from the keyholder to the worker and are applied there.

An outcome is DENY < SILENT < PERMIT. Each rule is judged between a worst and a best outcome: the two differ
while something about the item is still UNKNOWN. A criterion in DOUBT takes the worse of "does not apply" and
"applies", so that a permit in doubt is silent and a deny in doubt denies.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from ledger.contract import labels as security
from ledger.contract.consents import DOUBT as NOT_UNDERSTOOD
from ledger.contract.resource_types import RESOURCE_TYPES

Json = dict[str, Any]

DENY, SILENT, PERMIT = 0, 1, 2
NO, YES, DOUBT, OPEN = 0, 1, 2, 4
UNKNOWN: Any = object()
NOTHING: Json = {"asked": [], "consents": [], "version": 1}

Item = Mapping[str, Any]
Criterion = Callable[[Item], int]


def permits(rules: Json, item: Item) -> tuple[bool, str]:
    """Whether one resource is permitted, and why: `permitted` or the code of what withholds it.

    `item` is `{"type", "id", "codes", "labels", "start", "end", "encounter", "author"}`: codes are
    "system|code", start and end its first and last second; a value that is missing or None is not known and
    never helps.
    """
    return CompiledRules(rules).permits(item)


def permits_chunk(
    rules: Json, resource_type: str, labels: Iterable[str]
) -> Literal["permit", "deny", "mixed"]:
    """Whether all, none or some resources of this type with exactly these labels may be permitted."""
    return CompiledRules(rules).permits_chunk(resource_type, labels)


class CompiledRules:
    """Rules made ready once, for many resources."""

    def __init__(self, rules: Json) -> None:
        if rules.get("version") != 1:
            raise ValueError("rules of an unknown version permit nothing")
        asked = rules["asked"]
        self.asked = None if asked is None else [read_rule(rule) for rule in asked]
        self.consents = [read_rule(one["rule"]) for one in rules["consents"]]

    def permits(self, item: Item) -> tuple[bool, str]:
        if refusal := withheld(item):
            return False, refusal
        if self.asked is not None and all(rule.bounds(item)[0] != PERMIT for rule in self.asked):
            return False, "not_requested"
        outcome = SILENT
        for rule in self.consents:
            found = rule.bounds(item)[0]
            if found == DENY:
                return False, "denied_by_provision"
            outcome = max(outcome, found)
        return (True, "permitted") if outcome == PERMIT else (False, "not_covered")

    def permits_chunk(self, resource_type: str, labels: Iterable[str]) -> Literal["permit", "deny", "mixed"]:
        item = {**ANY_ITEM, "type": resource_type, "labels": sorted(labels)}
        if withheld(item):
            return "deny"
        worst, best = combined(rule.bounds(item) for rule in self.consents)
        if self.asked is not None:
            asked = [rule.bounds(item) for rule in self.asked]
            worst = min(worst, max((low for low, _ in asked), default=SILENT))
            best = min(best, max((high for _, high in asked), default=SILENT))
        if best != PERMIT:
            return "deny"
        return "permit" if worst == PERMIT else "mixed"


ANY_ITEM: Json = dict.fromkeys(
    ("type", "id", "codes", "labels", "start", "end", "encounter", "author"), UNKNOWN
)


def withheld(item: Item) -> str | None:
    """Why an item is withheld whatever the consents say, or None."""
    if (kind := item.get("type")) is not UNKNOWN and kind not in RESOURCE_TYPES:
        return "type_unknown"
    labels = item.get("labels")
    if labels is UNKNOWN:
        return None
    return None if labels and security.UNLABELLED not in labels else "unlabelled"


def combined(outcomes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Among consents any deny wins, then any permit."""
    worsts, bests = [], []
    for worst, best in outcomes:
        worsts.append(worst)
        bests.append(best)
    return wins(worsts), wins(bests)


def wins(outcomes: Sequence[int]) -> int:
    if DENY in outcomes:
        return DENY
    return PERMIT if PERMIT in outcomes else SILENT


class Rule:
    """One provision and those nested in it."""

    __slots__ = ("criteria", "doubt", "narrows", "path", "permit", "provisions")

    def __init__(
        self,
        path: str,
        *,
        permit: bool,
        criteria: Sequence[Criterion],
        doubt: bool,
        provisions: Sequence["Rule"] = (),
    ) -> None:
        self.path = path
        self.permit = permit
        self.criteria = criteria
        self.doubt = DOUBT if doubt else 0
        self.provisions = provisions
        # A permit nested in a permit narrows it: what none of them reaches is not permitted.
        self.narrows = permit and any(one.permit for one in provisions)

    def bounds(self, item: Item) -> tuple[int, int]:
        """The worst and best outcome of this provision for the item."""
        found = YES | self.doubt
        for criterion in self.criteria:
            reached = criterion(item)
            if reached == NO:
                return SILENT, SILENT
            found |= reached
        if self.provisions:
            inner = [one.bounds(item) for one in self.provisions]
            worst = self._applied([low for low, _ in inner])
            best = self._applied([high for _, high in inner])
        else:
            worst = best = PERMIT if self.permit else DENY
        if found & DOUBT:
            worst, best = min(SILENT, worst), min(SILENT, best)
        if found & OPEN:
            worst, best = min(SILENT, worst), max(SILENT, best)
        return worst, best

    def _applied(self, inner: list[int]) -> int:
        """What this provision says where it applies: exceptions nest, among siblings deny wins."""
        if DENY in inner:
            return DENY
        if not self.permit:
            return PERMIT if PERMIT in inner else DENY
        if self.narrows and not any(
            outcome == PERMIT and one.permit for one, outcome in zip(self.provisions, inner, strict=True)
        ):
            return SILENT
        return PERMIT

    def decider(self, item: Item, outcome: int) -> str:
        """The path of the innermost provision that gives this best outcome."""
        for one in self.provisions:
            if one.permit == (outcome == PERMIT) and one.bounds(item)[1] == outcome:
                return one.decider(item, outcome)
        for one in self.provisions:
            if self.permit != (outcome == PERMIT) and one.bounds(item)[1] == outcome:
                return one.decider(item, outcome)
        return self.path


def read_rule(rule: Json) -> Rule:
    """A rule from its JSON form."""
    return Rule(
        rule.get("path", ""),
        permit=rule["type"] == "permit",
        criteria=item_criteria(rule),
        doubt=bool(rule.get("doubt")),
        provisions=[read_rule(one) for one in rule.get("provisions", ())],
    )


def item_criteria(rule: Mapping[str, Any]) -> list[Criterion]:
    """The criteria of a rule or provision that depend on the item."""
    permit = rule["type"] == "permit"
    return [make(rule[name], permit) for name, make in _CRITERIA.items() if name in rule]


def alternatives(named: Iterable[str]) -> tuple[frozenset[str], int]:
    """What is understood of the alternatives, and the answer for what is not among those."""
    known = frozenset(named)
    return known - {NOT_UNDERSTOOD}, DOUBT if NOT_UNDERSTOOD in known else NO


def _types(named: list[str], permit: bool) -> Criterion:
    known, otherwise = alternatives(named)

    def types(item: Item) -> int:
        kind = item.get("type")
        if kind is UNKNOWN:
            return OPEN
        return YES if kind in known else otherwise

    return types


def _labels(named: list[str], permit: bool) -> Criterion:
    known, otherwise = alternatives(named)
    reaches = security.covered if permit else security.touched

    def labels(item: Item) -> int:
        found = item.get("labels")
        if found is UNKNOWN:
            return OPEN
        return YES if reaches(known, frozenset(found or ())) else otherwise

    return labels


def _codes(named: list[str], permit: bool) -> Criterion:
    known, otherwise = alternatives(named)
    # ICD-10 says in its codes what lies under what: F32 includes F32.1.
    stems = tuple(one + "." for one in named if "icd-10" in one and "." not in one.rpartition("|")[2])

    def codes(item: Item) -> int:
        found = item.get("codes")
        if found is UNKNOWN:
            asked = item.get("asked_codes")
            return NO if asked and otherwise == NO and not stems and known.isdisjoint(asked) else OPEN
        if not found:
            return DOUBT
        if any(one in known or (stems and one.startswith(stems)) for one in found):
            return YES
        return DOUBT if NOT_UNDERSTOOD in found else otherwise

    return codes


def _data_period(named: list[int | None], permit: bool) -> Criterion:
    first, after = named

    def data_period(item: Item) -> int:
        start, end = item.get("start"), item.get("end")
        if start is UNKNOWN:
            asked = item.get("asked_period", (None, None))
            apart = _before(asked[1], first) or _before(after, asked[0])
            return NO if apart else OPEN
        if start is None and end is None:
            return DOUBT
        # 1. No overlap at all. 2. Wholly inside. 3. Partly: a permit does not reach it, a deny does.
        if (after is not None and start is not None and start >= after) or (
            first is not None and end is not None and end < first
        ):
            return NO
        inside = (first is None or (start is not None and start >= first)) and (
            after is None or (end is not None and end < after)
        )
        return YES if inside else DOUBT

    return data_period


def _before(after: int | None, start: int | None) -> bool:
    """Whether a period that ends before `after` lies wholly before one that begins at `start`."""
    return after is not None and start is not None and after <= start


def _authors(named: list[str], permit: bool) -> Criterion:
    def authors(item: Item) -> int:
        return _same(named, item.get("author"))

    return authors


def _encounters(named: list[str], permit: bool) -> Criterion:
    def encounters(item: Item) -> int:
        return _same(named, item.get("encounter"))

    return encounters


def _same(named: list[str], found: Any) -> int:
    """Whether what the item says (a name, several or None) is among the names."""
    if found is UNKNOWN:
        return OPEN
    if not found:
        return DOUBT
    names = [found] if isinstance(found, str) else list(found)
    matches = [compare(named, [name]) for name in names]
    return matches[0] if len(set(matches)) == 1 else DOUBT


def compare(named: Iterable[str], names: Sequence[str]) -> int:
    """YES where one of `names` is named; NO where all are comparable and differ; else DOUBT.

    A relative reference cannot be told from an absolute one with the same end, nor a reference from an
    identifier.
    """
    doubt = NO
    for one in named:
        if one in names and one != NOT_UNDERSTOOD:
            return YES
        if not any(_comparable(one, name) for name in names):
            doubt = DOUBT
    return doubt


def _comparable(one: str, other: str) -> bool:
    if NOT_UNDERSTOOD in (one, other) or ("|" in one) != ("|" in other):
        return False
    absolute = "://" in one, "://" in other
    return "|" in one or absolute[0] == absolute[1] or one.split("/")[-2:] != other.split("/")[-2:]


def _data(named: list[list[str]], permit: bool) -> Criterion:
    def data(item: Item) -> int:
        found = [_datum(meaning, name, item) for meaning, name in named]
        if YES in found:
            return YES
        return OPEN if OPEN in found else DOUBT if DOUBT in found else NO

    return data


def _datum(meaning: str, name: str, item: Item) -> int:
    """FHIR ConsentDataMeaning: the instance, what is related to it, what depends on it, what it authored."""
    if meaning == NOT_UNDERSTOOD:
        return DOUBT
    if meaning == "authoredby":
        return _same([name], item.get("author"))
    kind, own = item.get("type"), item.get("id")
    if kind is UNKNOWN or own is UNKNOWN:
        return OPEN
    itself = compare([name], [f"{kind}/{own}"]) if own else DOUBT
    if itself == YES or meaning == "instance":
        return itself
    if name.split("/")[-2:-1] == ["Encounter"]:
        return _same([name], item.get("encounter"))
    # What else is related to it does not stand in the item.
    return DOUBT


_CRITERIA: dict[str, Callable[[Any, bool], Criterion]] = {
    "types": _types,
    "codes": _codes,
    "labels": _labels,
    "data_period": _data_period,
    "authors": _authors,
    "encounters": _encounters,
    "data": _data,
}
ITEM_CRITERIA = frozenset(_CRITERIA)

"""The decision: consents and one request to permit or deny, with the reasons and the rules left over.

Deny by default. Among consents in force deny wins. A consent whose root does not match the request is silent.
The caller hands in only consents that the ledger shows in force; status and period are judged here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from ledger.contract import duo, purposes
from ledger.contract.consents import FORMAT, disease
from ledger.contract.resource_types import RESOURCE_TYPES
from ledger.contract.rules import (
    ANY_ITEM,
    DENY,
    DOUBT,
    ITEM_CRITERIA,
    NO,
    NOTHING,
    PERMIT,
    SILENT,
    UNKNOWN,
    YES,
    Json,
    Rule,
    alternatives,
    compare,
    item_criteria,
    permits,
    permits_chunk,
    wins,
)

__all__ = ["Asking", "Consent", "Decision", "compiled", "decide", "permits", "permits_chunk"]

Request = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided and why.

    reasons                stable codes: `permitted`, or every reason for which consents did not permit
    consent, provision     the deciding consent's id and the path of its provision; None where none decided
    rules                  what `permits` and `permits_chunk` apply to resources; a deny leaves nothing
    newest_wins_differs    whether "the newest consent that speaks wins" would have said otherwise
    """

    decision: Literal["permit", "deny"]
    reasons: tuple[str, ...]
    consent: str | None = None
    provision: str | None = None
    rules: Json = field(default_factory=lambda: NOTHING)
    newest_wins_differs: bool = False

    def as_json(self) -> Json:
        return {
            "consent": self.consent,
            "decision": self.decision,
            "newest_wins_differs": self.newest_wins_differs,
            "provision": self.provision,
            "reasons": list(self.reasons),
            "rules": self.rules,
        }


class Consent:
    """A canonical consent made ready for many decisions."""

    __slots__ = ("given", "id", "root", "status")

    def __init__(self, consent: Mapping[str, Any]) -> None:
        if consent.get("format") != FORMAT:
            raise ValueError("a canonical consent of an unknown format permits nothing")
        self.id: str = consent["consent"]
        self.status: str = consent["status"]
        self.given: int | None = consent["given"]
        self.root = _Provision(consent["provision"])


def compiled(consent: Mapping[str, Any]) -> Consent:
    """Compile once, decide often."""
    return Consent(consent)


def decide(
    consents: Sequence[Mapping[str, Any] | Consent], request: "Request | Asking", *, at: int
) -> Decision:
    """Decide `request` (docs/architecture.md, "The request") over one patient's canonical consents at `at`.

    The request may also say `labels`, `start` and `end`, `encounter`, `author` (what it asks for) and
    `custodian`; `purpose` and `recipient` may be lists: every purpose must be permitted, any name of the
    recipient counts. What a request leaves out is not known, and permits nothing that depends on it.
    """
    asking = request if isinstance(request, Asking) else Asking(request)
    if not consents:
        return Decision("deny", ("no_consent",))
    if asking.missing:
        return Decision("deny", (asking.missing,))
    # 1. What each consent leaves over for this request; those that do not match are silent.
    speaking: list[tuple[Consent, Rule, Json]] = []
    reasons: set[str] = set()
    for one in consents:
        consent = one if isinstance(one, Consent) else Consent(one)
        if consent.status != "active":
            reasons.add("consent_not_active")
            continue
        left = consent.root.left_over(asking, at)
        if isinstance(left, str):
            reasons.add(left)
        else:
            speaking.append((consent, *left))
    # 2. The best that any resource asked for could get.
    best, outcomes, item = SILENT, [SILENT] * len(speaking), asking.items[0]
    for candidate in asking.items:
        found = [rule.bounds(candidate)[1] for _, rule, _ in speaking]
        if (outcome := wins(found)) > best or candidate is item:
            best, outcomes, item = outcome, found, candidate
        if best == PERMIT:
            break
    # 3. Which consent decided, and whether the newest would have said otherwise.
    differs = len(speaking) > 1 and _newest(speaking, outcomes) not in (None, best == PERMIT)
    if best == SILENT:
        reasons.update(residue.get("doubt", "resource_not_covered") for _, _, residue in speaking)
        return Decision("deny", tuple(sorted(reasons)), newest_wins_differs=differs)
    consent, rule, _ = speaking[outcomes.index(best)]
    path = rule.decider(item, best)
    if best == DENY:
        return Decision("deny", ("denied_by_provision",), consent.id, path, NOTHING, differs)
    rules = {
        "asked": asking.asked,
        "consents": [{"consent": consent.id, "rule": residue} for consent, _, residue in speaking],
        "version": 1,
    }
    return Decision("permit", ("permitted",), consent.id, path, rules, differs)


def _newest(speaking: list[tuple[Consent, Rule, Json]], outcomes: list[int]) -> bool | None:
    """Whether the newest consent that says anything permits; None where none says anything."""
    said = [
        (consent.given if consent.given is not None else -1, -outcome, outcome == PERMIT)
        for (consent, _, _), outcome in zip(speaking, outcomes, strict=True)
        if outcome != SILENT
    ]
    return max(said)[2] if said else None


class Asking:
    """A request made ready once, for the consents of many patients."""

    __slots__ = (
        "action", "asked", "claims", "custodians", "diseases", "items", "missing", "model", "permissions",
        "purposes", "recipients",
    )  # fmt: skip

    def __init__(self, request: Request) -> None:
        self.purposes = _names(request.get("purpose"))
        self.recipients = _names(request.get("recipient"))
        self.custodians = _names(request.get("custodian"))
        self.action = request.get("action")
        self.model = request.get("model")
        use = _names(request.get("use"))
        found = frozenset(name for code in use if (name := duo.name(code)) is not None)
        self.permissions = found & duo.PERMISSIONS
        self.claims = duo.claims(found)
        self.diseases = [name for code in use if (name := disease(code)) is not None]
        self.asked, self.items = _asked(request)
        self.missing = self._missing(any(duo.name(code) is None and disease(code) is None for code in use))

    def _missing(self, has_unknown_use: bool) -> str | None:  # noqa: PLR0911 - one return for each code
        if not self.purposes:
            return "purpose_missing"
        if not purposes.KNOWN.issuperset(self.purposes):
            return "purpose_unknown"
        if not self.recipients:
            return "recipient_missing"
        if self.action not in _ACTIONS:
            return "action_unknown"
        if self.asked == []:
            return "nothing_asked"
        if all(item["type"] is not UNKNOWN and item["type"] not in RESOURCE_TYPES for item in self.items):
            return "type_unknown"
        return "use_unknown" if has_unknown_use else None


def _names(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else []


def _asked(request: Request) -> tuple[list[Json] | None, list[Json]]:
    """What the request asks for: as rules that an item must meet, and as items not yet known."""
    within: Json = {}
    item = dict(ANY_ITEM)
    if labels := request.get("labels"):
        within["labels"] = item["labels"] = list(labels)
    if request.get("start") is not None or request.get("end") is not None:
        start, end = request.get("start"), request.get("end")
        within["data_period"] = item["asked_period"] = [start, None if end is None else end + 1]
    for one in ("encounter", "author"):
        if name := request.get(one):
            within[f"{one}s"] = [name]
            item[one] = name
    resources = request.get("resources")
    if resources is None:
        return ([{"type": "permit", **within}] if within else None), [item]
    asked, items = [], []
    for resource in resources:
        codes = resource.get("codes")
        rule = {"type": "permit", **within, "types": [resource["type"]]}
        asked.append(rule if codes is None else {**rule, "codes": codes})
        items.append({**item, "type": resource["type"], "asked_codes": codes})
    return asked, items or [item]


# What an action needs: access to records is part of using them, and whoever may use them may access them.
_ACTIONS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    # action: (criteria that cover it, criteria that overlap it)
    "access": (frozenset({"access", "use"}), frozenset({"access", "use"})),
    "use": (frozenset({"use"}), frozenset({"access", "use"})),
    "disclose": (frozenset({"disclose"}), frozenset({"disclose", "access"})),
    "collect": (frozenset({"collect"}), frozenset({"collect"})),
    "correct": (frozenset({"correct"}), frozenset({"correct", "access"})),
}


@lru_cache(maxsize=256)
def _wider(purpose: str) -> frozenset[str]:
    return purposes.ancestors(purpose)


@lru_cache(maxsize=256)
def _narrower(purpose: str) -> frozenset[str]:
    return purposes.descendants(purpose)


_LEFT = ITEM_CRITERIA | {"path", "type"}


class _Provision:
    """One provision: what the request settles, and what is left for the items."""

    __slots__ = ("checks", "criteria", "doubt", "left", "narrows", "path", "period", "permit", "provisions")

    def __init__(self, provision: Mapping[str, Any]) -> None:
        self.period: tuple[int | None, int | None] = tuple(provision.get("period", (None, None)))
        self.checks = _checks(provision)
        self.doubt = "not_understood" if provision.get("not_understood") else None
        self.path: str = provision["path"]
        self.permit = provision["type"] == "permit"
        self.criteria = item_criteria(provision)
        self.left = {name: provision[name] for name in sorted(_LEFT) if name in provision}
        self.provisions = [_Provision(one) for one in provision.get("provisions", ())]
        # A permit nested in a permit narrows it, also where it does not match the request.
        self.narrows = self.permit and any(one.permit for one in self.provisions)

    def left_over(self, asking: Asking, at: int) -> tuple[Rule, Json] | str:
        """The rule left over, ready and as JSON, or the code of why this provision does not match."""
        start, end = self.period
        if end is not None and at >= end:
            return "consent_expired"
        if start is not None and at < start:
            return "consent_not_yet_valid"
        doubt = self.doubt
        for check, code in self.checks:
            reached = check(asking)
            if reached == NO:
                return code
            if reached == DOUBT:
                doubt = doubt or code
        residue = {**self.left, "doubt": doubt} if doubt else self.left
        if not self.provisions:
            rule = Rule(self.path, permit=self.permit, criteria=self.criteria, doubt=doubt is not None)
            return rule, residue
        inner = [found for one in self.provisions if not isinstance(found := one.left_over(asking, at), str)]
        if self.narrows and not any(rule.permit for rule, _ in inner):
            inner.append(_unreachable(self.path))
        nested = [rule for rule, _ in inner]
        rule = Rule(
            self.path, permit=self.permit, criteria=self.criteria, doubt=doubt is not None, provisions=nested
        )
        return rule, {**residue, "provisions": [one for _, one in inner]} if inner else residue


def _unreachable(path: str) -> tuple[Rule, Json]:
    """A nested permit that reaches nothing: it stands for those that do not match the request."""
    residue = {"doubt": "resource_not_covered", "path": path, "type": "permit"}
    return Rule(path, permit=True, criteria=(), doubt=True), residue


Check = Callable[[Asking], int]


def _recipients(named: list[str]) -> Check:
    return lambda asking: compare(named, asking.recipients)


def _custodians(named: list[str]) -> Check:
    return lambda asking: compare(named, asking.custodians) if asking.custodians else DOUBT


def _purposes(named: list[str]) -> Check:
    known, otherwise = alternatives(named)

    def check(asking: Asking) -> int:
        covered = [not known.isdisjoint(_wider(purpose)) for purpose in asking.purposes]
        if all(covered):
            return YES
        if any(covered) or any(not known.isdisjoint(_narrower(purpose)) for purpose in asking.purposes):
            return DOUBT
        return otherwise

    return check


def _actions(named: list[str]) -> Check:
    known, otherwise = alternatives(named)

    def check(asking: Asking) -> int:
        covering, touching = _ACTIONS[str(asking.action)]
        if not known.isdisjoint(covering):
            return YES
        return otherwise if known.isdisjoint(touching) else DOUBT

    return check


def _models(named: list[str]) -> Check:
    known, otherwise = alternatives(named)
    return lambda asking: YES if asking.model in known else otherwise


def _use(named: list[str]) -> Check:
    known = frozenset(named)

    def check(asking: Asking) -> int:
        if not asking.permissions:
            return DOUBT
        covered = [not known.isdisjoint(duo.covering(one)) for one in asking.permissions]
        if all(covered):
            return YES
        overlap = any(covered) or any(not asking.permissions.isdisjoint(duo.covering(one)) for one in known)
        return DOUBT if overlap else NO

    return check


def _conditions(named: list[str]) -> Check:
    known = frozenset(named)

    def check(asking: Asking) -> int:
        contradicted = "NPOA" in known and "POA" in asking.permissions
        return YES if known <= asking.claims and not contradicted else DOUBT

    return check


def _diseases(named: list[str]) -> Check:
    known, otherwise = alternatives(named)

    def check(asking: Asking) -> int:
        if asking.diseases and known.issuperset(asking.diseases):
            return YES
        overlaps = not asking.diseases or not known.isdisjoint(asking.diseases)
        return DOUBT if overlaps else otherwise

    return check


def _checks(provision: Mapping[str, Any]) -> list[tuple[Check, str]]:
    """What the request must meet, with the code of where it does not.

    FHIR's purposes are alternatives. A permit that names purposes of use and DUO codes is for a request that
    meets both; a deny of either is a deny.
    """
    checks = {name: make(provision[name]) for name, (make, _) in _CHECKS.items() if name in provision}
    research = [checks[name] for name in _DUO if name in checks]
    if provision["type"] == "deny" and "purposes" in checks and research:
        checks = {name: check for name, check in checks.items() if name not in _DUO}
        checks["purposes"] = _either(checks["purposes"], research)
    return [(check, _CHECKS[name][1]) for name, check in checks.items()]


def _either(purposes_of_use: Check, research: Sequence[Check]) -> Check:
    """Reached by the purposes of use, or by all that DUO says."""

    def check(asking: Asking) -> int:
        found = {one(asking) for one in research}
        reached = {NO if NO in found else DOUBT if DOUBT in found else YES, purposes_of_use(asking)}
        return YES if YES in reached else DOUBT if DOUBT in reached else NO

    return check


_DUO = ("use", "conditions", "diseases")
_CHECKS: dict[str, tuple[Callable[[list[str]], Check], str]] = {
    "recipients": (_recipients, "recipient_not_named"),
    "custodians": (_custodians, "custodian_not_named"),
    "purposes": (_purposes, "purpose_not_permitted"),
    "actions": (_actions, "action_not_permitted"),
    "models": (_models, "model_not_named"),
    "use": (_use, "use_not_permitted"),
    "conditions": (_conditions, "condition_not_met"),
    "diseases": (_diseases, "disease_not_named"),
}

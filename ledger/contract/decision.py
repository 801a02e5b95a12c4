"""The decision: consents and one request to permit or deny, with the reasons and the rules left over.

Deny by default. Among consents in force deny wins. A consent whose root does not match the request is silent.
The caller hands in only consents that the ledger shows in force; status and period are judged here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from ledger.contract import duo, purposes
from ledger.contract.consents import DOUBT as NOT_UNDERSTOOD
from ledger.contract.consents import FORMAT, disease
from ledger.contract.rules import (
    ANY_ITEM,
    DENY,
    DOUBT,
    ITEM_CRITERIA,
    NO,
    NOTHING,
    PERMIT,
    SILENT,
    YES,
    CompiledRules,
    Json,
    compare,
    permits,
    permits_chunk,
)

__all__ = ["Consent", "Decision", "compiled", "decide", "permits", "permits_chunk"]

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


def decide(consents: Sequence[Mapping[str, Any] | Consent], request: Request, *, at: int) -> Decision:
    """Decide `request` (docs/architecture.md, "The request") over one patient's canonical consents at `at`.

    The request may also say `labels`, `start` and `end`, `encounter`, `author` (what it asks for) and
    `custodian`; `purpose` and `recipient` may be lists: every purpose must be permitted, any name of the
    recipient counts. What a request leaves out is not known, and permits nothing that depends on it.
    """
    if not consents:
        return Decision("deny", ("no_consent",))
    asking = _Asking(request, at)
    if asking.missing:
        return Decision("deny", (asking.missing,))
    # 1. What each consent leaves over for this request; those that do not match are silent.
    speaking: list[tuple[Consent, Json]] = []
    reasons: set[str] = set()
    for one in consents:
        consent = one if isinstance(one, Consent) else Consent(one)
        if consent.status != "active":
            reasons.add("consent_not_active")
            continue
        residue = consent.root.residue(asking)
        if isinstance(residue, str):
            reasons.add(residue)
        else:
            speaking.append((consent, residue))
    if not speaking:
        return Decision("deny", tuple(sorted(reasons)))
    # 2. The best that any resource asked for could get.
    rules = {
        "asked": asking.asked,
        "consents": [{"consent": consent.id, "rule": residue} for consent, residue in speaking],
        "version": 1,
    }
    ready = CompiledRules(rules)
    item = (
        max(asking.items, key=lambda one: ready.bounds(one)[1]) if len(asking.items) > 1 else asking.items[0]
    )
    outcomes = [rule.bounds(item)[1] for rule in ready.consents]
    best = ready.bounds(item)[1]
    # 3. Which consent decided, and whether the newest would have said otherwise.
    differs = len(speaking) > 1 and _newest(speaking, outcomes) not in (None, best == PERMIT)
    if best == PERMIT:
        index = outcomes.index(PERMIT)
        path = ready.consents[index].decider(item, PERMIT)
        return Decision("permit", ("permitted",), speaking[index][0].id, path, rules, differs)
    if DENY in outcomes:
        index = outcomes.index(DENY)
        path = ready.consents[index].decider(item, DENY)
        return Decision("deny", ("denied_by_provision",), speaking[index][0].id, path, NOTHING, differs)
    for _, residue in speaking:
        reasons.add(residue.get("doubt") or "resource_not_covered")
    return Decision("deny", tuple(sorted(reasons)), newest_wins_differs=differs)


def _newest(speaking: list[tuple[Consent, Json]], outcomes: list[int]) -> bool | None:
    """Whether the newest consent that says anything permits; None where none says anything."""
    said = [
        (consent.given if consent.given is not None else -1, -outcome, outcome == PERMIT)
        for (consent, _), outcome in zip(speaking, outcomes, strict=True)
        if outcome != SILENT
    ]
    return max(said)[2] if said else None


class _Asking:
    """A request made ready: every set that provisions are compared with."""

    __slots__ = (
        "action", "asked", "at", "claims", "custodians", "diseases", "items", "missing", "model",
        "permissions", "purposes", "recipients",
    )  # fmt: skip

    def __init__(self, request: Request, at: int) -> None:
        self.at = at
        self.purposes = _names(request.get("purpose"))
        self.recipients = _names(request.get("recipient"))
        self.custodians = _names(request.get("custodian"))
        self.action = request.get("action")
        self.model = request.get("model")
        use = [str(code) for code in request.get("use") or ()]
        found = frozenset(name for code in use if (name := duo.name(code)) is not None)
        self.permissions = found & duo.PERMISSIONS
        self.claims = duo.claims(found)
        self.diseases = [name for code in use if (name := disease(code)) is not None]
        self.missing = self._missing(len(found) + len(self.diseases) < len(use))
        self.asked, self.items = _asked(request)

    def _missing(self, has_unknown_use: bool) -> str | None:
        if not self.purposes:
            return "purpose_missing"
        if not purposes.KNOWN.issuperset(self.purposes):
            return "purpose_unknown"
        if not self.recipients:
            return "recipient_missing"
        if self.action not in _ACTIONS:
            return "action_unknown"
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
        within["data_period"] = [start, None if end is None else end + 1]
        item["start"], item["end"] = start, end
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
        asked.append(
            {
                "type": "permit",
                **within,
                "types": [resource["type"]],
                **({} if codes is None else {"codes": codes}),
            }
        )
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


class _Provision:
    """One provision: what the request settles, and what is left for the items."""

    __slots__ = ("checks", "doubt", "left", "narrows", "period", "provisions")

    def __init__(self, provision: Mapping[str, Any]) -> None:
        self.period: tuple[int | None, int | None] = tuple(provision.get("period", (None, None)))
        self.checks = [
            (make(provision[name]), code) for name, (make, code) in _CHECKS.items() if name in provision
        ]
        self.doubt = "not_understood" if provision.get("not_understood") else None
        kept = ITEM_CRITERIA | {"type", "path"}
        self.left = {name: provision[name] for name in sorted(kept) if name in provision}
        self.provisions = [_Provision(one) for one in provision.get("provisions", ())]
        # A permit nested in a permit narrows it, also where it does not match the request.
        self.narrows = self.left["type"] == "permit" and any(
            one.left["type"] == "permit" for one in self.provisions
        )

    def residue(self, asking: _Asking) -> Json | str:
        """The rule left over, or the code of why this provision does not match."""
        start, end = self.period
        if end is not None and asking.at >= end:
            return "consent_expired"
        if start is not None and asking.at < start:
            return "consent_not_yet_valid"
        doubt = self.doubt
        for check, code in self.checks:
            found = check(asking)
            if found == NO:
                return code
            if found == DOUBT:
                doubt = doubt or code
        rule = dict(self.left)
        if doubt:
            rule["doubt"] = doubt
        if self.provisions:
            inner = [one.residue(asking) for one in self.provisions]
            nested = [one for one in inner if not isinstance(one, str)]
            if self.narrows and not any(one["type"] == "permit" for one in nested):
                nested.append({"doubt": "resource_not_covered", "path": rule["path"], "type": "permit"})
            if nested:
                rule["provisions"] = nested
        return rule


Check = Callable[[_Asking], int]


def _recipients(named: list[str]) -> Check:
    return lambda asking: compare(named, asking.recipients)


def _custodians(named: list[str]) -> Check:
    return lambda asking: compare(named, asking.custodians) if asking.custodians else DOUBT


def _purposes(named: list[str]) -> Check:
    known, otherwise = frozenset(named), DOUBT if NOT_UNDERSTOOD in named else NO

    def check(asking: _Asking) -> int:
        covered = [not known.isdisjoint(_wider(purpose)) for purpose in asking.purposes]
        if all(covered):
            return YES
        if any(covered) or any(not known.isdisjoint(_narrower(purpose)) for purpose in asking.purposes):
            return DOUBT
        return otherwise

    return check


def _actions(named: list[str]) -> Check:
    known, otherwise = frozenset(named), DOUBT if NOT_UNDERSTOOD in named else NO

    def check(asking: _Asking) -> int:
        covering, touching = _ACTIONS[str(asking.action)]
        if not known.isdisjoint(covering):
            return YES
        return otherwise if known.isdisjoint(touching) else DOUBT

    return check


def _models(named: list[str]) -> Check:
    known, otherwise = frozenset(named), DOUBT if NOT_UNDERSTOOD in named else NO
    return lambda asking: YES if asking.model in known else otherwise


def _use(named: list[str]) -> Check:
    known = frozenset(named)

    def check(asking: _Asking) -> int:
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

    def check(asking: _Asking) -> int:
        contradicted = "NPOA" in known and "POA" in asking.permissions
        return YES if known <= asking.claims and not contradicted else DOUBT

    return check


def _diseases(named: list[str]) -> Check:
    known = frozenset(named)

    def check(asking: _Asking) -> int:
        if asking.diseases and known.issuperset(asking.diseases):
            return YES
        doubtful = not asking.diseases or NOT_UNDERSTOOD in known or not known.isdisjoint(asking.diseases)
        return DOUBT if doubtful else NO

    return check


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

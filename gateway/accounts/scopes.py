"""The scopes of a token: ours by name, and SMART App Launch 2 scopes over FHIR resources.

`system/Observation.rs?category=…|laboratory` reads and searches what its query matches. A scope never gives
anything by itself: a consent has to permit it too. What is not understood is refused, never taken for less.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from ledger.contract.resource_types import RESOURCE_TYPES
from ledger.errors import InvalidInput

OURS = {
    "consents": "Ask patients for consent, and see what is in force",
    "jobs": "Run jobs and read their results",
}
_SYSTEM = re.compile(r"system/(\*|[A-Z][A-Za-z]{1,40})\.(read|r?s?)(?:\?(.{1,500}))?")
READ, SEARCH = "r", "s"
# What a scope's query may ask for, by token (FHIR search): the elements of that name.
PARAMETERS = frozenset({"category", "code", "status"})
MOST = 60

Filter = list[
    list[Any]
]  # [[parameter, [[system or None, code or None], …]], …]: each parameter, any of its tokens


@dataclass(frozen=True)
class SystemScope:
    """`resource_type` is "*" for every type; `filter` is what a resource has to match."""

    resource_type: str
    actions: frozenset[str]
    filter: Filter

    def covers(self, resource_type: str, action: str) -> bool:
        return action in self.actions and self.resource_type in ("*", resource_type)


@dataclass(frozen=True)
class Scopes:
    """All scopes of one token."""

    ours: frozenset[str]
    system: tuple[SystemScope, ...]

    @classmethod
    def read(cls, text: str) -> "Scopes":
        """Raises InvalidInput (`scope`) where one of them is not understood."""
        ours, system = set(), []
        named = text.split(" ")
        if len(named) > MOST:
            raise InvalidInput(f"Ask for at most {MOST} scopes.", code="scope")
        for one in named:
            if one in OURS:
                ours.add(one)
            else:
                system.append(_system(one))
        return cls(frozenset(ours), tuple(system))

    def filters(self, resource_type: str, action: str) -> list[Filter] | None:
        """What resources of this type have to match, one of these ([] matches all); None: no scope."""
        found = [scope.filter for scope in self.system if scope.covers(resource_type, action)]
        if not found:
            return None
        return [[]] if [] in found else found

    def permits(self, resource: Mapping[str, Any], action: str) -> bool:
        """Whether a FHIR resource lies within these scopes."""
        found = self.filters(str(resource.get("resourceType")), action)
        return found is not None and any(matches(resource, one) for one in found)


def matches(resource: Mapping[str, Any], wanted: Filter) -> bool:
    """Whether each parameter finds one of its tokens in the resource."""
    return all(
        any(_is(coding, *token) for coding in _codings(resource.get(parameter)) for token in tokens)
        for parameter, tokens in wanted
    )


def _system(text: str) -> SystemScope:
    found = _SYSTEM.fullmatch(text)
    if found is None or not found[2]:
        raise InvalidInput(
            f"A scope is one of {', '.join(OURS)}, or system/<type>.rs: to read and to search.",
            code="scope",
        )
    kind, actions, query = found.groups()
    if kind != "*" and kind not in RESOURCE_TYPES:
        raise InvalidInput("A scope names a resource type that FHIR R4 does not have.", code="scope")
    wanted = frozenset(READ + SEARCH if actions == "read" else actions)
    return SystemScope(kind, wanted, read_filter(query) if query else [])


def read_filter(query: str) -> Filter:
    """`category=system|code&…` as a filter. Raises InvalidInput (`scope`)."""
    try:
        pairs = parse_qsl(query, strict_parsing=True, errors="strict", max_num_fields=5)
    except (ValueError, UnicodeError):
        pairs = []
    if not pairs or any(name not in PARAMETERS for name, _ in pairs):
        raise InvalidInput(
            f"A scope's query asks by {', '.join(sorted(PARAMETERS))}, as in ?code=system|code.", code="scope"
        )
    return [[name, [_token(one) for one in value.split(",")]] for name, value in pairs]


def _token(text: str) -> list[str | None]:
    """`system|code`, `system|`, `|code` (a code without a system) or `code` (of any system)."""
    system, bar, code = text.rpartition("|")
    if not system and not code:
        raise InvalidInput("A scope's query names no code.", code="scope")
    return [system if bar else None, code or None]


def _codings(value: Any) -> list[tuple[str, str]]:
    """(system, code) of a code, a Coding, a CodeableConcept, or a list of them."""
    if isinstance(value, str):
        return [("", value)]
    if isinstance(value, list):
        return [coding for each in value for coding in _codings(each)]
    if not isinstance(value, dict):
        return []
    if "coding" in value:
        return _codings(value["coding"])
    return [(str(value.get("system") or ""), str(value.get("code") or ""))]


def _is(coding: tuple[str, str], system: str | None, code: str | None) -> bool:
    return (system is None or coding[0] == system) and (code is None or coding[1] == code)

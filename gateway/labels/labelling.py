"""Puts confidentiality and sensitivity on a FHIR R4 resource by rule, from the codes that it carries.

Pure functions over one parsed resource: no Django, no database. The rules stand in `rules.py`.
In doubt there is no label, and what has no label is sealed under `UNLABELLED`, which nothing permits.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.labels.rules import (
    ACT_CODE,
    ALIASES,
    CONFIDENTIALITY,
    COVERED,
    ICD_10,
    RULES,
    STATEMENTS,
    VERSION,
    Rule,
    Statement,
)

Resource = dict[str, Any]
UNLABELLED = "unlabelled"
FOLLOWS = "follows"
_NO_STATEMENT = Statement()
_CONTAINERS = frozenset({dict, list})

# Ordered from least to most; U, L and M of the source are kept as N, the floor of these records.
_RANK = {"U": 0, "L": 0, "M": 0, "N": 0, "R": 1, "V": 2}
_NAME = ("N", "R", "V")

_EXACT: dict[tuple[str, str], Rule] = {
    (rule.system, code): rule for rule in RULES if rule.system != ICD_10 for code in rule.codes.split()
}
_PREFIX: dict[str, Rule] = {
    code: rule for rule in RULES if rule.system == ICD_10 for code in rule.codes.split()
}
_PREFIX_LENGTHS = sorted({len(code) for code in _PREFIX}, reverse=True)


@dataclass(frozen=True)
class Labels:
    """What one resource carries.

    confidentiality  N, R or V (v3-Confidentiality)
    sensitivity      sorted v3-ActCode codes
    basis            sorted names of the rules that put them on, "source" for meta.security,
                     "followed", "type", "no-rule"
    version          of the rule table
    """

    confidentiality: str
    sensitivity: tuple[str, ...]
    basis: tuple[str, ...]
    version: str = VERSION

    @property
    def codes(self) -> tuple[str, ...]:
        """All of them as the contract takes them: sorted, confidentiality among them."""
        return tuple(sorted((self.confidentiality, *self.sensitivity)))

    @classmethod
    def of(cls, codes: Iterable[str], basis: tuple[str, ...] = ("followed",)) -> "Labels | None":
        """Of what `codes` gave; None where they withhold."""
        said = set(codes)
        if UNLABELLED in said:
            return None
        rank = max((_RANK[one] for one in said if one in _NAME), default=0)
        return cls(_NAME[rank], tuple(sorted(said - set(_NAME))), basis)

    def joined(self, other: "Labels | None") -> "Labels":
        """What either carries."""
        if other is None:
            return self
        rank = max(_RANK[self.confidentiality], _RANK[other.confidentiality])
        sensitivity = {*self.sensitivity, *other.sensitivity}
        return Labels(_NAME[rank], tuple(sorted(sensitivity)), tuple(sorted({*self.basis, *other.basis})))


class Lookup(Protocol):
    """Labels by `Type/id` or `urn:uuid:…`; None where they are not known, or there are none."""

    def get(self, name: str, /) -> Labels | None: ...


def label(
    resource: Resource,
    known: Lookup | None = None,
    codings: Iterable[Mapping[str, Any]] | None = None,
) -> Labels | None:
    """The labels of `resource`, or None where the rules cannot tell: it is then withheld.

    `known` has the labels of resources at hand by `Type/id` and by `urn:uuid:…`, for a resource whose meaning
    stands in another (a Claim's diagnosis). `codings` are all those of the resource, where a walk through it
    has found them already. None also where the type has no statement, where the element that the rules need
    holds no code of a covered terminology, and where the source's own confidentiality is not one of
    v3-Confidentiality.
    """
    statement = STATEMENTS.get(str(resource.get("resourceType")))
    if statement is None:
        return None
    found = _Found()

    # 1. What the source says is never lowered.
    if not _take_source(resource, found):
        return None

    # 2. A sensitive code anywhere in it counts: a reason, a component, a contained resource.
    for coding in _codings(resource) if codings is None else codings:
        if (rule := _rule(*_named(coding))) is not None:
            found.add(rule.sensitivity, rule.name)

    # 3. What its meaning rests on must be there: a code of its own, and each thing that it must follow.
    must, missing = _followed(resource, statement.must, known or {})
    if missing or not (must or statement.by_type or _has_code(resource, statement.needs)):
        return None
    may, _ = _followed(resource, statement.follows, known or {})
    for other in must + may:
        found.follow(other)

    return found.labels("type" if statement.by_type else "no-rule")


def noted(resource: Resource, codings: Iterable[Mapping[str, Any]] | None = None) -> tuple[str, ...]:
    """The codes of the resource that rules can speak of, each once, as `sct|7200002`, ICD-10's without a dot;
    and FOLLOWS where it refers to something that rules follow. `codings` as for `label`.

    They are noted beside a record, so that it can be told without opening it whether newer rules concern it.
    """
    found = {
        f"{COVERED[system]}|{_bare(code) if system == ICD_10 else code}"
        for system, code in map(_named, _codings(resource) if codings is None else codings)
        if system in COVERED
    }
    statement = STATEMENTS.get(str(resource.get("resourceType")), _NO_STATEMENT)
    if any(True for path in (*statement.follows, *statement.must) for _ in _references(resource, path)):
        found.add(FOLLOWS)
    return tuple(sorted(found))


def _has_code(resource: Resource, needs: Iterable[str]) -> bool:
    """Whether one of these elements holds a code of a terminology that the rules cover."""
    return any(_named(one)[0] in COVERED for name in needs for one in _codings(resource.get(name)))


@dataclass
class _Found:
    rank: int = 0
    sensitivity: set[str] = field(default_factory=set)
    basis: set[str] = field(default_factory=set)

    def add(self, sensitivity: Iterable[str], basis: str) -> None:
        self.sensitivity.update(sensitivity)
        self.basis.add(basis)

    def follow(self, other: Labels) -> None:
        self.rank = max(self.rank, _RANK[other.confidentiality])
        self.add(other.sensitivity, "followed")

    def labels(self, otherwise: str) -> Labels:
        rank = max(self.rank, _RANK["R"]) if self.sensitivity else self.rank
        basis = tuple(sorted(self.basis)) or (otherwise,)
        return Labels(_NAME[rank], tuple(sorted(self.sensitivity)), basis)


def _take_source(resource: Resource, found: _Found) -> bool:
    """False where the source's confidentiality is no code of v3-Confidentiality."""
    meta = resource.get("meta")
    for system, code in map(_named, _codings(meta.get("security")) if isinstance(meta, dict) else ()):
        if system == CONFIDENTIALITY:
            if code not in _RANK:
                return False
            found.rank = max(found.rank, _RANK[code])
            found.basis.add("source")
        elif system == ACT_CODE:
            found.add((code,), "source")
    return True


def _followed(resource: Resource, paths: tuple[str, ...], known: Lookup) -> tuple[list[Labels], bool]:
    """The labels of what `resource` refers to at `paths`, and whether any of it is not known."""
    if not paths:
        return [], False
    labels = [
        _contained(resource, reference, known) if reference.startswith("#") else known.get(reference)
        for path in paths
        for reference in _references(resource, path)
    ]
    return [one for one in labels if one is not None], None in labels


def _contained(resource: Resource, reference: str, known: Lookup) -> Labels | None:
    found = [one for one in _listed(resource.get("contained")) if one.get("id") == reference[1:]]
    # FHIR forbids a contained resource to contain another (dom-2): this goes one level down, no further.
    return label({**found[0], "contained": []}, known) if len(found) == 1 else None


def _rule(system: str, code: str) -> Rule | None:
    if system != ICD_10:
        return _EXACT.get((system, code))
    bare = _bare(code)
    for length in _PREFIX_LENGTHS:
        if (rule := _PREFIX.get(bare[:length])) is not None:
            return rule
    return None


def _bare(icd_10: str) -> str:
    return icd_10.replace(".", "").upper()


def _codings(value: Any) -> list[Mapping[str, Any]]:
    """Every object within `value` that has a code and a system."""
    found: list[Mapping[str, Any]] = []
    stack = [value]
    for node in stack:
        children: Iterable[Any] = ()
        if type(node) is dict:
            children = node.values()
            if "code" in node and "system" in node:
                found.append(node)
        elif type(node) is list:
            children = node
        stack += [child for child in children if type(child) in _CONTAINERS]
    return found


def _named(coding: Mapping[str, Any]) -> tuple[str, str]:
    """System and code, with the terminology's one name; what is no string is no code."""
    system, code = coding["system"], coding["code"]
    if type(system) is not str or type(code) is not str:
        return "", ""
    return ALIASES.get(system, system), code


def _references(resource: Resource, path: str) -> Iterator[str]:
    """Literal references at `path` (dots between elements, lists passed through)."""
    nodes: list[Any] = [resource]
    for name in path.split("."):
        nodes = [child for node in nodes if isinstance(node, dict) for child in _listed(node.get(name))]
    for node in nodes:
        if isinstance(node, dict):
            # A reference without a literal address cannot be followed: "" is never known.
            yield str(node.get("reference", ""))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]

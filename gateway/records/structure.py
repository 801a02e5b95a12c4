"""One walk through a resource beside FHIR R4's definitions: every element's name, number, type, form, code,
reference target, and the invariants across elements. A fault names its element, and never repeats a value.

No Django, no database. A path is a chain of steps and becomes text only where there is a fault.
"""

import re
from collections.abc import Mapping
from typing import Any

from gateway.records import invariants
from gateway.records.definitions import (
    EMPTY,
    NOT_A_LIST,
    NOT_AN_OBJECT,
    NOT_ONE_OF_MANY,
    Concepts,
    Definition,
    Element,
    Fault,
    UnknownType,
    definition,
)
from gateway.records.strict_json import Refused

MAX_FAULTS = 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")
_LED_TO = re.compile(
    r"(?:^|/)([A-Z][A-Za-z]{1,40})(?:/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?|\?.*)$"
)

Path = tuple[Any, ...]  # (path above, name or index); () is the resource


def faults_of(resource: Mapping[str, Any], addresses: Mapping[str, str]) -> list[Refused]:
    """What is wrong with a resource whose type is FHIR R4's; at most MAX_FAULTS. Raises UnknownType.

    `addresses` maps each fullUrl of the same Bundle to `Type/id`, so that its references can be judged too.
    """
    walk = _Walk(resource, addresses)
    walk.resource(resource, ())
    return walk.faults


class _Walk:
    def __init__(self, resource: Mapping[str, Any], addresses: Mapping[str, str]) -> None:
        self.faults: list[Refused] = []
        self._found = 0  # also those past MAX_FAULTS
        self._kind = str(resource["resourceType"])
        self._addresses = addresses
        contained = resource.get("contained")
        self._contained = {
            f"#{one.get('id')}": str(one.get("resourceType"))
            for one in (contained if isinstance(contained, list) else ())
            if isinstance(one, dict)
        }

    def resource(self, node: Mapping[str, Any], path: Path) -> None:
        kind = node["resourceType"]
        self._object(node, definition(kind), path, at_top=True)
        if not path and not self.faults:
            for key, index, says in invariants.contained_faults(node):
                self._fault((((), "contained"), index), (key, says))

    def _object(self, node: Any, of: Definition, path: Path, at_top: bool = False) -> None:
        if type(node) is not dict:
            self._fault(path, EMPTY if node is None else NOT_AN_OBJECT)
            return
        found_before = self._found
        chosen: dict[str, str] = {}
        for name, value in node.items():
            element = of.elements.get(name)
            if element is not None:
                if element.choice and chosen.setdefault(element.choice, element.base) != element.base:
                    said = f"is a second {element.choice}[x]; there may be one"
                    self._fault((path, name), ("two_values", said))
                self._element(node, element, value, (path, name))
            elif not (at_top and name == "resourceType"):
                self._fault((path, name), ("unknown_element", "is no element of this type in FHIR R4"))
        if not at_top and (not node or (len(node) == 1 and "id" in node)):  # ele-1
            self._fault(path, EMPTY)
        self._required(node, of, path)
        if self._found == found_before:
            for rule in invariants.of(of.kind):
                if not rule.holds(node):
                    self._fault(path, (rule.key, rule.says))

    def _required(self, node: Mapping[str, Any], of: Definition, path: Path) -> None:
        for group in of.required:
            for name in group:
                if name in node:
                    break
            else:
                wanted = group[0] if group[-1][0] == "_" else f"{of.elements[group[0]].choice}[x]"
                self._fault((path, wanted), ("required", "is required"))

    def _element(self, node: Mapping[str, Any], element: Element, value: Any, path: Path) -> None:
        if element.name[0] == "_":
            self._beside(node, element, value, path)
        elif element.many:
            self._list(node, element, value, path)
        elif element.check is None:
            self._complex(element, value, path)
        elif (fault := element.check(value)) is not None:
            self._fault(path, NOT_ONE_OF_MANY if type(value) is list else EMPTY if value is None else fault)

    def _list(self, node: Mapping[str, Any], element: Element, value: Any, path: Path) -> None:
        if type(value) is not list:
            self._fault(path, NOT_A_LIST)
        elif not value:
            self._fault(path, EMPTY)
        elif element.check is None:
            for index, one in enumerate(value):
                self._complex(element, one, (path, index))
        else:
            beside = node.get(f"_{element.name}")
            for index, one in enumerate(value):
                if one is None and _has_extensions(beside, index):
                    continue  # FHIR R4, JSON: a null stands for a primitive that has extensions only
                if (fault := element.check(one)) is not None:
                    self._fault((path, index), EMPTY if one is None else fault)

    def _complex(self, element: Element, value: Any, path: Path) -> None:
        if type(value) is list:
            self._fault(path, NOT_ONE_OF_MANY)
        elif element.kind == "Resource":
            self._inner_resource(value, path)
        else:
            found_before = self._found
            self._object(value, definition(element.kind), path)
            if self._found == found_before:
                if element.kind == "Reference":
                    self._reference(value, element.targets, path)
                elif element.concepts is not None:
                    self._concept(value, element.concepts, path)

    def _beside(self, node: Mapping[str, Any], element: Element, value: Any, path: Path) -> None:
        """The id and extensions of a primitive, which JSON keeps beside it under `_name`."""
        of = definition(element.kind)
        if not element.many:
            self._object(value, of, path)
        elif type(value) is not list:
            self._fault(path, NOT_A_LIST)
        elif type(beside := node.get(element.base)) is list and len(beside) != len(value):
            self._fault(path, ("cardinality", "must be as long as the list that it belongs to"))
        else:
            for index, one in enumerate(value):
                if one is not None:
                    self._object(one, of, (path, index))

    def _inner_resource(self, value: Any, path: Path) -> None:
        if type(value) is not dict or type(value.get("resourceType")) is not str:
            self._fault(path, ("wrong_type", "must be a resource"))
            return
        try:
            self.resource(value, path)
        except UnknownType:
            self._fault((path, "resourceType"), ("value_set", "is no resource type of FHIR R4"))

    def _reference(self, value: Mapping[str, Any], targets: frozenset[str], path: Path) -> None:
        literal, said = value.get("reference"), value.get("type")
        if literal is None:
            return
        meant = self._addresses.get(literal, literal)
        if literal.startswith("#"):
            kind = self._kind if literal == "#" else self._contained.get(literal)
            if kind is None:
                self._fault(path, ("ref-1", "refers to a contained resource that is not there"))
                return
        elif (led := _LED_TO.search(meant)) is not None:
            kind = led[1]
        else:
            return  # an address elsewhere, which does not say what it is
        if targets and kind not in targets:
            self._fault(path, ("wrong_reference", f"must lead to {_listed(targets)}"))
        elif said is not None and said.rpartition("/")[2] != kind:
            self._fault(path, ("wrong_reference", "leads to another type than it says"))

    def _concept(self, value: Mapping[str, Any], concepts: Concepts, path: Path) -> None:
        """A required binding wants one coding of its value set, and none of its system that is outside it."""
        codings = value.get("coding", ())
        of_system = [one.get("code") for one in codings if one.get("system") == concepts.system]
        if not of_system or not set(of_system) <= concepts.codes:
            said = f"must be coded, by {concepts.system}, as one of {', '.join(sorted(concepts.codes))}"
            self._fault(path, ("value_set", said))

    def _fault(self, path: Path, fault: Fault) -> None:
        self._found += 1
        if len(self.faults) < MAX_FAULTS:
            code, says = fault
            self.faults.append(Refused(code, says, element=path_text(self._kind, steps(path))))


def steps(path: Path) -> list[str | int]:
    found: list[str | int] = []
    while path:
        path, step = path
        found.append(step)
    return found[::-1]


def path_text(kind: str, path: list[str | int]) -> str:
    """A FHIRPath-like location. A name that FHIR could not have is not repeated: it may say anything."""
    text = kind
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.endswith("[x]"):
            text += f".{step}"
        else:
            text += f".{step}" if _NAME.fullmatch(step) else ".?"
    return text


def _has_extensions(beside: Any, index: int) -> bool:
    return type(beside) is list and index < len(beside) and type(beside[index]) is dict


def _listed(kinds: frozenset[str]) -> str:
    names = sorted(kinds)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"

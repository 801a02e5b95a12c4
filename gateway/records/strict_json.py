"""JSON from strangers, read strictly and within bounds: one resource in, one dictionary out, or a refusal.

Pure functions over bytes. orjson does the reading (RFC 8259: it refuses NaN, lone surrogates, bad
UTF-8, a byte order mark and 1,024 levels); what it lets through is caught here.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

import orjson

MAX_RESOURCE_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 100
MAX_DIGITS = 1_000
# Stands for a logical reference, which names a patient without saying which of ours.
PATIENT_BY_IDENTIFIER = "Patient?identifier"

_CONTAINERS = frozenset({dict, list})
_LONG_SAMPLE = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS // 16))
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % MAX_DIGITS)
_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')
# Part of orjson's words for a fault → our code and sentence.
_FAULTS = (
    ("depth limit", "too_deep", f"is nested deeper than {MAX_DEPTH} levels"),
    ("utf-8 byte order mark", "byte_order_mark", "begins with a byte order mark; save it without"),
    ("not valid utf-8", "not_utf8", "is not valid UTF-8"),
    ("surrogate", "lone_surrogate", "holds half of a surrogate pair, which is no character"),
    ("infinity", "number_too_large", "holds a number that is too large"),
)


class Refused(Exception):
    """This input is not taken in. `element` is a FHIR path or ""; the message never repeats a value.

    `offset` is where in the bytes that were read, or None.
    """

    def __init__(self, code: str, message: str, *, element: str = "", offset: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.element, self.offset = code, message, element, offset


class Parsed(NamedTuple):
    """One JSON object, and what one walk through it found.

    references  the value of every `reference`
    codings     every object with a `code` and a `system`
    nested      every `resourceType` below the top
    """

    body: dict[str, Any]
    references: list[str]
    codings: list[dict[str, Any]]
    nested: list[str]


def read(raw: bytes) -> Parsed:
    """Read one JSON object of at most MAX_RESOURCE_BYTES. Raises Refused."""
    if len(raw) > MAX_RESOURCE_BYTES:
        raise Refused("resource_too_large", f"is larger than {MAX_RESOURCE_BYTES // 2**20} MB")
    # 1. Of a run of MAX_DIGITS digits, every 16th byte is a digit too: look there first.
    if _LONG_SAMPLE.search(raw[::16]) and _LONG_NUMBER.search(raw):
        _refuse_long_numbers(raw)
    # 2. The syntax.
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        _refuse_syntax(error)
    if type(body) is not dict:
        raise Refused("not_an_object", "is not a JSON object")
    # 3. Depth, and what stands in it.
    keys, found = _survey(body)
    # 4. A name given twice: the second would win silently. Each name in the text is followed by `":`, and a
    # string can hold those two bytes only after a backslash; so equal counts mean that no name was lost.
    if keys != raw.count(b'":') or _SPACED_COLON.search(raw):
        json.loads(raw, object_pairs_hook=_unique)
    return found


def _survey(body: dict[str, Any]) -> tuple[int, Parsed]:
    """How many names its objects have in all, and what it holds. Raises Refused for too many levels."""
    keys, depth = 0, 0
    found = Parsed(body, [], [], [])
    level: list[Any] = [body]
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise Refused("too_deep", f"is nested deeper than {MAX_DEPTH} levels")
        below: list[Any] = []
        for node in level:
            children: Iterable[Any] = node
            if type(node) is dict:
                keys += len(node)
                children = node.values()
                if "reference" in node and type(node["reference"]) is str:
                    found.references.append(node["reference"])
                elif "code" in node and "system" in node:
                    found.codings.append(node)
                elif "identifier" in node and node.get("type") == "Patient":
                    found.references.append(PATIENT_BY_IDENTIFIER)
                if "resourceType" in node and depth > 1:
                    found.nested.append(str(node["resourceType"]))
            below += [child for child in children if type(child) in _CONTAINERS]
        level = below
    return keys, found


def _refuse_long_numbers(raw: bytes) -> None:
    """Raises unless the digits stand inside a string."""
    try:
        json.loads(raw, parse_int=_bounded, parse_float=_bounded)
    except (ValueError, RecursionError):
        return  # orjson says what is wrong


def _bounded(digits: str) -> str:
    if len(digits) > MAX_DIGITS:
        raise Refused("number_too_long", f"holds a number of more than {MAX_DIGITS} digits")
    return digits


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("duplicate_key", "gives one name twice in the same object")
    return found


def _refuse_syntax(error: orjson.JSONDecodeError) -> NoReturn:
    said = str(error).lower()
    for part, code, message in _FAULTS:
        if part in said:
            raise Refused(code, message) from None
    offset = len(error.doc[: error.pos].encode(errors="replace")) if error.doc else error.pos
    raise Refused("malformed_json", "is not JSON", offset=offset) from None

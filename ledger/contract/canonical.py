"""Canonical JSON out, strict JSON in: the one form of bytes that is hashed, signed and compared.

Out is RFC 8785 limited to strings, integers below 2^53, booleans, null, arrays and objects with
ASCII keys. In is anything from outside: it is bounded and checked before anyone looks at it.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any, NoReturn

from ledger.contract.errors import Refused

MAX_INTEGER = 2**53 - 1
MAX_BYTES = 16 * 2**20
MAX_DEPTH = 64
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def dumps(value: object) -> bytes:
    """The canonical bytes of `value`. Raises Refused("not_canonical") for what has no such form."""
    _check(value)
    return _ENCODER.encode(value).encode()


def digest(value: object) -> str:
    """SHA-256 of the canonical bytes of `value`, in hex."""
    return sha256(dumps(value)).hexdigest()


def loads(data: bytes, *, limit: int = MAX_BYTES, depth: int = MAX_DEPTH, decimals: bool = False) -> Any:
    """The value that `data` (UTF-8) holds, or Refused("malformed_json").

    Refused are: more than `limit` bytes, more than `depth` levels, duplicate keys, NaN and infinities,
    integers of 2^53 and more, lone surrogates, a byte order mark, anything after the value. Decimals are
    refused too, unless `decimals` is set: then they, and integers of up to 64 digits, come back as Decimal
    and int.
    """
    if len(data) > limit:
        _malformed(f"it is longer than {limit} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        _malformed("it is not UTF-8")
    try:
        value = (_DECIMALS_DECODER if decimals else _DECODER).decode(text)
    except RecursionError:
        _malformed(f"it is nested deeper than {depth} levels")
    except ValueError:
        _malformed("it does not follow RFC 8259")
    _check_depth(value, depth)
    if _SURROGATE_ESCAPE.search(text):
        _check_surrogates(value)
    return value


def load_canonical(data: bytes, *, limit: int = MAX_BYTES) -> Any:
    """As `loads`, and `data` must be the canonical form itself: Refused("not_canonical")."""
    value = loads(data, limit=limit)
    # `loads` has checked depth, numbers and surrogates; what is left are names, and of ASCII they are ASCII
    # or were escaped, which the canonical form never is.
    if not data.isascii():
        _check(value)
    if _ENCODER.encode(value).encode() != data:
        _not_canonical()
    return value


def _malformed(why: str) -> NoReturn:
    raise Refused("malformed_json", f"The JSON cannot be read: {why}. Send well-formed JSON.")


def _not_canonical() -> NoReturn:
    raise Refused("not_canonical", "The value has no canonical JSON form, or is not in it. Use RFC 8785.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        _malformed("an object has the same key twice")
    return value


def _integer(digits: str) -> int:
    # The length is checked first: reading a million digits as a number takes quadratic time.
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        _malformed("a number is out of range")
    return int(digits)


def _long_integer(digits: str) -> int:
    if len(digits) > 65:
        _malformed("a number is out of range")
    return int(digits)


def _decimal(digits: str) -> Decimal:
    if len(digits) > 64:
        _malformed("a number is out of range")
    try:
        return Decimal(digits)
    except InvalidOperation:
        _malformed("a number is out of range")


def _no_decimal(digits: str) -> NoReturn:
    _malformed("it holds a number that is not an integer")


def _no_constant(name: str) -> NoReturn:
    _malformed("it holds NaN or an infinity")


def _check_depth(value: object, depth: int) -> None:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(depth):
        if not level:
            return
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
    if level:
        _malformed(f"it is nested deeper than {depth} levels")


def _check_surrogates(value: object) -> None:
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            pending += one.keys()
            pending += one.values()
        elif isinstance(one, list):
            pending += one
        elif isinstance(one, str) and _SURROGATE.search(one):
            _malformed("it holds half of a surrogate pair")


def _check(value: object) -> None:  # noqa: PLR0912 - one loop, for speed
    """Walks without recursion, so that the depth of the input is not the depth of our stack."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for one in level:
            if isinstance(one, str):
                if not one.isascii() and _SURROGATE.search(one):
                    _not_canonical()
            elif isinstance(one, dict):
                for key in one:
                    if not (isinstance(key, str) and key.isascii()):
                        _not_canonical()
                below += one.values()
            elif isinstance(one, list):
                below += one
            else:
                _check_number(one)
        if not below:
            return
        level = below
    for one in level:
        if not isinstance(one, str):
            _check_number(one)
        elif _SURROGATE.search(one):
            _not_canonical()


def _check_number(value: object) -> None:
    """An integer in range, a boolean or null."""
    if value is not None and not (isinstance(value, int) and abs(value) <= MAX_INTEGER):
        _not_canonical()


# Made once: what `json.dumps` and `json.loads` would make anew for every call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_no_decimal, parse_constant=_no_constant
)
_DECIMALS_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_long_integer, parse_float=_decimal, parse_constant=_no_constant
)

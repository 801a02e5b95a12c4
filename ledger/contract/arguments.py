"""Strict reading of what a transaction carries: exact keys, exact types, bounded lists."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ledger.contract import canonical
from ledger.contract.errors import Refused
from ledger.contract.state import Json

MAX_CONSENTS = 1000
MAX_OPENINGS_BYTES = 100 * 2**20
MAX_SECONDS = 253_402_300_799  # the last second of the year 9999

_HEX64 = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"(?:[0-9a-f]{2}){16,64}")
_ORG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

Check = Callable[[Any], bool]


def invalid(what: str) -> NoReturn:
    raise Refused("invalid_arguments", f"The transaction's {what} does not have the form that it must have.")


def fields(value: object, what: str, **checks: Check) -> Json:
    """`value` as an object with exactly these keys, each of which passes its check."""
    if not isinstance(value, dict) or value.keys() != checks.keys():
        invalid(what)
    for name, check in checks.items():
        if not check(value[name]):
            invalid(f"{what} ({name})")
    return value


def is_hex(value: Any) -> bool:
    """32 bytes in lower-case hex: an id, a digest or a key."""
    return isinstance(value, str) and _HEX64.fullmatch(value) is not None


def is_nonce(value: Any) -> bool:
    """16 to 64 bytes in lower-case hex."""
    return isinstance(value, str) and _NONCE.fullmatch(value) is not None


def is_org(value: Any) -> bool:
    """An MSP id."""
    return isinstance(value, str) and _ORG.fullmatch(value) is not None


def is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 300 and value.isprintable()


def is_time(value: Any) -> bool:
    return is_count(value) and value <= MAX_SECONDS


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= canonical.MAX_INTEGER


def optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def each(check: Check, *, least: int = 0, most: int = MAX_CONSENTS) -> Check:
    """A list of distinct strings, each of which passes the check."""
    return lambda value: (
        isinstance(value, list)
        and least <= len(value) <= most
        and all(check(one) for one in value)
        and len(set(value)) == len(value)
    )


def listed(value: Any, what: str, *, most: int = MAX_CONSENTS) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        invalid(what)
    return value


def transient(inputs: Mapping[str, bytes], *required: str, optional: tuple[str, ...] = ()) -> Json:
    """The transient inputs, read strictly; exactly those named must be there."""
    if not set(required) <= inputs.keys() <= {*required, *optional}:
        raise Refused("invalid_transient", f"Send exactly these as transient data: {', '.join(required)}.")
    return {name: canonical.loads(inputs[name], limit=MAX_OPENINGS_BYTES) for name in sorted(inputs)}

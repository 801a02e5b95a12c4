"""Whether the ledger shows a consent in force. The contract asks it, and so does whoever reads the ledger."""

from collections.abc import Sequence
from typing import Any

from ledger.contract import canonical
from ledger.contract.errors import Refused
from ledger.contract.state import Json, State

IN_FORCE = "in_force"
UNSET: Json = {"set": False}
_UNSET_BYTES = canonical.dumps(UNSET)


def consent_key(consent: str) -> str:
    return f"consent/{consent}"


def mark_key(consent: str, org: str) -> str:
    return f"revoked/{consent}/{org}"


def keys_of(consent: str, marks: Sequence[str]) -> list[str]:
    """The keys that say whether a consent is in force: its own, then each organisation's mark, in order."""
    return [consent_key(consent), *(mark_key(consent, org) for org in marks)]


def in_force(consent_value: bytes | None, marks_values: Sequence[bytes | None], at: int) -> bool:
    """Whether the consent is in force at `at`; `marks_values` are those of its `marks`, in their order."""
    return standing(consent_value, marks_values, at) == IN_FORCE


def standing(consent_value: bytes | None, marks_values: Sequence[bytes | None], at: int) -> str:
    """`in_force`, or the code of why not: `consent_unknown`, `consent_malformed`, `mark_malformed`,
    `consent_revoked`, `mark_missing`, `consent_superseded`, `consent_expired`."""
    if consent_value is None:
        return "consent_unknown"
    return _standing(consent_of(consent_value), marks_values, at)


def _standing(  # noqa: PLR0911 - one return for each standing reads best
    value: Json | None, marks_values: Sequence[bytes | None], at: int
) -> str:
    if value is None or len(value["marks"]) != len(marks_values):
        return "consent_malformed"
    marks = [mark_of(mark) for mark in marks_values]
    if any(mark is not None and mark["set"] for mark in marks):
        return "consent_revoked"
    if None in marks_values:
        return "mark_missing"
    if None in marks:
        return "mark_malformed"
    if value["state"] != "active":
        return "consent_superseded"
    if value["expires"] is not None and at >= value["expires"]:
        return "consent_expired"
    return IN_FORCE


def consent_of(value: bytes) -> Json | None:
    """A `consent/<id>` value, or None where it does not have that form."""
    found = _read(value)
    if not isinstance(found, dict) or found.keys() != {"commitment", "expires", "marks", "state", "version"}:
        return None
    marks, expires = found["marks"], found["expires"]
    well_formed = (
        isinstance(marks, list)
        and bool(marks)
        and all(isinstance(org, str) for org in marks)
        and isinstance(found["commitment"], str)
        and (expires is None or (isinstance(expires, int) and not isinstance(expires, bool)))
    )
    return found if well_formed else None


def mark_of(value: bytes | None) -> Json | None:
    """A `revoked/<id>/<org>` value, or None where it is missing or does not have that form."""
    if value == _UNSET_BYTES:  # nearly every mark is: a cohort reads thousands
        return UNSET
    found = _read(value) if value is not None else None
    if found == UNSET and found["set"] is False:
        return UNSET
    if isinstance(found, dict) and found.keys() == {"at", "set"} and found["set"] is True:
        return found if isinstance(found["at"], int) and not isinstance(found["at"], bool) else None
    return None


def standings(state: State, consents: Sequence[str], at: int) -> tuple[list[Json | None], list[str]]:
    """Each consent's value and standing, in two batched reads."""
    values = state.get_many([consent_key(consent) for consent in consents])
    read = [None if value is None else consent_of(value) for value in values]
    keys = [
        [] if value is None else [mark_key(consent, org) for org in value["marks"]]
        for consent, value in zip(consents, read, strict=True)
    ]
    marks = iter(state.get_many([key for own in keys for key in own]))
    found = [
        "consent_unknown" if raw is None else _standing(value, [next(marks) for _ in own], at)
        for raw, value, own in zip(values, read, keys, strict=True)
    ]
    return read, found


def _read(value: bytes) -> Any:
    try:
        return canonical.load_canonical(value, limit=2**20)
    except Refused:
        return None

"""Openings: the canonical consents and their keys, transient data that never reach the ledger."""

from collections.abc import Mapping
from typing import Any

from ledger.contract import arguments, canonical
from ledger.contract.consents import ACTIONS, DOUBT, FORMAT, MAX_DEPTH, STATUSES, commitment
from ledger.contract.errors import Refused
from ledger.contract.state import Json

_LISTS = frozenset(
    {
        "recipients", "custodians", "authors", "actions", "purposes", "use", "conditions", "diseases",
        "models", "labels", "types", "codes", "not_understood",
    }
)  # fmt: skip
_PERIODS = frozenset({"period", "data_period"})


def read_openings(value: object) -> dict[str, tuple[Json, bytes]]:
    """`[{"consent": canonical consent, "key": hex k}]` as consent id → (canonical consent, k)."""
    found: dict[str, tuple[Json, bytes]] = {}
    for one in arguments.listed(value, "openings"):
        opening = arguments.fields(
            one, "opening", consent=lambda it: isinstance(it, dict), key=arguments.is_hex
        )
        identifier = opening["consent"].get("consent")
        if not arguments.is_hex(identifier) or identifier in found:
            arguments.invalid("openings")
        found[identifier] = opening["consent"], bytes.fromhex(opening["key"])
    return found


def check_commitments(openings: Mapping[str, tuple[Json, bytes]], commitments: Mapping[str, str]) -> None:
    """Raises Refused unless the openings are exactly those of the consents, and each fits its commitment."""
    if openings.keys() != commitments.keys():
        raise Refused("openings_mismatch", "Send exactly one opening for each consent of the transaction.")
    for identifier, (consent, key) in openings.items():
        if commitment(key, canonical.dumps(consent)) != commitments[identifier]:
            raise Refused("commitment_mismatch", "An opening does not fit the commitment on the ledger.")


def check_consent(consent: Json) -> None:
    """Raises Refused("consent_malformed") unless this is what `compile_consent` returns."""
    if consent.keys() != {
        "base", "consent", "expires", "fhir", "format", "given", "patient", "provision", "starts", "status",
    }:  # fmt: skip
        _malformed()
    well_formed = (
        consent["format"] == FORMAT
        and consent["status"] in STATUSES
        and consent["fhir"] in ("R4", "R5")
        and consent["base"] in ("provision.type", "policyRule", "decision", "none")
        and arguments.is_text(consent["patient"])
        and all(_is_second(consent[name]) for name in ("expires", "given", "starts"))
    )
    if not well_formed:
        _malformed()
    _check_provision(consent["provision"], 0)
    period = consent["provision"].get("period", [None, None])
    if [consent["starts"], consent["expires"]] != period:
        _malformed()


def _check_provision(provision: Any, depth: int) -> None:
    if not isinstance(provision, dict) or depth > MAX_DEPTH:
        _malformed()
    if provision.get("type") not in ("permit", "deny") or not isinstance(provision.get("path"), str):
        _malformed()
    for name, value in provision.items():
        if name in _LISTS:
            well_formed = _is_names(value)
        elif name in _PERIODS:
            well_formed = (
                isinstance(value, list) and len(value) == 2 and all(_is_second(one) for one in value)
            )
        elif name == "data":
            well_formed = (
                isinstance(value, list)
                and bool(value)
                and all(_is_names(one) and len(one) == 2 for one in value)
            )
        elif name == "provisions":
            well_formed = isinstance(value, list) and bool(value)
        else:
            well_formed = name in ("path", "type")
        if not well_formed:
            _malformed()
    if not ACTIONS.union({DOUBT}).issuperset(provision.get("actions", ())):
        _malformed()
    for one in provision.get("provisions", ()):
        _check_provision(one, depth + 1)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) and one for one in value)


def _is_second(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _malformed() -> None:
    raise Refused("consent_malformed", "The opening is not a canonical consent of a known format.")

"""The canonical request, as `docs/architecture.md` fixes it: strict, so that its digest means one thing."""

from typing import Any

from ledger.contract import arguments, purposes
from ledger.contract.consents import ACTIONS
from ledger.contract.errors import Refused
from ledger.contract.resource_types import RESOURCE_TYPES
from ledger.contract.state import Json

_REQUIRED = {"action", "model", "purpose", "recipient", "resources", "use", "version"}
_OPTIONAL = {"labels", "start", "end", "encounter", "author"}


def check_request(value: Any) -> Json:
    """The request, or Refused("request_malformed"). See docs/architecture.md, "The request"."""
    if not isinstance(value, dict) or not _REQUIRED <= value.keys() <= _REQUIRED | _OPTIONAL:
        _malformed()
    well_formed = (
        value["version"] == 1
        and value["version"] is not True
        and value["action"] in ACTIONS
        and arguments.optional(arguments.is_hex)(value["model"])
        and value["purpose"] in purposes.KNOWN
        and arguments.is_text(value["recipient"])
        and arguments.each(arguments.is_text, most=50)(value["use"])
        and isinstance(value["resources"], list)
        and 0 < len(value["resources"]) <= 300
        and all(_is_resource(one) for one in value["resources"])
        and arguments.each(arguments.is_text, least=1, most=50)(value.get("labels", ["N"]))
        and all(arguments.optional(arguments.is_time)(value.get(name)) for name in ("start", "end"))
        and all(arguments.optional(arguments.is_text)(value.get(name)) for name in ("encounter", "author"))
    )
    if not well_formed:
        _malformed()
    return dict(value)


def _is_resource(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"codes", "type"}
        and value["type"] in RESOURCE_TYPES
        and arguments.optional(arguments.each(arguments.is_text, least=1))(value["codes"])
    )


def _malformed() -> None:
    raise Refused("request_malformed", "The request does not have the form of a request, version 1.")

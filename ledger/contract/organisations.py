"""RegisterOrganisation: who keeps the ledger. Each has its own revocation mark on each consent, and a key of
its own for emergencies."""

from ledger.contract import canonical
from ledger.contract.arguments import fields, is_org
from ledger.contract.errors import Refused
from ledger.contract.state import Endorsers, Json, Result, State, Transaction

KEY = "organisations"
MAX_ORGANISATIONS = 100
NONE_OPEN: Json = {"open": []}


def organisations(state: State) -> list[str]:
    """MSP ids, sorted."""
    value = state.get(KEY)
    return [] if value is None else list(canonical.load_canonical(value))


def register_organisation(state: State, transaction: Transaction) -> Result:
    """Adds one organisation. Consents given before it joined get its mark by AddMarks."""
    org = fields(transaction.args, "arguments", org=is_org)["org"]
    known = organisations(state)
    if org in known:
        raise Refused("organisation_exists", "This organisation is registered already.")
    if len(known) >= MAX_ORGANISATIONS:
        raise Refused("too_many_organisations", f"A ledger has at most {MAX_ORGANISATIONS} organisations.")
    state.put(KEY, canonical.dumps(sorted([*known, org])))
    state.put(emergency_key(org), canonical.dumps(NONE_OPEN))
    keep_for_own(state, org)
    return Result({"org": org}, ("OrganisationRegistered", {"org": org}))


def emergency_key(org: str) -> str:
    """Where the organisation records emergencies that the rest have not completed."""
    return f"emergency/{org}"


def keep_for_own(state: State, org: str) -> None:
    """From commit on the organisation alone writes its key for emergencies."""
    state.require(emergency_key(org), Endorsers(1, (org,)))

"""RegisterOrganisation: who keeps the ledger. Each has its own revocation mark on each consent."""

from ledger.contract import canonical
from ledger.contract.arguments import fields, is_org
from ledger.contract.errors import Refused
from ledger.contract.state import Result, State, Transaction

KEY = "organisations"
MAX_ORGANISATIONS = 100


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
    return Result({"org": org}, ("OrganisationRegistered", {"org": org}))

"""Every transaction of the contract by name, who may submit it, and the one way to run it."""

from collections.abc import Callable

from ledger.contract import access, checkpoint, deliver, grant, model, organisations, release
from ledger.contract.arguments import MAX_SECONDS, is_org
from ledger.contract.canonical import dumps
from ledger.contract.errors import Refused
from ledger.contract.state import Result, State, Transaction
from ledger.contract.version import CONTRACT_VERSION, source_digest

__all__ = ["CONTRACT_VERSION", "TRANSACTIONS", "run", "source_digest"]

Function = Callable[[State, Transaction], Result]

TRANSACTIONS: dict[str, tuple[Function, frozenset[str]]] = {
    "RegisterOrganisation": (organisations.register_organisation, frozenset({"admin"})),
    "GrantConsent": (grant.grant_consent, frozenset({"keyholder"})),
    "GrantConsents": (grant.grant_consents, frozenset({"keyholder"})),
    "ReplaceConsent": (grant.replace_consent, frozenset({"keyholder"})),
    "RevokeConsent": (grant.revoke_consent, frozenset({"gateway", "keyholder", "admin"})),
    "AddMarks": (grant.add_marks, frozenset({"admin"})),
    "RegisterModel": (model.register_model, frozenset({"gateway", "admin"})),
    "Release": (release.release, frozenset({"keyholder"})),
    "Deliver": (deliver.deliver, frozenset({"keyholder"})),
    "EmergencyAccess": (access.emergency_access, frozenset({"keyholder"})),
    "CompleteEmergency": (access.complete_emergency, frozenset({"keyholder"})),
    "SubjectAccess": (access.subject_access, frozenset({"keyholder"})),
    "Checkpoint": (checkpoint.checkpoint, frozenset({"gateway", "admin"})),
}
WITH_OPENINGS = frozenset({"GrantConsent", "GrantConsents", "ReplaceConsent", "Release", "Deliver"})


def run(state: State, transaction: Transaction) -> Result:
    """Runs one transaction against the last committed state. Raises Refused: commit nothing then."""
    if transaction.name not in TRANSACTIONS:
        raise Refused("transaction_unknown", "The contract has no such transaction.")
    function, roles = TRANSACTIONS[transaction.name]
    if transaction.role not in roles:
        raise Refused("role_not_allowed", "This identity may not submit this transaction.")
    if not is_org(transaction.org) or not 0 <= transaction.time <= MAX_SECONDS:
        raise Refused("invalid_arguments", "The transaction's organisation or time is out of range.")
    if transaction.transient and transaction.name not in WITH_OPENINGS:
        raise Refused("invalid_transient", "This transaction carries no transient data.")
    dumps(transaction.args)
    return function(state, transaction)

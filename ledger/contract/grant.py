"""GrantConsent, GrantConsents, ReplaceConsent, RevokeConsent, AddMarks: the life of a consent on the ledger.

Nobody alone can grant, extend or revive; every organisation alone can stop. A stop depends on as little as
possible: no clock, no other organisation, and no state that it does not have to read.
"""

from ledger.contract import canonical, times
from ledger.contract.arguments import each, fields, invalid, is_hex, is_time, listed, optional, transient
from ledger.contract.errors import Refused
from ledger.contract.in_force import IN_FORCE, UNSET, consent_key, consent_of, mark_key, mark_of, standings
from ledger.contract.openings import check_commitments, check_consent, read_openings
from ledger.contract.organisations import organisations
from ledger.contract.state import Endorsers, Json, Result, State, Transaction


def grant_consent(state: State, transaction: Transaction) -> Result:
    """A new consent, in force from its block on. Refused when the id was used or the opening does not fit."""
    args = fields(transaction.args, "arguments", consent=is_hex, commitment=is_hex, expires=optional(is_time))
    _grant(state, transaction, [args], version=1)
    return Result({"consent": args["consent"]}, ("ConsentGranted", {"consent": args["consent"]}))


def grant_consents(state: State, transaction: Transaction) -> Result:
    """What as many GrantConsent would do, in one transaction: all of them, or none.

    `grants` has the arguments of each, in the order of their ids.
    """
    args = fields(transaction.args, "arguments", grants=lambda value: isinstance(value, list))
    grants = [
        fields(one, "arguments", consent=is_hex, commitment=is_hex, expires=optional(is_time))
        for one in listed(args["grants"], "arguments (grants)")
    ]
    consents = [one["consent"] for one in grants]
    if not consents or consents != sorted(set(consents)):
        invalid("arguments (grants)")
    _grant(state, transaction, grants, version=1)
    return Result({"consents": consents}, ("ConsentsGranted", {"consents": consents}))


def replace_consent(state: State, transaction: Transaction) -> Result:
    """A new consent in the place of one that is neither revoked nor superseded: both happen, or neither."""
    args = fields(
        transaction.args,
        "arguments",
        consent=is_hex,
        commitment=is_hex,
        expires=optional(is_time),
        replaces=is_hex,
    )
    replaced = args["replaces"]
    (value,), (standing,) = standings(state, [replaced], transaction.time)
    # An expired consent may be renewed; a stopped one needs a new grant, so that a stop stays visible as one.
    if value is None or standing not in (IN_FORCE, "consent_expired"):
        raise Refused(standing, "Only a consent that is neither revoked nor superseded can be replaced.")
    if replaced == args["consent"]:
        raise Refused("consent_exists", "A consent cannot replace itself. Use a new id.")
    _grant(state, transaction, [args], version=value["version"] + 1)
    state.put(consent_key(replaced), canonical.dumps({**value, "state": "superseded"}))
    payload = {"consent": args["consent"], "replaces": replaced}
    return Result(payload, ("ConsentReplaced", payload))


def revoke_consent(state: State, transaction: Transaction) -> Result:
    """Sets the submitter's organisation's mark and raises its policy, so that none clears it alone.

    A missing or malformed mark is set as well. Needs no clock and no other organisation.
    """
    consent = fields(transaction.args, "arguments", consent=is_hex)["consent"]
    key = mark_key(consent, transaction.org)
    value, mark = state.get_many([consent_key(consent), key])
    known = None if value is None else consent_of(value)
    if known is None:
        raise Refused("consent_unknown", "There is no such consent on the ledger.")
    if transaction.org not in known["marks"]:
        raise Refused("not_an_organisation", "Your organisation holds no mark of this consent.")
    found = mark_of(mark)
    if found is not None and found["set"]:
        raise Refused(
            "already_revoked", "Your organisation has revoked this consent already. It stays revoked."
        )
    state.put(key, canonical.dumps({"at": transaction.time, "set": True}))
    state.require(key, Endorsers(len(known["marks"]), tuple(known["marks"])))
    payload = {"at": transaction.time, "consent": consent}
    return Result(payload, ("ConsentRevoked", payload))


def add_marks(state: State, transaction: Transaction) -> Result:
    """Gives organisations that joined later their marks of consents in force; the others are passed over.

    A mark that exists is never written, whatever it says.
    """
    consents = fields(transaction.args, "arguments", consents=each(is_hex, least=1))["consents"]
    registered = organisations(state)
    values, found = standings(state, consents, transaction.time)
    missing = {
        consent: [org for org in registered if org not in value["marks"]]
        for consent, value, standing in zip(consents, values, found, strict=True)
        if value is not None and standing == IN_FORCE
    }
    keys = [mark_key(consent, org) for consent, orgs in missing.items() for org in orgs]
    existing = dict(zip(keys, state.get_many(keys), strict=True))
    marked = []
    for consent, value in zip(consents, values, strict=True):
        orgs = [org for org in missing.get(consent, ()) if existing[mark_key(consent, org)] is None]
        if value is None or not orgs:
            continue
        _put_marks(state, consent, orgs)
        state.put(consent_key(consent), canonical.dumps({**value, "marks": sorted([*value["marks"], *orgs])}))
        marked.append(consent)
    payload = {"consents": sorted(marked)}
    return Result(payload, ("MarksAdded", payload))


def _grant(state: State, transaction: Transaction, grants: list[Json], *, version: int) -> None:
    orgs = organisations(state)
    if not orgs:
        raise Refused("no_organisations", "Register an organisation before granting consents.")
    # 1. The ids are new: nothing that was ever on the ledger is written over.
    keys = [
        key
        for args in grants
        for key in (consent_key(args["consent"]), *(mark_key(args["consent"], org) for org in orgs))
    ]
    if any(value is not None for value in state.get_many(keys)):
        raise Refused("consent_exists", "A consent with this id is on the ledger already. Use a new id.")
    # 2. The openings fit the commitments.
    openings = read_openings(transient(transaction.transient, "openings")["openings"])
    check_commitments(openings, {args["consent"]: args["commitment"] for args in grants})
    for args in grants:
        consent = args["consent"]
        _check_grant(openings[consent][0], args["expires"], transaction.time)
        value = {
            "commitment": args["commitment"],
            "expires": args["expires"],
            "marks": orgs,
            "state": "active",
            "version": version,
        }
        state.put(consent_key(consent), canonical.dumps(value))
        _put_marks(state, consent, orgs)


def _check_grant(consent: Json, rounded: int | None, time: int) -> None:
    # 3. The opening is a consent that can permit something now or later.
    check_consent(consent)
    if consent["status"] != "active":
        raise Refused("consent_not_active", "Only a consent whose status is active can be granted.")
    # 4. The expiry on the ledger is the consent's own, rounded up so that it says little.
    expires = consent["expires"]
    if rounded != (None if expires is None else times.day_after(expires)):
        raise Refused("expiry_mismatch", "The expiry must be the consent's own, rounded up to the day.")
    if expires is not None and expires <= time:
        raise Refused("consent_expired", "The consent has expired already. Choose a later end.")


def _put_marks(state: State, consent: str, orgs: list[str]) -> None:
    for org in orgs:
        state.put(mark_key(consent, org), canonical.dumps(UNSET))
        state.require(mark_key(consent, org), Endorsers(1, (org,)))

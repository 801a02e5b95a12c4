"""What a patient denies in consents that a release does not name, such as one granted after it.

A release names the consents that spoke when it was made. A deny wins wherever it stands and
whenever it was given, so each opening and each delivery asks for it again.
"""

from collections.abc import Collection, Iterable

from gateway.keyholder.reading import Reader, is_over
from gateway.keyholder.store import Store
from ledger.contract.decision import Asking, Consent
from ledger.contract.rules import DENY
from ledger.contract.state import Json


def denied_patients(
    store: Store,
    reader: Reader,
    named: Iterable[tuple[str, Collection[str]]],
    request: Json,
    *,
    exceptions: bool,
    at: int,
) -> set[str]:
    """The patients, of `(patient, consents named)`, whom another consent in force denies to the request.

    A consent denies when its root does, or when it denies a whole kind of what is asked for; with
    `exceptions` also when one of its exceptions may reach a record. It is held not to be in force only where
    every verified answer of the ledger says so. Usually no patient has another consent that denies, and the
    ledger is not asked. Raises LedgerError, AccessDenied, EnvelopeError.
    """
    asking = Asking(request)
    # Who is named more than once is asked about all that is not named each time.
    beside: dict[str, set[str]] = {}
    for patient, consents in named:
        beside[patient] = beside.get(patient, set(consents)).intersection(consents)
    without = set[str]().union(*beside.values())
    denying = {
        opening.consent: opening.patient
        for opening in store.openings_of(beside, without=without)
        if denies(opening.canonical, asking, exceptions=exceptions, at=at)
    }
    found: set[str] = set()
    asked = list(denying)
    for first in range(0, len(asked), reader.AT_ONCE):
        batch = asked[first : first + reader.AT_ONCE]
        look = reader.look([], batch)
        found.update(denying[consent] for consent in batch if not is_over(look, consent, at=at))
    return found


def denies(canonical: Json, asking: Asking, *, exceptions: bool, at: int) -> bool:
    """Whether the consent, by itself, denies something of what is asked for."""
    consent = Consent(canonical)
    left = "consent_not_active" if consent.status != "active" else consent.root.left_over(asking, at)
    if isinstance(left, str):
        return False
    rule, _ = left
    worst = exceptions or not rule.permit
    return any(rule.bounds(item)[0 if worst else 1] == DENY for item in asking.items)

"""When an emergency may begin, and when it is over. What it opens passes `open_sealed` like all else.

Whoever speaks for the web process may begin one, so it is bounded here: off unless the start says how many
may begin within an hour, an hour long each, and every one a transaction of the ledger, whose event the
relay turns into a notice to the patient whatever the web process did.
"""

import logging
from collections.abc import Callable

from gateway.keyholder.clinicians import Clinicians
from gateway.keyholder.store import Header, Store
from ledger.contract.state import Json
from ledger.errors import AccessDenied, RefusedTransition
from ledger.webauthn import Assertion

SECONDS = 3600
# So much of the hour may have gone by on the way here, or lie ahead by a clock that differs.
SLACK = 300

log = logging.getLogger(__name__)


class Emergencies:
    """`per_hour` may begin within an hour; 0: none. `clock` is the keyholder's own."""

    def __init__(
        self, store: Store, clinicians: Clinicians, *, clock: Callable[[], int], per_hour: int
    ) -> None:
        self._store, self._clinicians, self._clock, self._per_hour = store, clinicians, clock, per_hour

    def check_may_begin(
        self, access: str, *, details: Json, digest: str, expires: int, signature: Assertion | None
    ) -> Json | None:
        """What to keep of the clinician's signature, if there is one. Called in the transaction that keeps
        it; a repeat of a known one always passes.

        An end of an hour from now is demanded, so that those which have not run out are those that began
        within the hour. Raises RefusedTransition, SignatureRefused.
        """
        if self._store.access(access) is not None:
            return None
        now = self._clock()
        if not self._per_hour:
            raise RefusedTransition("Emergency access is turned off here.", code="emergencies_off")
        if not SECONDS - SLACK <= expires - now <= SECONDS + SLACK:
            raise RefusedTransition("An emergency access lasts one hour.", code="access_expiry")
        if self._store.begun("emergency", at=now) >= self._per_hour:
            log.warning("emergency refused: %d began within the hour", self._per_hour)
            raise RefusedTransition(
                "Too many emergency accesses began within the hour. Ask the operator to allow more.",
                code="emergencies_too_many",
            )
        return self._clinicians.confirmed(details, digest, signature)

    def end(self, access: str) -> None:
        """Durable before this returns. Raises RefusedTransition (`access_unknown`)."""
        kept = self._store.access(access)
        if kept is None or kept.kind != "emergency":
            raise RefusedTransition("No such emergency was asked for here.", code="access_unknown")
        self._store.deny(access, at=self._clock())

    def headers(self, access: str) -> list[Header]:
        """Of the patient whom an emergency that is not over names. Raises AccessDenied."""
        return headers_of(self._store, access, kind="emergency", at=self._clock())


def headers_of(store: Store, access: str, *, kind: str, at: int) -> list[Header]:
    """What there is of the patient whom an access of this kind names, while it is not over. Raises
    AccessDenied."""
    kept = store.access(access)
    if kept is None or kept.kind != kind:
        raise AccessDenied("No such access was recorded.", code="access_unknown")
    if store.is_denied([access]):
        raise AccessDenied("This access was ended.", code="access_ended")
    if at >= kept.expires:
        raise AccessDenied("The access has run out.", code="access_expired")
    return list(store.headers(kept.patient))

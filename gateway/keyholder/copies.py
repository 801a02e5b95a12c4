"""When a patient's own copy may begin, and whose word it takes. What it opens passes `open_sealed` like all
else, within this process: no key leaves. docs/adr/0012-own-copy.md says what that is worth.

A patient whose passkey is known here has to sign for each copy. For one who has none the web process speaks,
so those are bounded: an hour long, and few within an hour, whoever asks and for whom.
"""

import logging
from collections.abc import Callable

from gateway.keyholder.emergencies import headers_of
from gateway.keyholder.signing import Signing
from gateway.keyholder.store import Header, Store
from ledger.errors import RefusedTransition
from ledger.webauthn import Assertion, SignatureRefused, copy_challenge

SECONDS = 3600
# So much of the hour may have gone by on the way here, or lie ahead by a clock that differs.
SLACK = 300

log = logging.getLogger(__name__)


class Copies:
    """`per_hour` copies that nobody signed for may begin within an hour; 0: none. `clock` is our own."""

    def __init__(self, store: Store, signing: Signing, *, clock: Callable[[], int], per_hour: int) -> None:
        self._store, self._signing, self._clock, self._per_hour = store, signing, clock, per_hour

    def check_may_begin(self, access: str, *, patient: str, expires: int, voucher: Assertion | None) -> None:
        """Called in the transaction that keeps it; a repeat of a known one always passes.

        Raises RefusedTransition (`access_expiry`, `signing_quiet`, `voucher_missing`, `copies_too_many`),
        SignatureRefused.
        """
        if self._store.access(access) is not None:
            return
        now = self._clock()
        if not SECONDS - SLACK <= expires - now <= SECONDS + SLACK:
            raise RefusedTransition("A copy can be had for one hour.", code="access_expiry")
        signers = self._signing.signers(patient)
        if signers["quiet_until"]:
            raise RefusedTransition("The passkeys were reset. Ask again a day later.", code="signing_quiet")
        if signers["known"]:
            if voucher is None:
                raise SignatureRefused("A copy needs the patient's own signature.", code="voucher_missing")
            challenge = copy_challenge(patient=patient, access=access, expires=expires)
            self._signing.check_voucher(voucher, patient, challenge)
        elif voucher is not None:
            raise SignatureRefused("This passkey is not known.", code="passkey_unknown")
        elif self._store.begun("subject", at=now) >= self._per_hour:
            log.warning("a copy that nobody signed was refused: %d began within the hour", self._per_hour)
            raise RefusedTransition(
                "Too many copies were asked for within the hour. Try again later.", code="copies_too_many"
            )

    def headers(self, access: str) -> list[Header]:
        """Of the patient whose copy it is, while it can be had. Raises AccessDenied."""
        return headers_of(self._store, access, kind="subject", at=self._clock())

"""The keyholder's clock: expiries and ages are judged by it alone, so it may not go back.

The latest time that was rested on is durable before anything rests on it. A clock that is set back
would revive expired consents, so from then on everything that asks for the time is refused.
"""

from collections.abc import Callable

from gateway.keyholder.store import Store
from ledger.errors import KeyholderUnavailable

TOLERANCE_SECONDS = 5  # what keeping a clock right may turn it back


class KeptClock:
    """Whole seconds since 1970 UTC, by `clock`."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock

    def __call__(self) -> int:
        """The time now. Raises KeyholderUnavailable (`clock_went_back`)."""
        now = int(self._clock())
        if now < self._store.latest - TOLERANCE_SECONDS:
            raise KeyholderUnavailable(
                "The keyholder's clock went back. Set it right, or start the keyholder with --accept-clock.",
                code="clock_went_back",
            )
        if now > self._store.latest:
            self._store.put_latest(now)
        return now

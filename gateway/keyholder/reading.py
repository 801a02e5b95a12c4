"""What the ledger says now, from its own signed answers: the only reading that an opening may rest on.

Nothing here believes one organisation against another: a consent is in force only where every
verified answer shows it so, whole and well formed.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from gateway.keyholder.log import packed
from gateway.keyholder.store import Store
from ledger.client import Ledger, Proof, Reading, Trust
from ledger.contract import canonical
from ledger.contract.errors import Refused
from ledger.contract.in_force import IN_FORCE, consent_key, consent_of, keys_of, mark_key
from ledger.contract.in_force import standing as ledger_standing
from ledger.contract.state import Json
from ledger.errors import AccessDenied, ProofError

NONCE_BYTES = 32
MOST_PARSED = 16
# Where nothing in force rests on a consent any more, nor ever has.
OVER = frozenset({"consent_revoked", "consent_superseded", "consent_expired", "consent_unknown"})


@dataclass(frozen=True)
class Look:
    """One verified read; its age counts from `began`, the monotonic time just before it was asked."""

    keys: tuple[str, ...]
    nonce: bytes
    proof: Proof
    readings: tuple[Reading, ...]
    began: float

    @cached_property
    def packed(self) -> tuple[bytes, str]:
        """As the log keeps it, with its digest."""
        return packed(self.keys, self.nonce, self.proof)

    def values(self, key: str) -> list[bytes | None]:
        """The value of `key` in each organisation's answer."""
        return [reading.values[key] for reading in self.readings]

    def agreed(self, key: str, *, code: str) -> Json:
        """The one value that every answer shows. Raises AccessDenied(code) where one lacks it or differs."""
        values = set(self.values(key))
        value = values.pop()
        found = None if values or value is None else _parsed(value)
        if not isinstance(found, dict):
            raise AccessDenied("The ledger does not show what this opening needs.", code=code)
        return found


class Reader:
    """Reads with a fresh nonce, believes what `trust` verifies, and never a ledger that went back.

    AT_ONCE is how many consents a caller with many asks for in one reading.
    """

    AT_ONCE = 500

    def __init__(
        self, store: Store, ledger: Ledger, trust: Trust, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._ledger, self._trust, self._monotonic = store, ledger, trust, monotonic
        # Who holds marks on a consent: a hint of what to ask for, always checked against the answer.
        self._orgs: dict[str, tuple[str, ...]] = {}

    def look(self, keys: Sequence[str], consents: Sequence[str]) -> Look:
        """Read `keys`, and every consent with all its marks. Raises LedgerError, AccessDenied."""
        for _ in range(2):
            asked = [*keys, *(key for consent in consents for key in self._keys_of(consent))]
            found = self._read(tuple(dict.fromkeys(asked)))
            missing = [consent for consent in consents if self._learn(found, consent)]
            if not missing:
                return found
        raise ProofError("The ledger changed while it was read. Try again.", code="ledger_moved")

    def _keys_of(self, consent: str) -> list[str]:
        return keys_of(consent, self._orgs.get(consent, ()))

    def _learn(self, found: Look, consent: str) -> bool:
        """Whether an answer names holders of marks that were not asked for."""
        named = {org for value in found.values(consent_key(consent)) for org in _holders(value)}
        if named <= set(self._orgs.get(consent, ())):
            return False
        if len(self._orgs) > 100_000:
            self._orgs.clear()
        self._orgs[consent] = tuple(sorted(named))
        return True

    def _read(self, keys: tuple[str, ...]) -> Look:
        # What was known before we asked: an answer to somebody who asked later may overtake ours.
        known = self._store.heights()
        nonce = os.urandom(NONCE_BYTES)
        began = self._monotonic()
        proof = self._ledger.read(keys, nonce=nonce)
        readings = tuple(self._trust.check(proof, keys=keys, nonce=nonce))
        if len({reading.org for reading in readings}) < max(1, self._trust.needed):
            raise ProofError("Too few organisations answered. Nothing is opened.")
        if any(reading.height < known.get(reading.org, 0) for reading in readings):
            raise AccessDenied(
                "The ledger shows fewer blocks than it did before: it was put back. Find out why first.",
                code="ledger_went_back",
            )
        # Written before anything rests on it, so that a ledger restored from a backup is seen.
        self._store.raise_heights({reading.org: reading.height for reading in readings})
        return Look(keys, nonce, proof, readings, began)


@lru_cache(maxsize=MOST_PARSED)
def _parsed(value: bytes) -> Any:
    """The canonical JSON, parsed once for the same bytes (a release of many has 130 kB); else None."""
    try:
        return canonical.load_canonical(value)
    except Refused:
        return None


def standing(look: Look, consent: str, *, at: int) -> str:
    """`in_force` where every answer shows it so and all show the same; else the code of why not.

    The codes are those of `ledger.contract.in_force.standing`, and `answers_differ`. A revocation that any
    one organisation shows comes before everything else.
    """
    found = [_standing(reading, consent, at) for reading in look.readings]
    if "consent_revoked" in found:
        return "consent_revoked"
    if len(set(look.values(consent_key(consent)))) > 1:
        return "answers_differ"
    return next((one for one in found if one != IN_FORCE), IN_FORCE)


def in_force(look: Look, consent: str, *, at: int) -> Json:
    """The consent's value, in force at `at` in every answer. Raises AccessDenied with the code of why not."""
    found = standing(look, consent, at=at)
    if found != IN_FORCE:
        raise AccessDenied("A consent is not in force on the ledger, so nothing is opened.", code=found)
    return look.agreed(consent_key(consent), code="consent_unknown")


def is_over(look: Look, consent: str, *, at: int) -> bool:
    """Whether every answer shows that the consent ended or never was: only then does its deny not count."""
    return all(_standing(reading, consent, at) in OVER for reading in look.readings)


def _standing(reading: Reading, consent: str, at: int) -> str:
    """By one organisation's answer."""
    value = reading.values[consent_key(consent)]
    marks = [reading.values.get(mark_key(consent, org)) for org in _holders(value)]
    return ledger_standing(value, marks, at)


def _holders(value: bytes | None) -> list[str]:
    """The organisations that hold a mark on the consent; none where the value is none or malformed."""
    known = None if value is None else consent_of(value)
    return [] if known is None else list(known["marks"])

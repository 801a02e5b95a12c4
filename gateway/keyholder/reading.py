"""What the ledger says now, from its own signed answers: the only reading that an opening may rest on.

What speaks *for* an opening must be shown alike by as many organisations as are needed: its witnesses.
What speaks *against* it counts from any answer: a stop that one organisation shows is a stop. So a peer
that is stale, lies or is away keeps nothing from opening while enough others are well, and opens nothing.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from gateway.keyholder.log import packed
from gateway.keyholder.store import Store
from ledger.channels import Channel
from ledger.client import Proof, Reading
from ledger.contract import canonical
from ledger.contract.errors import Refused
from ledger.contract.in_force import IN_FORCE, consent_key, consent_of, keys_of, mark_key
from ledger.contract.in_force import standing as ledger_standing
from ledger.contract.state import Json
from ledger.errors import AccessDenied, LedgerError, ProofError

NONCE_BYTES = 32
MOST_PARSED = 16
MOST_HOLDERS = 256
# Where nothing in force rests on a consent any more, nor ever has.
OVER = frozenset({"consent_revoked", "consent_superseded", "consent_expired", "consent_unknown"})


@dataclass(frozen=True)
class Look:
    """One verified read; its age counts from `began`, the monotonic time just before it was asked.

    `witnesses` are the answers that show what was agreed so far, of `needed` organisations at least; `others`
    are behind the block that the caller rests on, or show otherwise: what they say against it counts still.
    """

    keys: tuple[str, ...]
    nonce: bytes
    proof: Proof
    witnesses: tuple[Reading, ...]
    began: float
    others: tuple[Reading, ...] = ()
    needed: int = 1

    @cached_property
    def packed(self) -> tuple[bytes, str]:
        """As the log keeps it, with its digest."""
        return packed(self.keys, self.nonce, self.proof)

    def shown(self, key: str) -> list[bytes]:
        """The values of `key` that any answer shows."""
        return [value for one in (*self.witnesses, *self.others) if (value := one.values[key]) is not None]

    def agreed(self, key: str, *, code: str) -> "tuple[Json, Look]":
        """The value of `key` that enough witnesses show, and this look with only those as its witnesses.

        Raises AccessDenied: `code` where too few show one, `answers_differ` where two are shown by enough.
        """
        counts = Counter(value for one in self.witnesses if (value := one.values[key]) is not None)
        enough = [value for value, count in counts.items() if count >= self.needed]
        if len(enough) > 1:
            raise AccessDenied("Organisations show this door in two ways.", code="answers_differ")
        found = _parsed(enough[0]) if enough else None
        if not isinstance(found, dict):
            raise AccessDenied("The ledger does not show what this opening needs.", code=code)
        return found, self._only(lambda one: one.values[key] == enough[0])

    def above(self, block: int) -> "Look":
        """With only those as witnesses whose height holds `block`. Raises LedgerError (`peers_behind`)."""
        look = self._only(lambda one: one.height > block)
        if len(look.witnesses) < self.needed:
            raise LedgerError(
                "Too few organisations have the block that this rests on. Ask again.", code="peers_behind"
            )
        return look

    def _only(self, is_witness: Callable[[Reading], bool]) -> "Look":
        kept = tuple(one for one in self.witnesses if is_witness(one))
        if len(kept) == len(self.witnesses):
            return self
        left = tuple(one for one in self.witnesses if not is_witness(one))
        return replace(self, witnesses=kept, others=self.others + left)


class Reader:
    """Reads one channel with a fresh nonce, believes what its trust verifies, never a ledger that went back.

    AT_ONCE is how many consents a caller with many asks for in one reading.
    """

    AT_ONCE = 500

    def __init__(
        self, store: Store, channel: Channel, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._channel, self._monotonic = store, channel, monotonic
        # Who holds marks on consents: a hint of what to ask for, always checked against the answer. One for
        # all of them, so that a consent which is read for the first time takes no longer than another.
        self._holders = {channel.trust.own}

    def look(self, keys: Sequence[str], consents: Sequence[str], *, after: int = -1) -> Look:
        """Read `keys`, and every consent with all its marks.

        `after` is the block that the caller rests on, as it knows itself. Raises LedgerError (`peers_behind`
        where too few organisations have that block), AccessDenied.
        """
        for _ in range(2):
            holders = sorted(self._holders)
            asked = [*keys, *(key for consent in consents for key in keys_of(consent, holders))]
            found = self._read(tuple(dict.fromkeys(asked))).above(after)
            named = {
                org
                for consent in consents
                for value in found.shown(consent_key(consent))
                for org in _holders(value)
            }
            if named <= self._holders:
                return found
            self._holders = named if len(self._holders) > MOST_HOLDERS else self._holders | named
        raise ProofError("The ledger changed while it was read. Try again.", code="ledger_moved")

    def look_alone(self, keys: Sequence[str], *, after: int = -1) -> Look:
        """Read `keys` from our own organisation, which is then the one witness. Raises as `look`."""
        return self._read(tuple(keys), alone=True).above(after)

    def _read(self, keys: tuple[str, ...], *, alone: bool = False) -> Look:
        # What was known before we asked: an answer to somebody who asked later may overtake ours.
        known, trust = self._store.heights(self._channel.name), self._channel.trust
        nonce = os.urandom(NONCE_BYTES)
        began = self._monotonic()
        readings: tuple[Reading, ...]
        if alone:
            needed, proof = 1, self._channel.ledger.read_own(keys, nonce=nonce)
            readings = (trust.check_own(proof, keys=keys, nonce=nonce),)
        else:
            needed, proof = max(1, trust.needed), self._channel.ledger.read(keys, nonce=nonce)
            readings = tuple(trust.check(proof, keys=keys, nonce=nonce))
        if len({reading.org for reading in readings}) < needed:
            raise ProofError("Too few organisations answered. Nothing is opened.")
        if any(reading.height < known.get(reading.org, 0) for reading in readings):
            raise AccessDenied(
                "The ledger shows fewer blocks than it did before: it was put back. Find out why first.",
                code="ledger_went_back",
            )
        # Written before anything rests on it, so that a ledger restored from a backup is seen.
        self._store.raise_heights({reading.org: reading.height for reading in readings}, self._channel.name)
        return Look(keys, nonce, proof, readings, began, needed=needed)


@lru_cache(maxsize=MOST_PARSED)
def _parsed(value: bytes) -> Any:
    """The canonical JSON, parsed once for the same bytes (a release of many has 130 kB); else None."""
    try:
        return canonical.load_canonical(value)
    except Refused:
        return None


def standing(look: Look, consent: str, *, at: int) -> str:
    """`in_force` where every witness shows it so, all show the same, and no other answer shows its end.

    Else the code of why not: those of `ledger.contract.in_force.standing`, and `answers_differ`. A revocation
    that any one organisation shows comes before everything else. Of the others it is only passed over that
    they do not know the consent.
    """
    found = [_standing(reading, consent, at) for reading in look.witnesses]
    others = [_standing(reading, consent, at) for reading in look.others]
    if "consent_revoked" in (*found, *others):
        return "consent_revoked"
    if len({reading.values[consent_key(consent)] for reading in look.witnesses}) > 1:
        return "answers_differ"
    against = [one for one in found if one != IN_FORCE]
    against += [one for one in others if one not in (IN_FORCE, "consent_unknown")]
    return against[0] if against else IN_FORCE


def in_force(look: Look, consent: str, *, at: int) -> Json:
    """The consent's value, in force at `at` by every witness. Raises AccessDenied, its code says why not."""
    found = standing(look, consent, at=at)
    if found != IN_FORCE:
        raise AccessDenied("A consent is not in force on the ledger, so nothing is opened.", code=found)
    value, _ = look.agreed(consent_key(consent), code="consent_unknown")
    return value


def is_over(look: Look, consent: str, *, at: int) -> bool:
    """Whether the consent ended or never was: only then does its deny not count.

    Every answer must show so, but for those that cannot know it yet: where as many organisations as are
    needed show its end, an answer whose height does not hold the block of that end is merely old.
    """
    answers = (*look.witnesses, *look.others)
    over = [one for one in answers if _standing(one, consent, at) in OVER]
    rest = [one for one in answers if one not in over]
    if not rest:
        return True
    ended = min((_last_written(one, consent) for one in over), default=-1)
    return len(over) >= look.needed and all(one.height <= ended for one in rest)


def _last_written(reading: Reading, consent: str) -> int:
    """The newest block that wrote the consent or a mark on it, by one organisation's answer; -1 if unsaid."""
    keys = keys_of(consent, _holders(reading.values[consent_key(consent)]))
    return max((reading.blocks.get(key, -1) for key in keys), default=-1)


def _standing(reading: Reading, consent: str, at: int) -> str:
    """By one organisation's answer."""
    value = reading.values[consent_key(consent)]
    marks = [reading.values.get(mark_key(consent, org)) for org in _holders(value)]
    return ledger_standing(value, marks, at)


def _holders(value: bytes | None) -> list[str]:
    """The organisations that hold a mark on the consent; none where the value is none or malformed."""
    known = None if value is None else consent_of(value)
    return [] if known is None else list(known["marks"])

"""Who has records of which kinds: at hand in memory, so that a cohort is looked for without unsealing it.

It chooses whom to look at and decides nothing: an opening never asks here. Each patient is one number in an
array, a bit for each kind of which there is a record that nobody withholds for being sensitive. It is read
from the sealed headers when it is first asked for, and forgotten in the moment in which one of them is
written or goes; nothing of it is kept.
"""

import threading
from array import array
from collections.abc import Iterable, Sequence

from gateway.keyholder.store import Header, Store
from gateway.labels.rules import STATEMENTS

KNOWN = 1
ORDINARY = frozenset({"N"})
# Of a type without a statement everything is withheld, so there is never an ordinary record of it.
_BITS = {kind: 2 << number for number, kind in enumerate(sorted(STATEMENTS))}


class Preselection:
    """One store's. Safe for threads; not to be asked within a transaction of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._guard = threading.Lock()
        self._kinds = array("Q")  # by the patient's number in the store; 0: not known
        self._changes = 0
        store.watch_chunks(self.forget)

    def with_kinds(self, patients: Sequence[str], kinds: Iterable[str]) -> list[str]:
        """Those of the patients, in their order, who have an ordinary record of each of the kinds.

        Raises EnvelopeError.
        """
        wanted = KNOWN
        for kind in kinds:
            if kind not in _BITS:
                return []
            wanted |= _BITS[kind]
        numbers = self._store.numbers(patients)
        with self._guard:
            changes = self._changes
            found = {one: self._at(number) for one, number in numbers.items()}
        unknown = [one for one, there in found.items() if not there]
        if unknown:
            read = self._read(unknown)
            found |= read
            self._keep({numbers[one]: there for one, there in read.items()}, since=changes)
        return [one for one in patients if found.get(one, 0) & wanted == wanted]

    def _read(self, patients: Sequence[str]) -> dict[str, int]:
        read = dict.fromkeys(patients, KNOWN)
        for patient, header in self._store.headers_of(patients):
            if is_ordinary(header):
                read[patient] |= _BITS.get(header.resource_type, 0)
        return read

    def _at(self, number: int) -> int:
        return self._kinds[number] if number < len(self._kinds) else 0

    def _keep(self, read: dict[int, int], *, since: int) -> None:
        """Keep what was read, unless a header changed meanwhile: then it may be old."""
        with self._guard:
            if self._changes != since:
                return
            self._kinds.extend([0] * (max(read) + 1 - len(self._kinds)))
            for number, there in read.items():
                self._kinds[number] = there

    def forget(self, number: int) -> None:
        """A header of the patient with this number changed."""
        with self._guard:
            self._changes += 1
            if number < len(self._kinds):
                self._kinds[number] = 0


def is_ordinary(header: Header) -> bool:
    """Whether there is a record in it, and none with a sensitivity or in doubt: criteria count no other."""
    return bool(header.count) and ORDINARY.issuperset(header.labels)

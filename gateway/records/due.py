"""Whose records wait for the relay, and since when. A newer reason is a later `since`: whoever carries it out
reads `since` before it looks at what is due, and deletes the row with that `since` alone.
"""

from collections.abc import Iterable
from typing import TypeVar

from django.utils import timezone

from gateway.records.models import ToPassOn, Unsettled

_Row = TypeVar("_Row", Unsettled, ToPassOn)


def note_unsettled(whose: Iterable[str]) -> None:
    """That something of theirs is to be regrouped. Within the transaction that keeps what calls for it."""
    _note(Unsettled, whose)


def note_to_pass_on(patients: Iterable[str]) -> None:
    """That a clinician's label of theirs is to pass along, or no longer, or to something new.

    Within the transaction that keeps what calls for it.
    """
    _note(ToPassOn, patients)


def _note(model: type[_Row], whose: Iterable[str]) -> None:
    now = timezone.now()
    model.objects.bulk_create(
        [model(whose=one, since=now) for one in sorted(whose)],
        update_conflicts=True,
        unique_fields=["whose"],
        update_fields=["since"],
        batch_size=500,
    )

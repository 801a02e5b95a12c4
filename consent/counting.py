"""A cohort's numbers as its requester may see them: lower bounds, and never small ones.

A number is rounded down to a multiple of COHORT_FEWEST, after it was cut short by some multiples of it that
were drawn once and are told to nobody: none for one in two, one for one in four, and so on without end. So
whatever the requester counts by itself, such as the results that it got, no difference between that and a
number told here, or between two of these, puts an upper bound on how many are missing.
"""

import secrets

from django.conf import settings


def draw_two() -> list[int]:
    """What cuts a cohort's two numbers short. One secret for both would tell their difference."""
    return [_draw(), _draw()]


def _draw() -> int:
    drawn = 0
    while secrets.randbits(1):
        drawn += 1
    return drawn


def told(number: int, *, short_by: int) -> int | None:
    """What is told of `number`: that there are at least so many; None: nothing, or not so many as that."""
    fewest = settings.COHORT_FEWEST
    least: int = (number // fewest - short_by) * fewest
    return least if least >= fewest else None


def tenths(done: int, of: int) -> int:
    """How far something is, in whole tenths: a share tells no number."""
    return done * 10 // of if of else 10

"""Counts that may be shown of people: none under five, and none that the others give away. Pure."""

from collections.abc import Mapping, Sequence

LEAST = 5


def hide(counts: Sequence[int], least: int = LEAST) -> list[int | None]:
    """The counts, those of 1 to `least` - 1 as None: so many more of the smallest are hidden with them that
    whoever knows the sum of all learns only what the hidden ones come to, which is `least` or more for two or
    more of them. None at all (0) is about nobody, and shown.

    Where there is too little beside them, all but the zeros are hidden.
    """
    people = sorted((count, place) for place, count in enumerate(counts) if count)
    small = sum(count < least for count, _place in people)
    hidden = people[:small]
    for each in people[small:] if hidden else ():
        if len(hidden) > 1 and sum(count for count, _place in hidden) >= least:
            break
        hidden.append(each)
    gaps = {place for _count, place in hidden}
    return [None if place in gaps else count for place, count in enumerate(counts)]


def fold(counts: Mapping[str, int], other: str, least: int = LEAST) -> dict[str, int]:
    """The counts by name, largest first, the small ones as one called `other`: two names or more, and `least`
    or more in all. Empty where all together are fewer."""
    if sum(counts.values()) < least:
        return {}
    kept = dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
    folded: list[int] = []
    while any(count < least for count in kept.values()) or (
        folded and kept and (len(folded) < 2 or sum(folded) < least)
    ):
        folded.append(kept.popitem()[1])
    return {**kept, other: sum(folded)} if folded else kept


def percentiles(values: Sequence[float], *, of: Sequence[int] = (50, 95, 99)) -> list[float | None]:
    """The values below which so many per cent lie (nearest rank); None where there are fewer than LEAST."""
    if len(values) < LEAST:
        return [None for _each in of]
    ordered = sorted(values)
    return [ordered[max(0, -(-len(ordered) * each // 100) - 1)] for each in of]

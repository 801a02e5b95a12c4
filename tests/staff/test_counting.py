"""What is shown of small counts, and that the rest does not give them away."""

from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.staff.counting import LEAST, fold, hide, percentiles

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
COUNTS = st.lists(st.integers(0, 40), max_size=12)


@given(COUNTS)
@QUICK
def test_no_small_count_is_shown_and_none_follows_from_the_sum(counts: list[int]) -> None:
    shown = hide(counts)
    hidden = [count for count, seen in zip(counts, shown, strict=True) if seen is None]
    assert all(seen in (None, count) for count, seen in zip(counts, shown, strict=True))
    assert all(seen is None or seen == 0 or seen >= LEAST for seen in shown)
    assert 0 not in hidden
    if any(seen for seen in shown) and hidden:
        assert len(hidden) >= 2
        assert sum(hidden) >= LEAST


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 40)))
@QUICK
def test_what_is_folded_is_no_small_count(counts: dict[str, int]) -> None:
    shown = fold(counts, "other")
    assert all(count >= LEAST for count in shown.values())
    assert sum(shown.values()) in (0, sum(counts.values()))
    if "other" in shown:
        assert len(counts) - (len(shown) - 1) >= min(2, len(counts))


def test_the_sum_leaves_every_small_count_open() -> None:
    """Whoever knows the shown counts and the sum can think of several ways to fill the gaps."""
    counts = [3, 9, 20, 7]
    shown = hide(counts)
    gaps = shown.count(None)
    left = sum(counts) - sum(count for count in shown if count is not None)
    ways = [way for way in product(range(left + 1), repeat=gaps) if sum(way) == left]
    assert len({way[0] for way in ways}) > 1


@pytest.mark.parametrize(
    ("values", "expected"), [([1.0] * 4, [None] * 3), (list(range(1, 101)), [50, 95, 99])]
)
def test_percentiles(values: list[float], expected: list[float | None]) -> None:
    assert percentiles(values) == expected

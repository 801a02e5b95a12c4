"""What is told of a cohort's numbers keeps open how many are missing, whatever the client counts itself."""

from collections import defaultdict
from itertools import product
from typing import Any

import pytest

from consent.counting import draw_two, tenths, told

FEWEST = 11
DRAWS = range(12)


@pytest.fixture(autouse=True)
def fewest(settings: Any) -> None:
    settings.COHORT_FEWEST = FEWEST


def test_a_number_is_a_lower_bound_and_never_small() -> None:
    for number, short_by in product(range(300), DRAWS):
        shown = told(number, short_by=short_by)
        assert shown is None or (FEWEST <= shown <= number and shown % FEWEST == 0)
    assert [told(number, short_by=0) for number in (0, 10, 11, 21, 22, 1000)] == [None, None, 11, 11, 22, 990]


@pytest.mark.parametrize("asked", [0, 5, 11, 12, 99, 100, 120])
def test_no_count_of_results_bounds_how_many_are_missing(asked: int) -> None:
    """Whoever got `results` of `asked` sees the same where any number more had been asked than got one."""
    for results, short_by in product(range(asked + 1), range(3)):
        shown = told(asked, short_by=short_by)
        for missing in range(asked - results, 4 * FEWEST):
            assert any(told(results + missing, short_by=draw) == shown for draw in DRAWS)


@pytest.mark.parametrize("asked", [40, 44, 50])
def test_no_difference_of_the_two_numbers_is_known_to_be_small(asked: int) -> None:
    """Asked and in force are cut short each by itself: what is told of both fits a difference of many."""
    fitting: dict[int | None, set[int]] = defaultdict(set)
    for number, draw in product(range(12 * FEWEST), DRAWS):
        fitting[told(number, short_by=draw)].add(number)
    for in_force, draws in product(range(asked + 1), product(range(3), repeat=2)):
        of_asked, of_those = told(asked, short_by=draws[0]), told(in_force, short_by=draws[1])
        differences = {more - less for more, less in product(fitting[of_asked], fitting[of_those])}
        assert differences >= set(range(max(0, (of_asked or 0) - in_force), 2 * FEWEST))


def test_what_is_drawn_has_no_end_and_is_mostly_small() -> None:
    drawn = [draw for _ in range(500) for draw in draw_two()]
    assert {0, 1, 2} <= set(drawn)
    assert sum(drawn) / len(drawn) < 2


def test_progress_is_told_in_tenths() -> None:
    assert [tenths(done, 120) for done in (0, 11, 12, 60, 119, 120)] == [0, 0, 1, 5, 9, 10]

"""The checker against mutants: each breaks a rule of the real product and is caught; unbroken it is clean."""

import pytest

from tests.drills.mutants import MUTANTS, Mutant
from tests.drills.workshop import workshop

CAUGHT: dict[str, list[str]] = {}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    with workshop() as shop:
        mutant.patch(monkeypatch, shop)
        mutant.story(shop)
        found = sorted({violation.rule for violation in shop.violations()})
        monkeypatch.undo()
    CAUGHT[mutant.name] = found
    assert mutant.caught_by in found


@pytest.mark.parametrize("story", sorted({one.story for one in MUTANTS}, key=lambda one: one.__name__))
def test_without_a_mutant_the_same_story_is_clean(story: object) -> None:
    with workshop() as shop:
        story(shop)  # type: ignore[operator]
        assert shop.violations() == []


def test_print_the_table() -> None:
    """`pytest -s` shows it: mutant, and every rule that caught it."""
    for name, rules in CAUGHT.items():
        print(f"\n  {name:32} {', '.join(rules)}", end="")
    assert len({one.name for one in MUTANTS}) == len(MUTANTS) >= 10

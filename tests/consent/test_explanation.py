"""Plain words, and how their ease is measured."""

import pytest

from consent import explanation
from ledger.contract import labels, purposes
from ledger.contract.resource_types import RESOURCE_TYPES


@pytest.mark.parametrize(
    ("word", "count"),
    [("the", 1), ("take", 1), ("used", 1), ("notes", 1), ("little", 2), ("wanted", 2), ("changes", 2),
     ("ledger", 2), ("computer", 3), ("information", 4), ("people", 2), ("agree", 2), ("90", 1)],
)  # fmt: skip
def test_syllables(word: str, count: int) -> None:
    assert explanation.syllables(word) == count


def test_reading_grade_of_a_known_text() -> None:
    """6 words in one sentence, 6 syllables: 0.39*6 + 11.8*1 - 15.59 = -1.45."""
    assert explanation.reading_grade("The cat sat on the mat.") == pytest.approx(-1.45)
    hard = "Processing of pseudonymised longitudinal information necessitates authorisation."
    assert explanation.reading_grade(hard) > 12
    assert explanation.reading_grade("") == 0


def test_sentences_end_at_full_stops_and_lines() -> None:
    assert explanation.longest_sentence("One two three. Four five\nSix seven eight nine") == 4
    assert explanation.longest_sentence("") == 0


def test_every_word_of_ours_is_one_of_the_contract() -> None:
    assert explanation.KINDS.keys() <= RESOURCE_TYPES
    assert explanation.SENSITIVE.keys() <= labels.KNOWN
    assert explanation.PURPOSES.keys() <= purposes.KNOWN


@pytest.mark.parametrize("words", [explanation.KINDS, explanation.SENSITIVE])
def test_every_explanation_is_short(words: dict[str, explanation.Kind]) -> None:
    for kind in words.values():
        assert explanation.longest_sentence(f"{kind.name}. {kind.about}") <= 12

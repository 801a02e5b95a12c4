"""A model card on a page: names in words, and nothing of it left out."""

from typing import Any

from django.utils.translation import override

from gateway.analysis import catalogue
from gateway.staff import cards


def text_of(card: dict[str, Any]) -> dict[str, str]:
    return {name: text for name, text, _language in cards.rows(card)}


def test_kinds_of_record_are_in_the_language_of_the_page() -> None:
    with override("es"):
        (reads,) = [row for row in cards.rows({"reads": ["Observation"]}) if row[0] == "Lee"]
    assert reads == ("Lee", "Resultados de pruebas", "")


def test_every_member_of_every_card_of_ours_has_a_name_in_words():
    for model in catalogue.MODELS:
        card = model.describe()
        assert len(cards.rows(card)) == len(card)
        assert not {name for name, _text, _language in cards.rows(card)} & card.keys()


def test_an_input_is_what_it_is_and_its_range():
    told = text_of(catalogue.find("news2").describe())
    assert "body temperature: 20 to 45 °C" in told["Inputs"].splitlines()
    assert "age in completed years at the index date: 16 to 120 years" in told["Inputs"].splitlines()
    assert "awake and not newly confused" in told["Inputs"].splitlines()
    assert told["Unit"] == "points"
    assert "Test results" in told["Reads"].splitlines()
    (alert,) = [one for one in told["When it alerts"].splitlines() if "urgent" in one]
    assert alert.startswith("5 points or more: urgent assessment. RCP 2017, NEWS2 (at 5 or above; severity: ")


def test_a_member_without_words_is_not_left_out() -> None:
    odd = {
        "inputs": [{"what": "age", "unless": "on Mondays"}],
        "alerts": [{"says": "a", "source": "b", "at": "9"}],
    }
    told = text_of(odd)
    assert told["Inputs"] == "age (unless: on Mondays)"
    assert told["When it alerts"] == "a b (at: 9)"


def test_what_a_provider_calls_otherwise_stands_last_under_its_name():
    rows = cards.rows({"colour": {"of_it": ["blue", 3]}, "intended_use": "Kidneys.", "inputs": [{"x": 1}]})
    assert rows == [
        ("What it is for", "Kidneys.", "en"),
        ("Inputs", "x: 1", "en"),
        ("colour", "of it: blue, 3", "en"),
    ]

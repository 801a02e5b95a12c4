"""Layers 1 and 2 of a question can be read by a child of eleven."""

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from consent.explanation import longest_sentence, reading_grade
from consent.models import ConsentRequest
from gateway.demo.pages import agree, to_check

pytestmark = pytest.mark.django_db

BLOCKS = re.compile(r"</(?:p|dt|dd|h1|h2|summary|li|strong)>")


def text_of(html: str) -> str:
    """What is read, one block a line."""
    return unescape(re.sub(r"<[^>]+>", " ", BLOCKS.sub("\n", html)))


LEDGERS = ["embedded:///somewhere", "fabric:///somewhere.json"]


@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize("layer", [1, 2])
def test_layers_1_and_2(
    browser: Client, question: ConsentRequest, settings: Any, layer: int, ledger: str
) -> None:
    settings.LEDGER_URL = ledger
    html = browser.get(reverse("question", args=[question.id])).content.decode()
    start = html.index(f'<div id="layer-{layer}">')
    end = html.index('<div id="layer-2">') if layer == 1 else html.index("Read the full text")
    text = text_of(html[start:end])
    assert len(text.split()) > 40
    assert reading_grade(text) <= 6
    assert longest_sentence(text) <= 20


@pytest.mark.parametrize("ledger", LEDGERS)
def test_several_groups_keep_the_record_book_only_where_they_do(
    browser: Client, question: ConsentRequest, settings: Any, ledger: str
) -> None:
    settings.LEDGER_URL = ledger
    for page in (reverse("question", args=[question.id]), reverse("help")):
        html = browser.get(page).content.decode()
        assert ("Several groups keep it together" in html) == ledger.startswith("fabric")
        assert ("Your clinic keeps it" in html) == ledger.startswith("embedded")
    # The full text is for good, whatever ledger comes later.
    assert "groups" not in question.notice.text


@pytest.mark.parametrize("name", ["start", "help", "home", "choices", "access"])
def test_other_pages(browser: Client, name: str) -> None:
    html = browser.get(reverse(name)).content.decode()
    text = text_of(html[html.index("<main") : html.index("</main>")])
    assert reading_grade(text) <= 6
    for word in ("artefact", "revoke", "processing", "Are you sure"):
        assert word not in text


JOURNEY = {
    "understand_one": ["Continue", "Not quite"],
    "choose": ["How long for?", "More private records"],
    "check": ["Check your answers"],
    "done": ["Keep your receipt"],
    "choice": ["What happened"],
    "stop": ["What may still exist"],
}


@pytest.mark.parametrize("name", JOURNEY)
def test_the_way_through_a_question(browser: Client, question: ConsentRequest, name: str) -> None:
    """Each page between the question and what comes after a stop, with what it says at its longest."""
    to_check(browser, question.id, {"kinds": ["Observation"], "duration": "until"})
    for _ in range(2):
        browser.post(reverse("understand_one", args=[question.id, 3]), {"answer": "late"})
    address = reverse(name, args=[question.id, 3] if name == "understand_one" else [question.id])
    if name in ("check", "done", "choice", "stop"):
        to_check(browser, question.id, {"kinds": ["Observation"], "duration": "until"})
    if name in ("done", "choice", "stop"):
        agree(browser, reverse("check", args=[question.id]))
    if name in ("choice", "stop"):
        consent = question.consents.get()
        browser.post(reverse("stop", args=[consent.id]))
        address = reverse(name, args=[consent.id])
    html = browser.get(address).content.decode()
    assert all(words in html for words in JOURNEY[name])
    text = text_of(html[html.index("<main") : html.index("</main>")])
    assert reading_grade(text) <= 6
    assert longest_sentence(text) <= 20
    for word in ("artefact", "revoke", "processing", "Are you sure"):
        assert word not in text

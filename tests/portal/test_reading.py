"""Layers 1 and 2 of a question can be read by a child of eleven."""

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from consent.explanation import longest_sentence, reading_grade
from consent.models import ConsentRequest

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
        assert ("Your hospital keeps it" in html) == ledger.startswith("embedded")
    # The full text is for good, whatever ledger comes later.
    assert "groups" not in question.notice.text


@pytest.mark.parametrize("name", ["start", "help", "home", "choices", "access"])
def test_other_pages(browser: Client, name: str) -> None:
    html = browser.get(reverse(name)).content.decode()
    text = text_of(html[html.index("<main") : html.index("</main>")])
    assert reading_grade(text) <= 6
    for word in ("artefact", "revoke", "processing", "Are you sure"):
        assert word not in text

"""The access package: what GDPR article 15(1) lists is there, in three forms that say the same."""

import json
from typing import Any

import pytest
from django.utils import translation

from gateway.compliance import package
from tests.compliance.conftest import Year
from tests.documents import check_pdf, languages

pytestmark = pytest.mark.django_db

# Article 15(1): letter -> the field that carries it.
ARTICLE_15 = {
    "a": "purposes",
    "b": "categories",
    "c": "recipients",
    "d": "retention",
    "e": "rights",
    "f": "rights",
    "g": "source",
    "h": "models",
    "2": "transfers",
    "20": "choices",
}


def test_every_letter_of_article_15_has_its_field(year: Year) -> None:
    found = package.gather(year.patient)
    assert all(found[field] for field in ARTICLE_15.values())
    assert found["recipients"] == [
        {"name": "Helix AI", "contact": "", "id": year.requester.reference, "received": 2}
    ]
    assert {use["id"] for use in found["uses"]} == set(year.uses.values())
    assert found["subject"]["name"] == "Alice Example"
    assert any("Complain" in text for text in found["rights"])


def test_the_logic_of_each_model_is_told(year: Year) -> None:
    (model,) = package.gather(year.patient)["models"]
    assert model["digest"] == year.model.digest
    told = " ".join(model["logic"])
    for part in (year.model.card["outcome"], "age in completed years", "a person reads each result"):
        assert part in told
    assert set(year.model.card["limits"]) <= set(model["logic"])


def test_every_notice_is_there_word_for_word(year: Year) -> None:
    found = package.gather(year.patient)
    shown = {year.consent.shown_notice.digest: year.consent.shown_notice.text}
    assert {each["sha256"]: each["text"] for each in found["notices"]} == shown


def test_nothing_of_anybody_else(year: Year, charlie: Any) -> None:
    found = package.as_json(package.gather(charlie)).decode()
    for word in ("Alice", year.patient.pk, year.patient.pseudonym, *year.uses.values()):
        assert word not in found


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_three_forms(year: Year, language: str) -> None:
    with translation.override(language):
        found = package.gather(year.patient)
        report = package.report(year.patient, found)
        page, made = report.as_html(language).decode(), report.as_pdf(language)
    assert json.loads(package.as_json(found)) == found
    assert languages(made) == {"en"} - {language}
    what_for = year.consent.request.what_for
    assert f'<li><span lang="en" dir="auto">{what_for}</span>' in page
    check_pdf(
        made, title=report.title, language=language, has=["Helix AI", year.model.digest, "Alice Example"]
    )
    assert f'<html lang="{language}"' in page
    assert f"<title>{report.title}</title>" in page
    for text in ("Helix AI", year.model.digest, year.consent.shown_notice.digest):
        assert text in page
    assert "<script" not in page
    assert "http" not in page.replace("https://doi.org", "")


def test_what_a_requester_wrote_is_text(year: Year) -> None:
    year.consent.request.requester.name = "<b>Helix</b>"
    year.consent.request.requester.save()
    report = package.report(year.patient, package.gather(year.patient))
    assert "<b>Helix" not in report.as_html("en").decode()
    assert report.as_pdf("en").startswith(b"%PDF")

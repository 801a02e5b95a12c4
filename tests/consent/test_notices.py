"""Notices: every version that was ever shown stays as it was."""

import hashlib
from pathlib import Path

import pytest

from consent import notices
from consent.explanation import longest_sentence, reading_grade
from consent.models import Notice
from ledger.errors import InvalidInput

pytestmark = pytest.mark.django_db


def test_the_shipped_notice_is_published_once_and_known_by_its_hash() -> None:
    notice = notices.current()
    assert notice.version == 1
    assert notice.digest == hashlib.sha256(notice.text.encode()).hexdigest()
    assert notices.publish_shipped() == notice


def test_another_text_is_another_version() -> None:
    first = notices.current()
    second = notices.publish(slug=first.slug, language="en", title=first.title, text="Another text.")
    assert (second.version, notices.current()) == (2, second)
    assert second.digest != first.digest


def test_a_published_text_never_changes() -> None:
    notice = notices.current()
    notice.text += " But."
    with pytest.raises(InvalidInput):
        notice.save()


def test_an_unknown_notice_is_said_to_be_unknown() -> None:
    with pytest.raises(InvalidInput):
        notices.current("no-such", "en")
    with pytest.raises(InvalidInput):
        notices.publish(slug="a", language="en", title="A", text=" ")


def test_the_shipped_notice_can_be_read_by_a_child_of_eleven() -> None:
    text = notices.current().text
    assert reading_grade(text) <= 6
    assert longest_sentence(text) <= 20


def test_a_text_is_shown_in_the_language_of_the_page_by_version() -> None:
    first = notices.publish(slug="here", language="en", title="Title", text="Text.")
    second = notices.publish(slug="here", language="en", title="Title", text="Text that is new.")
    translated = Notice.objects.create(
        slug="here", version=second.version, language="es", title="Título", text="Texto nuevo."
    )
    assert notices.in_language(second, "es") == translated
    assert notices.in_language(second, "en") == second
    # The older version was never translated, and a newer one is not what was asked about.
    assert notices.in_language(first, "es") == first


def test_a_translation_that_ships_is_published_beside_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "TEXTS", tmp_path)
    (tmp_path / "here.en.txt").write_text("Title\n\nText.")
    (tmp_path / "here.es.txt").write_text("Título\n\nTexto.")
    notices.publish(slug="here", language="en", title="Older", text="Older text.")
    current = notices.publish_shipped(slug="here")
    assert current.version == 2
    translated = notices.in_language(current, "es")
    assert (translated.version, translated.language, translated.text) == (2, "es", "Texto.")
    assert notices.in_language(current, "es") == translated
    assert notices.in_language(current, "../here") == current

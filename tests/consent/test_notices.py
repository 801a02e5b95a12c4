"""Notices: every version that was ever shown stays as it was."""

import hashlib

import pytest

from consent import notices
from consent.explanation import longest_sentence, reading_grade
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

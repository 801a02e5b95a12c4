"""Notices: the full text behind a question, kept in every version that anyone was ever shown.

A notice is known by the SHA-256 of its text; the consent names that digest, so what a patient read
can be shown again, word for word, years later.
"""

from pathlib import Path

from django.db import transaction
from django.utils.translation import gettext as _

from consent.models import Notice
from ledger.errors import InvalidInput

TEXTS = Path(__file__).parent / "notice_texts"
DEFAULT = "ai-analysis"


@transaction.atomic
def publish(*, slug: str, language: str, title: str, text: str) -> Notice:
    """The notice with exactly this text: the latest version where it has not changed, else a new version.

    Raises InvalidInput for an empty title or text.
    """
    if not title.strip() or not text.strip():
        raise InvalidInput(_("A notice needs a title and a text."), code="notice_empty")
    latest = Notice.objects.filter(slug=slug, language=language).order_by("-version").first()
    if latest is not None and (latest.title, latest.text) == (title, text):
        return latest
    version = latest.version + 1 if latest else 1
    notice, _new = Notice.objects.get_or_create(
        slug=slug, version=version, language=language, defaults={"title": title, "text": text}
    )
    if (notice.title, notice.text) != (title, text):  # somebody else's new version came first
        return publish(slug=slug, language=language, title=title, text=text)
    return notice


def current(slug: str = DEFAULT, language: str = "en") -> Notice:
    """The latest version; one that ships with the product is published when first needed.

    Raises InvalidInput where there is none in this language.
    """
    found = Notice.objects.filter(slug=slug, language=language).order_by("-version").first()
    return found or publish_shipped(slug=slug, language=language)


def in_language(notice: Notice, language: str) -> Notice:
    """The same version of this text in `language`, where there is one; else the notice itself.

    A translation that ships with the product is published beside the text that it translates.
    """
    if language == notice.language:
        return notice
    found = Notice.objects.filter(slug=notice.slug, version=notice.version, language=language).first()
    if found is not None:
        return found
    ours, translated = _shipped(notice.slug, notice.language), _shipped(notice.slug, language)
    if translated is None or ours != (notice.title, notice.text):
        return notice
    title, text = translated
    published, _new = Notice.objects.get_or_create(
        slug=notice.slug, version=notice.version, language=language, defaults={"title": title, "text": text}
    )
    return published


def publish_shipped(*, slug: str = DEFAULT, language: str = "en") -> Notice:
    """Publish a text that ships with the product: the title, a blank line, the text."""
    shipped = _shipped(slug, language)
    if shipped is None:
        raise InvalidInput(_("There is no notice of this name and language."), code="notice_unknown")
    title, text = shipped
    return publish(slug=slug, language=language, title=title, text=text)


def _shipped(slug: str, language: str) -> tuple[str, str] | None:
    """Title and text of a notice that ships with the product."""
    path = TEXTS / f"{slug}.{language}.txt"
    if path.parent != TEXTS or not path.is_file():
        return None
    title, _blank, text = path.read_text(encoding="utf-8").partition("\n\n")
    return title.strip(), text.strip()

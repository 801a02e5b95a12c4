"""`make messages`: the catalogues of translated strings, in consent/locale/<language>/LC_MESSAGES.

Every string that a person may read is marked with gettext, in Python or in a template. This collects them,
keeps each translation whose string still stands, and compiles. What is left to translate is said, and
tests/test_languages.py holds that nothing is. Only whoever changes strings needs it (Babel); the product
reads the compiled files.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parents[1]
LOCALES = ROOT / "consent" / "locale"
LANGUAGES = ("es",)
KEYWORDS = {
    **DEFAULT_KEYWORDS,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext_lazy": (1, 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext_lazy": ((1, "c"), 2, 3),
}
FORM = {
    "width": 110,
    "sort_output": True,
    "include_lineno": False,
    "ignore_obsolete": True,
    "omit_header": False,
}


def source() -> Catalog:
    """Every marked string of the product, with the files that it stands in."""
    catalog = Catalog(project="Consent Gateway", charset="utf-8", fuzzy=False)
    for path in _files():
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".py":
            text = _as_python(text)
        for _, message, comments, context in extract("python", io.BytesIO(text.encode()), KEYWORDS):
            where = [(path.relative_to(ROOT).as_posix(), 0)]
            catalog.add(message, locations=where, auto_comments=comments, context=context)
    return catalog


def _files() -> Iterator[Path]:
    for folder in ("consent", "gateway", "ledger"):
        yield from sorted(path for path in (ROOT / folder).rglob("*.py") if "migrations" not in path.parts)
    yield from sorted(path for path in (ROOT / "templates").rglob("*") if path.suffix in (".html", ".txt"))


def _as_python(template: str) -> str:
    """A template's marked strings as calls of gettext: Django's own reading, without its indentation."""
    from django.utils.translation.template import templatize

    return "\n".join(line.strip() for line in templatize(template).split("\n"))


def po_file(language: str) -> Path:
    return LOCALES / language / "LC_MESSAGES" / "django.po"


def read(language: str) -> Catalog:
    with po_file(language).open("rb") as file:
        return read_po(file, locale=language)


def compiled(catalog: Catalog) -> bytes:
    """The bytes of the .mo file."""
    out = io.BytesIO()
    write_mo(out, catalog)
    return out.getvalue()


def missing(catalog: Catalog) -> list[Any]:
    """Messages that have no whole translation, or one that somebody has yet to read."""
    return [message for message in catalog if message.id and (message.fuzzy or not _is_whole(message.string))]


def _is_whole(string: str | tuple[str, ...]) -> bool:
    return all(string) if isinstance(string, (tuple, list)) else bool(string)


def write(language: str, catalog: Catalog) -> None:
    out = io.BytesIO()
    write_po(out, catalog, **FORM)  # type: ignore[arg-type]
    po_file(language).parent.mkdir(parents=True, exist_ok=True)
    po_file(language).write_bytes(out.getvalue())
    po_file(language).with_suffix(".mo").write_bytes(compiled(catalog))


def update(language: str) -> Catalog:
    """The language's catalogue with the strings that the product has now."""
    known = read(language) if po_file(language).exists() else Catalog(locale=language, fuzzy=False)
    known.update(source(), no_fuzzy_matching=True)
    known.obsolete.clear()
    write(language, known)
    return known


def main() -> int:
    left = {language: missing(update(language)) for language in LANGUAGES}
    for language, messages in left.items():
        print(f"{language}: {len(messages)} left to translate")
        for message in messages:
            print(f"  {message.id!r}")
    return 1 if any(left.values()) else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    import django
    from django.conf import settings

    settings.configure()
    django.setup()
    sys.exit(main())

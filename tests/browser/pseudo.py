"""A language for tests: every string as it is, about a third longer, and written from right to left.

What is not marked for translation shows up as left-to-right text, what is too narrow overflows, and what
takes left for start stands on the wrong side.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from django.conf import settings
from django.test import override_settings

from deploy import messages

CODE = "ar-xb"
FOLDER = "ar_XB"
ONE = 1  # the place of Arabic's form for one
RIGHT_TO_LEFT, END = "\u202e", "\u202c"
# What must stay as it is: placeholders, and the elements of a text that has some.
_KEPT = re.compile(r"(%\([a-z_]+\)[sd]|<[^>]+>|&[a-z]+;)")


def pseudo(text: str) -> str:
    """`text` as a reader from right to left would see it."""
    parts = [part if _KEPT.fullmatch(part) else _turned(part) for part in _KEPT.split(text) if part]
    return "".join(parts)


def _turned(text: str) -> str:
    return f"{RIGHT_TO_LEFT}{text}{END}" if not text.strip() else _longer(text)


def _longer(text: str) -> str:
    words = text.split(" ")
    return f"{RIGHT_TO_LEFT}{text} {' '.join(words[: len(words) // 3])}".rstrip() + END


@contextmanager
def spoken(folder: Path) -> Iterator[None]:
    """The product has this language meanwhile; `folder` has its catalogue."""
    with override_settings(
        LANGUAGES=[*settings.LANGUAGES, (CODE, "Pseudo")],
        LOCALE_PATHS=[*settings.LOCALE_PATHS, folder],
    ):
        yield


def write(folder: Path) -> None:
    """The compiled catalogue under `folder`, as a LOCALE_PATHS entry wants it."""
    source = messages.source()
    catalog = Catalog(locale="ar", fuzzy=False)
    for message in source:
        if message.id:
            catalog[message.id] = _message(message, catalog.num_plurals)
    target = folder / FOLDER / "LC_MESSAGES"
    target.mkdir(parents=True)
    (target / "django.mo").write_bytes(messages.compiled(catalog))


def _message(message: Message, plurals: int) -> Message:
    if isinstance(message.id, str):
        return Message(message.id, pseudo(message.id), context=message.context)
    forms = [pseudo(message.id[form != ONE]) for form in range(plurals)]
    return Message(message.id, forms, context=message.context)

"""Somebody's own words within a document of ours: text in a language of its own (WCAG 3.1.2, PDF/UA-1)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """`words` are in `language` (BCP 47); `aside`, in the document's language, may follow them.

    As a string, where nothing can be marked: the one after the other.
    """

    words: str
    language: str
    aside: str = ""

    def __str__(self) -> str:
        return f"{self.words} {self.aside}".strip()


Text = str | Said

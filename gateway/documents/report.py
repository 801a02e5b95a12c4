"""A report: headings, sentences and tables. Written once, and rendered as a tagged PDF or a page to keep."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from django.template.loader import render_to_string
from django.utils import translation

from gateway.documents.pdf import render
from gateway.documents.said import Text


@dataclass(frozen=True)
class Table:
    """`widths` are shares of the page's width, one for each column. Cells are text, never markup."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Text]]
    widths: Sequence[float] = ()


@dataclass(frozen=True)
class Section:
    """Under its heading come sentences, then a list, then a table."""

    heading: str
    text: Sequence[Text] = ()
    items: Sequence[Text] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Report:
    """`about` stands under the title. `wide` lays the page on its side."""

    title: str
    about: Sequence[str]
    sections: Sequence[Section]
    wide: bool = False

    def as_pdf(self, language: str) -> bytes:
        """Tagged, PDF/UA-1. Raises DocumentFailed."""
        return render("report", asdict(self), title=self.title, language=language)

    def as_html(self, language: str) -> bytes:
        """One file that needs no other."""
        with translation.override(language):
            bidi = translation.get_language_bidi()
            context = {"report": self, "language": language, "direction": "rtl" if bidi else "ltr"}
            return render_to_string("documents/report.html", context).encode()

"""Tables as CSV: RFC 4180, UTF-8, safe to open in a spreadsheet."""

import csv
import io
import re
from collections.abc import Iterable, Sequence


def as_csv(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> bytes:
    """A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([plain_cell(str(cell)) for cell in row])
    return out.getvalue().encode()


def plain_cell(text: str) -> str:
    text = re.sub(r";(?=\s*[=+\-@]|[\t\r])", ";'", text)  # where a spreadsheet parts cells at a semicolon
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) or text[:1] in "\t\r" else text

"""PDF by Typst: tagged, as PDF/UA-1 (ISO 14289-1) asks, made within this process and from nothing but data.

A template in `templates/documents/` reads its data as JSON. What stands in the data is text there, never
markup, so nothing that a requester wrote can become a part of the document's program.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import typst

from ledger.errors import GatewayError

TEMPLATES = Path(__file__).resolve().parent.parent.parent / "templates" / "documents"


class DocumentFailed(GatewayError):
    """The document could not be made; nothing of its data is in this error."""

    code = "document_failed"


def render(template_name: str, data: Mapping[str, Any], *, title: str, language: str) -> bytes:
    """The PDF of `templates/documents/<template_name>.typ` with `data` (JSON values, and `Said` for texts).

    The template gets `sys.inputs.data`, a JSON object: `data` with `title` and `language` (BCP 47) added. Its
    first lines are those of `page.typ`, which sets language, title, and the look. Raises DocumentFailed.
    """
    whole = {**data, "title": title, "language": language.partition("-")[0]}
    inputs = {"data": json.dumps(whole, default=asdict)}
    try:
        return typst.compile(
            _source(template_name),
            format="pdf",
            ignore_system_fonts=True,  # the same document on every machine
            sys_inputs=inputs,
            pdf_standards="ua-1",
        )
    except (RuntimeError, OSError):  # a TypstError quotes the source
        raise DocumentFailed("The document could not be made. Try the list as a table instead.") from None


@lru_cache
def _source(name: str) -> bytes:
    return (TEMPLATES / "page.typ").read_bytes() + (TEMPLATES / f"{name}.typ").read_bytes()

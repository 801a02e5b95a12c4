"""What every PDF of ours is held to: tagged, titled, in a language, its tables and headings told apart."""

import io
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import pikepdf

PDFTOTEXT = shutil.which("pdftotext")


def check_pdf(made: bytes, *, title: str, language: str, has: Sequence[str] = ()) -> None:
    """PDF/UA-1's own claims, by pikepdf; `has` are texts that stand in it."""
    with pikepdf.open(io.BytesIO(made)) as pdf:
        root = pdf.Root
        assert root.MarkInfo.Marked
        assert str(root.Lang) == language
        assert root.ViewerPreferences.DisplayDocTitle
        with pdf.open_metadata() as metadata:
            assert metadata["dc:title"] == title
            assert metadata["pdfuaid:part"] == "1"
        found = list(_elements(root.StructTreeRoot))
        roles = {str(each.get("/S")) for each in found}
        assert {"/H1", "/H2"} <= roles
        assert "/Table" not in roles or {"/TR", "/TH", "/TD"} <= roles
        pictures = [each for each in found if str(each.get("/S")) == "/Figure"]
        assert all("/Alt" in each for each in pictures)
        for page in pdf.pages:
            assert page.obj.get("/Tabs", "/S") == "/S"
    if PDFTOTEXT and has:
        told = subprocess.run(
            [PDFTOTEXT, "-", "-"], input=made, capture_output=True, check=True
        ).stdout.decode()
        plain = "".join(told.replace("\u200b", "").split())
        for text in has:
            assert "".join(text.split()) in plain, text


def languages(made: bytes) -> set[str]:
    """Those that parts of a PDF are in, where it is not the document's own."""
    with pikepdf.open(io.BytesIO(made)) as pdf:
        return {str(each.Lang) for each in _elements(pdf.Root.StructTreeRoot) if "/Lang" in each}


def _elements(node: Any) -> Iterator[Any]:
    kids = node.get("/K", [])
    for kid in kids if isinstance(kids, pikepdf.Array) else [kids]:
        if isinstance(kid, pikepdf.Dictionary) and "/S" in kid:
            yield kid
            yield from _elements(kid)

"""Documents that leave as PDF: a receipt, a list of uses. Data in, a tagged PDF/UA out; no database."""

from gateway.documents.pdf import DocumentFailed, render

__all__ = ["DocumentFailed", "render"]

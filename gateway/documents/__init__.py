"""Documents that leave as PDF: a receipt, a list of uses. Data in, a tagged PDF/UA out; no database."""

from gateway.documents.pdf import DocumentFailed, render
from gateway.documents.said import Said, Text

__all__ = ["DocumentFailed", "Said", "Text", "render"]

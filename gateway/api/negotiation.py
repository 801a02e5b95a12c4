"""In which form an answer goes out."""

from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request


class AsAccepted(DefaultContentNegotiation):
    """By `Accept` (RFC 9110, section 12.5.1). Whoever takes anything, as most programs do, gets the view's
    first form without a comparison."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        if request.META.get("HTTP_ACCEPT", "*/*") == "*/*":
            return renderers[0], renderers[0].media_type
        return super().select_renderer(request, renderers, format_suffix)

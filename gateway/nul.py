"""Whatever is sent with a NUL character in it is refused, at every address: PostgreSQL keeps none in a text.

Nothing that a person or a program means to say has one, so no page and no endpoint has to think of it.
Bodies of JSON are looked at where they are read: gateway/api/parsers.py.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from gateway.api.nothing_here import Unreadable, UnreadableFHIR

SENT = "What you sent has a NUL character (U+0000) in it. Leave it out."


class Refused:
    """Middleware, before everything that reads what was sent."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # No cookie of ours has one: such a cookie is nobody's.
        request.COOKIES = {name: value for name, value in request.COOKIES.items() if "\0" not in value}
        if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            return _refuse(request)
        return self._get_response(request)

    def process_view(self, request: HttpRequest, view: Any, *arguments: Any) -> HttpResponse | None:
        """Forms alone, which Django has read by now to compare their token. What needs no token reads its own
        body in its own way; of that only the token endpoints read forms."""
        if getattr(view, "csrf_exempt", False) and not request.path_info.startswith("/oauth/"):
            return None
        if request.content_type not in ("application/x-www-form-urlencoded", "multipart/form-data"):
            return None
        if any("\0" in text for name, values in request.POST.lists() for text in (name, *values)):
            return _refuse(request)
        return None


def _refuse(request: HttpRequest) -> HttpResponse:
    """400, as each part of the site says such things."""
    if request.path_info.startswith("/oauth/"):
        said = {"error": "invalid_request", "error_description": SENT}
        return JsonResponse(said, status=400, headers={"Cache-Control": "no-store"})
    for begins, view in (("/api/", Unreadable), ("/fhir/", UnreadableFHIR)):
        if request.path_info.startswith(begins):
            answer: Any = view.as_view(why=SENT)(request)
            return answer.render()  # type: ignore[no-any-return]
    return render(request, "400.html", status=400)

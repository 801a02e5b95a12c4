"""A form that is sent after the session ended: it waits through the sign-in, to be filled in again.

Nothing is done with it but that: whoever signs in has to send it themselves, on a page that is theirs.
"""

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict

View = Callable[..., HttpResponse]

WAITING = "form that waits"  # session: the page and what was filled in
MOST = 4_000  # characters


def waits(view: View) -> View:
    """Keep what is posted to `view` by nobody. Stands outside of what asks for the sign-in."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "POST" and not request.user.is_authenticated:
            filled = request.POST.copy()
            filled.pop("csrfmiddlewaretoken", None)
            if len(text := filled.urlencode()) <= MOST:
                request.session[WAITING] = [request.path, text]
        return view(request, *args, **kwargs)

    return inner


def form_that_waited(request: HttpRequest, several: Collection[str]) -> dict[str, Any] | None:
    """What was filled in on this page before the sign-in, once; fields in `several` are lists."""
    path, text = request.session.get(WAITING, ("", ""))
    if path != request.path:
        return None
    del request.session[WAITING]
    filled = QueryDict(text)
    return {name: filled.getlist(name) if name in several else filled[name] for name in filled}

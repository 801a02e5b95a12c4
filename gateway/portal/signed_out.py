"""What is sent after the session ended: its sender is told that it was not done, and a form waits through the
sign-in, to be filled in again.

Nothing is done with it but that: whoever signs in has to send it themselves, on a page that is theirs.
"""

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

View = Callable[..., HttpResponse]

WAITING = "form that waits"  # session: the page and what was filled in
MOST = 4_000  # characters


def needs_sign_in(view: View) -> View:
    """Who is not signed in goes to the sign-in, and from there back: of a POST to its page."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        if request.method != "POST":
            return redirect_to_login(request.get_full_path())
        messages.warning(request, _("You were signed out before this was done. Sign in, and press it again."))
        return redirect_to_login(_sent_from(request))

    return inner


def _sent_from(request: HttpRequest) -> str:
    """The page of ours with the form; where the browser does not say, the form's own address."""
    page = request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure()):
        return request.path
    told = urlsplit(page)
    path = "/" + told.path.lstrip("/")
    return f"{path}?{told.query}" if told.query else path


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

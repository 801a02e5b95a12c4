"""How long a session lives: so long without a page (idle), and so long in all, whatever happens in it."""

import secrets
import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import SESSION_KEY, logout
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, HttpResponse

from gateway.accounts.models import User

BEGAN, SEEN = "session_began", "session_seen"  # seconds since 1970
SEEN_EVERY = 60  # how exact the idle time is: a session is written so often at most


class Limits:
    """Middleware: a session beyond SESSION_IDLE_SECONDS or SESSION_LONGEST_SECONDS ends; the page is asked
    for as by somebody who has not signed in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        now = int(time.time())
        if SESSION_KEY in request.session and _is_over(request.session, now):
            logout(request)
        response = self._get_response(request)
        session = request.session
        if SESSION_KEY in session:
            session.setdefault(BEGAN, now)
            if now - session.get(SEEN, 0) >= SEEN_EVERY:
                session[SEEN] = now
        return response


def _is_over(session: SessionBase, now: int) -> bool:
    began, seen = session.get(BEGAN, now), session.get(SEEN, now)
    return bool(now - seen > settings.SESSION_IDLE_SECONDS or now - began > settings.SESSION_LONGEST_SECONDS)


def sign_out_everywhere(user: User) -> None:
    """End every session of this person, on all devices."""
    user.session_salt = secrets.token_hex(16)
    user.save(update_fields=["session_salt"])

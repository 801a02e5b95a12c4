"""How each person wants our pages: their language, the size of the text, and how news comes."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import translation

from gateway.accounts.models import User

LARGE_TEXT = "large_text"  # cookie: so that pages before signing in are large as well

YEAR = 365 * 86_400  # seconds


# What programs read: titles and sentences there are stable, and nobody chose a language.
FOR_PROGRAMS = ("/api/", "/fhir/", "/oauth/", "/cds-services", "/.well-known/")


class LanguageMiddleware:
    """Who is signed in and chose a language reads that one, whatever the browser says; a program English."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith(FOR_PROGRAMS):
            translation.activate(settings.LANGUAGE_CODE)
            request.LANGUAGE_CODE = settings.LANGUAGE_CODE
            return self.get_response(request)
        # Without a session nobody is signed in, and nothing has to be asked.
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
            language = request.user.language
            if language and language in dict(settings.LANGUAGES):
                translation.activate(language)
                request.LANGUAGE_CODE = language
        return self.get_response(request)


def save(*, user: User, notices: str, language: str, large_text: bool) -> None:
    """Keep what a person chose; each is one of the choices of its field."""
    user.notices, user.language, user.large_text = notices, language, large_text
    user.save(update_fields=["notices", "language", "large_text"])


def save_language(*, user: User, language: str) -> None:
    """Keep one of LANGUAGES."""
    user.language = language
    user.save(update_fields=["language"])


def is_large(request: HttpRequest) -> bool:
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return bool(user.large_text)
    return request.COOKIES.get(LARGE_TEXT) == "1"


def remember(response: HttpResponse, user: User) -> None:
    """The same on this browser before signing in: it says nothing of anyone."""
    large = "1" if user.large_text else "0"
    for name, value in ((settings.LANGUAGE_COOKIE_NAME, user.language), (LARGE_TEXT, large)):
        response.set_cookie(
            name,
            value,
            max_age=YEAR,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )

"""How often a client may show who it is: each client for itself, and each address for what fails there.

Whom an assertion names is known only after it was checked, so nobody is counted by a mere name: a client's
own limit counts what it was given, an address' limit what was refused there. A client that showed who it is
at an address within the last hour is not held up by what others try from it. Counted, as all of the API's
limits are, by each web process on its own.
"""

import hashlib
import ipaddress
import time
from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse

from gateway.accounts import jwts

MINUTE = 60
KNOWN_SECONDS = 3600

View = Callable[..., HttpResponse]


def limited(view: View) -> View:
    """`view`, at which a client shows who it is, at most so often a minute; else 429 with Retry-After."""

    @wraps(view)
    def inner(request: HttpRequest) -> HttpResponse:
        client, address = _claimed(request), _address(request)
        given, failed, known = f"tokens-{client}", f"tokens-failed-{address}", f"tokens-{client}-{address}"
        wait = _wait(given, settings.TOKENS_A_MINUTE)
        if not wait and not cache.get(known):
            wait = _wait(failed, settings.TOKEN_FAILURES_A_MINUTE)
        if wait:
            return _too_many(wait)
        answer = view(request)
        if answer.status_code == 200:
            _count(given)
            cache.set(known, True, KNOWN_SECONDS)
        else:
            _count(failed)
        return answer

    return inner


def _claimed(request: HttpRequest) -> str:
    """A digest of whom the request names; nothing of it is proved."""
    name = request.POST.get("client_id", "")
    try:
        _, claims = jwts.read(request.POST.get("client_assertion", ""), longest=8192)
        name = str(claims.get("iss", name))
    except ValueError:
        pass
    return hashlib.sha256(name.encode()).hexdigest()


def _address(request: HttpRequest) -> str:
    """The address that we see; of IPv6 the network, as one machine has all of it."""
    seen = request.META.get("REMOTE_ADDR", "")
    try:
        ip = ipaddress.ip_address(seen)
    except ValueError:
        return "unknown"
    return str(ip if ip.version == 4 else ipaddress.ip_network((ip, 64), strict=False))


def _times(name: str) -> list[float]:
    return [at for at in cache.get(name, []) if at > time.time() - MINUTE]


def _wait(name: str, most: int) -> int:
    """Seconds until there is room again; 0: there is."""
    times = _times(name)
    return 0 if len(times) < most else int(times[-most] + MINUTE - time.time()) + 1


def _count(name: str) -> None:
    cache.set(name, [*_times(name), time.time()], MINUTE)


def _too_many(wait: int) -> HttpResponse:
    said = {
        "error": "too_many_requests",
        "error_description": "Keep a token until it ends, and wait as Retry-After says.",
    }
    return JsonResponse(
        said,
        status=429,
        headers={"Retry-After": str(wait), "Cache-Control": "no-store", "Pragma": "no-cache"},
    )

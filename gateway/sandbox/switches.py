"""`/sandbox/`: the clock and the faults, for programs. Only the sandbox's own settings have these addresses.

A POST is JSON: a page of another site cannot make a browser send that here without asking first.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from gateway.sandbox import control
from ledger.contract.canonical import loads
from ledger.contract.errors import Refused

Act = Callable[[dict[str, Any]], object]


@require_safe
def show(request: HttpRequest) -> JsonResponse:
    return JsonResponse(shown())


@require_safe
def bare(request: HttpRequest) -> JsonResponse:
    """What a view costs that does nothing: `manage.py bench` holds the API against it."""
    return JsonResponse({"id": "0" * 64, "state": "done"})


def shown() -> dict[str, Any]:
    now = control.read(settings.HOME)
    return {
        "now": timezone.now().isoformat(timespec="seconds"),
        "ahead_seconds": now.ahead,
        "faults": {name: name in now.faults for name in control.FAULTS},
    }


def _switch(act: Act) -> Callable[[HttpRequest], JsonResponse]:
    """What `act` makes of a JSON object; it raises ValueError for what it does not understand."""

    @csrf_exempt
    @require_POST
    @wraps(act)
    def view(request: HttpRequest) -> JsonResponse:
        try:
            if request.content_type != "application/json":
                raise ValueError("Send application/json.")
            body = loads(request.body)
            if not isinstance(body, dict):
                raise ValueError("Send a JSON object.")
            act(body)
        except (Refused, ValueError) as error:
            return JsonResponse({"code": "invalid_input", "detail": str(error)}, status=400)
        return JsonResponse(shown())

    return view


@_switch
def advance(body: dict[str, Any]) -> None:
    """`{"seconds": 86400}`."""
    seconds = body.get("seconds")
    if set(body) != {"seconds"} or not isinstance(seconds, int) or isinstance(seconds, bool):
        raise ValueError('Send {"seconds": a whole number}.')
    control.advance(settings.HOME, seconds)


@_switch
def faults(body: dict[str, Any]) -> None:
    """`{"ledger": true, "slow": false}`."""
    if not body or not all(isinstance(on, bool) for on in body.values()):
        raise ValueError("Send each fault's name with true or false.")
    if unknown := sorted(set(body) - set(control.FAULTS)):
        raise ValueError(f"There is no fault {unknown[0][:40]!r}. There are: {', '.join(control.FAULTS)}.")
    for name, on in body.items():
        control.set_fault(settings.HOME, name, on=on)

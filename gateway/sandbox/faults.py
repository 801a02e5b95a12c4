"""What the web process does while a fault is on: it takes its time, or takes no more calls."""

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.request import Request

from gateway.api.throttling import EachClient
from gateway.sandbox import control

SLOW_SECONDS = 3.0
RETRY_SECONDS = 5.0
ROOMS = ("/api/", "/fhir/", "/oauth/")


class Rate(EachClient):
    """The product's own limit, or none left at all."""

    def allow_request(self, request: Request, view: Any) -> bool:
        self._is_used_up = "rate" in control.read(settings.HOME).faults
        return not self._is_used_up and super().allow_request(request, view)

    def wait(self) -> float:
        return RETRY_SECONDS if self._is_used_up else super().wait()


class Slow:
    """Middleware: what programs call waits; pages for people do not."""

    def __init__(self, answer: Callable[[HttpRequest], HttpResponse]) -> None:
        self._answer = answer

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(ROOMS) and "slow" in control.read(settings.HOME).faults:
            time.sleep(SLOW_SECONDS)
        return self._answer(request)

"""How often one AI client may call: counted for each web process, so the true limit is a multiple of it."""

from typing import Any

from oauth2_provider.models import AccessToken
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle


class EachClient(SimpleRateThrottle):
    scope = "client"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        token = request.auth
        return f"calls-{token.application_id}" if isinstance(token, AccessToken) else None

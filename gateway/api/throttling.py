"""How often one AI client may call: counted for each web process, so the true limit is a multiple of it."""

import threading
from collections import defaultdict, deque
from typing import Any

from oauth2_provider.models import AccessToken
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

# When each client called last, by scope, the oldest first. A call costs the same however many were before it.
_calls: defaultdict[tuple[str, int], deque[float]] = defaultdict(deque)
_counting = threading.Lock()


def forget() -> None:
    """As in a new process."""
    _calls.clear()


class EachClient(SimpleRateThrottle):
    scope = "client"
    num_requests: int
    duration: int  # seconds
    room_in = 0.0

    def allow_request(self, request: Request, view: Any) -> bool:
        token = request.auth
        if self.rate is None or not isinstance(token, AccessToken):
            return True
        now = self.timer()
        with _counting:
            calls = _calls[self.scope, token.application_id]
            while calls and calls[0] <= now - self.duration:
                calls.popleft()
            if len(calls) < self.num_requests:
                calls.append(now)
                return True
            self.room_in = (calls[0] if calls else now) + self.duration - now
            return False

    def wait(self) -> float:
        """Seconds until there is room again."""
        return self.room_in


class Summaries(EachClient):
    """Reading one asks the ledger about up to 1,000 consents, and writes a row for each person in it."""

    scope = "summaries"

"""Server-sent events of a job (WHATWG HTML, "Server-sent events"): its state as it changes, for a while.

A stream holds a thread of the web process, so a process has few of them at once, each for 25 seconds at
most; whoever finds none free is told so, and polls.
"""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from django.db import connection
from rest_framework.renderers import BaseRenderer

from gateway.analysis import services
from gateway.analysis.models import Job
from ledger.errors import GatewayError

SECONDS = 25.0
LOOK_EVERY = 0.5
AT_ONCE = 2
_free = threading.BoundedSemaphore(AT_ONCE)


class NoStreamFree(GatewayError):
    """All streams of this process are taken (429)."""

    code = "no_stream_free"
    status = 429


class EventStream(BaseRenderer):
    """What the views of streams say that they answer with; an error there is JSON all the same."""

    media_type = "text/event-stream"
    format = "event-stream"

    def render(self, data: Any, media_type: str | None = None, context: Any = None) -> bytes:
        return json.dumps(data).encode()


class _Stream:
    """Events, and the place of a stream until its end or until it is closed, be it before the first event."""

    def __init__(self, events: Iterator[bytes]) -> None:
        self._events: Iterator[bytes] | None = events

    def __iter__(self) -> "_Stream":
        return self

    def __next__(self) -> bytes:
        if self._events is None:
            raise StopIteration
        try:
            return next(self._events)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._events is not None:
            self._events = None
            _free.release()


def of_job(job: Job) -> Iterator[bytes]:
    """The events. Raises NoStreamFree before the first."""
    if not _free.acquire(blocking=False):
        raise NoStreamFree("No stream is free now. Poll the job as Retry-After says.")
    return _Stream(_follow(job.pk))


def _follow(id: str) -> Iterator[bytes]:
    yield b"retry: 1000\n\n"
    deadline, told = time.monotonic() + SECONDS, None
    while time.monotonic() < deadline:
        job = Job.objects.get(pk=id)
        settled = job.state in Job.SETTLED
        done, of = services.progress(job)
        view = services.client_view(job) if settled else services.client_brief(job)
        if (event := {**view, "progress": {"done": done, "of": of}}) != told:
            told = event
            yield b"event: job\ndata: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
        if settled:
            return
        connection.close_if_unusable_or_obsolete()
        time.sleep(LOOK_EVERY)

"""No log line says whom or what."""

import logging
from typing import Any

import pytest
from django.test import Client, RequestFactory
from django.utils.log import log_response

from gateway.logs import Line, WithoutPath

SECRET = "alice@example.org"


def test_a_traceback_has_places_but_no_words() -> None:
    try:
        raise ValueError(f"duplicate key {SECRET}")
    except ValueError as error:
        text = Line().formatException((type(error), error, error.__traceback__))
    assert "ValueError" in text
    assert "test_logs.py" in text
    assert SECRET not in text


def test_a_request_is_logged_without_its_path(caplog: pytest.LogCaptureFixture) -> None:
    from django.http import HttpResponse

    heard: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.addFilter(WithoutPath())
    handler.emit = heard.append  # type: ignore[method-assign]
    logger = logging.getLogger("django.request")
    logger.addHandler(handler)
    try:
        request = RequestFactory().get(f"/{SECRET}")
        log_response("%s: %s", "broken", request.path, response=HttpResponse(status=500), request=request)
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in heard] == ["answered 500"]


@pytest.mark.django_db
def test_a_wrong_password_leaves_no_name_in_the_log(
    client: Client, alice: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        client.post("/accounts/login/", {"login": SECRET, "password": "wrong wrong wrong"})
    assert "alice" not in caplog.text.lower()

"""Who may call the API at all."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


def test_a_token_lives_five_minutes_and_opens_the_api(
    client: Client, application: Any, token_for: Callable[..., str]
) -> None:
    token = token_for(application)
    answer = client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert answer.json() == {"jobs": [], "next": None}


def test_no_token_no_answer(client: Client) -> None:
    for path in ("/api/v1/jobs", "/api/v1/jobs/x", "/api/v1/consent-requests/x"):
        answer = client.get(path)
        assert answer.status_code == 401
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthenticated"
        assert "Bearer" in answer["WWW-Authenticate"]


def test_a_wrong_secret_gets_no_token(client: Client, application: Any) -> None:
    answer = client.post(
        "/oauth/token/",
        {
            "grant_type": "client_credentials",
            "client_id": application.client_id,
            "client_secret": "guess",
        },
    )
    assert answer.status_code == 401


def test_a_scope_that_was_not_asked_for_is_not_there(
    client: Client, application: Any, token_for: Callable[..., str]
) -> None:
    token = token_for(application, scope="consents")
    answer = client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403
    assert answer.json()["code"] == "forbidden"


def test_an_application_of_no_requester_may_nothing(
    client: Client, application: Any, token_for: Callable[..., str]
) -> None:
    token = token_for(application)
    application.ai_client.delete()
    answer = client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403


def test_tokens_are_not_stored_in_clear(application: Any, token_for: Callable[..., str]) -> None:
    from oauth2_provider.models import AccessToken

    token = token_for(application)
    stored = AccessToken.objects.get()
    assert token not in (stored.token, str(stored))


def test_the_openapi_document_lists_every_operation(client: Client) -> None:
    document = client.get("/api/v1/openapi.json").json()
    operations = {
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
        if "operationId" in operation
    }
    assert operations == {
        "ask_for_consent",
        "read_consent_request",
        "start_job",
        "list_jobs",
        "read_job",
        "cancel_job",
        "read_result",
    }

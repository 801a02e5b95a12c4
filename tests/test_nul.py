"""A NUL character in anything that is sent is a clear 400, wherever it is sent, before a database sees it."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from tests.api.conftest import application, call, token_for

__all__ = ["application", "call", "token_for"]  # fixtures

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "path",
    [
        "/?utm=%00",
        "/access?who=a%00b",
        "/help%00",
        "/invitation/a%00b",
        "/accounts/login/?next=%00",
        "/accounts/provider/x/callback/?iss=%00&state=x",
        "/admin/consent/patient/?q=%00",
        "/static/a%00.css",
    ],
)
def test_in_the_address_of_a_page(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 400
    assert "Nothing was changed" in answer.content.decode()


@pytest.mark.parametrize("name", ["login", "password", "an\0other"])
def test_in_a_form(client: Client, alice: Any, name: str) -> None:
    form = {"login": alice.user.email, "password": "correct horse battery", name: "a\0b"}
    encoded = {"data": urlencode(form), "content_type": "application/x-www-form-urlencoded"}
    for sent in ({"data": form}, encoded):
        answer = client.post(reverse("account_login"), **sent)
        assert answer.status_code == 400
        assert "Nothing was changed" in answer.content.decode()
    assert "_auth_user_id" not in client.session


def test_a_file_may_have_as_many_as_it_likes(client: Client) -> None:
    """The checker of proofs reads it, and says what it makes of it; here there is no ledger to ask."""
    answer = client.post(reverse("proof_check"), {"proof": SimpleUploadedFile("proof.json", b"\0\0\0")})
    assert answer.status_code in (200, 400, 503)
    assert "a sign in what you sent" not in answer.content.decode()


def test_in_a_cookie_it_is_no_cookie(client: Client) -> None:
    client.cookies.load(f'{settings.SESSION_COOKIE_NAME}="abcdefghij\\000klm"')
    assert client.get("/home").status_code == 302


@pytest.mark.parametrize("path", ["/api/v1/jobs?after=%00", "/api/v1/jobs/a%00b", "/api/a%00b"])
def test_in_the_address_of_the_api(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert answer["Content-Type"] == "application/problem+json"
    assert "NUL" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path", ["/fhir/Consent?_id=%00", "/fhir/Observation?code=a%00", "/fhir/Observation/a%00b"]
)
def test_in_the_address_of_the_fhir_side(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 400
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    assert "NUL" in outcome["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    "body", [{"model": "a\0b"}, {"a\0b": 1}, {"subjects": ["x", {"deep": ["a\0"]}]}, ["\0"], "\0"]
)
def test_in_a_body_of_json(call: Any, body: Any) -> None:
    answer = call("POST", "jobs", json.dumps(body).encode())
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert "NUL" in answer.json()["detail"]


def test_a_backslash_and_four_noughts_are_a_text_like_any_other(call: Any) -> None:
    answer = call("POST", "jobs", json.dumps({"model": "\\u0000"}).encode())
    assert answer.json()["code"] == "invalid_input"


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/revoke", "/oauth/introspect"])
def test_where_tokens_are_asked_for(client: Client, path: str) -> None:
    for answer in (client.post(path, {"client_id": "a\0"}), client.post(f"{path}?client_id=%00")):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")

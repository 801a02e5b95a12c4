"""helix at the door: an OAuth client, its token, an approved model, and a patient to ask."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from consent.models import Patient, Requester
from gateway.accounts import clients
from gateway.analysis.models import AIModel
from gateway.api import throttling
from ledger.audit.log import Actor
from tests.signing import ask_for_token, assertion, claims, key_set, new_key

HELIX_KEY = new_key("helix")


@pytest.fixture(autouse=True)
def no_earlier_calls() -> None:
    """Calls are counted in this process: what one test failed at is not held against the next."""
    cache.clear()
    throttling.forget()


@pytest.fixture(autouse=True)
def sandbox(settings: Any) -> None:
    """Questions reach patients unread, as in a sandbox; tests/staff has the review."""
    settings.AUTO_APPROVE = True


@pytest.fixture
def application(helix: Requester) -> Any:
    registered = clients.register(requester=helix, by=Actor.staff(1), jwks=key_set(HELIX_KEY))
    return registered.application


@pytest.fixture
def token_for(client: Client) -> Callable[..., str]:
    def get(application: Any, **body: str) -> str:
        answer = ask_for_token(assertion(HELIX_KEY, claims(application.client_id)), client=client, **body)
        assert answer.status_code == 200, answer.content
        return str(answer.json()["access_token"])

    return get


@pytest.fixture
def call(client: Client, application: Any, token_for: Callable[..., str]) -> Callable[..., Any]:
    """Call the API as helix."""
    token = token_for(application)
    keys = iter(range(1000))

    def send(method: str, path: str, body: Any = None, **headers: str) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"key-{next(keys)}", **headers}
        return client.generic(
            method,
            f"/api/v1/{path}",
            b"" if body is None else body if isinstance(body, bytes) else _json(body),
            content_type="application/json",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    return send


@pytest.fixture
def fhir(application: Any, token_for: Callable[..., str]) -> Callable[..., Any]:
    """Read the FHIR side as helix, with a token for this scope."""

    def get(path: str, scope: str = "system/Consent.rs") -> Any:
        return Client().get(path, headers={"Authorization": f"Bearer {token_for(application, scope=scope)}"})

    return get


def _json(body: Any) -> bytes:
    import json

    return json.dumps(body).encode()


@pytest.fixture
def question(pce: AIModel, helix: Requester, alice: Patient) -> dict[str, Any]:
    """A body that asks alice."""
    from datetime import timedelta

    from django.utils import timezone

    from consent import referrals

    today = timezone.localdate()
    return {
        "referral_code": referrals.issue(patient=alice, requester=helix, by=Actor.staff(1)),
        "model": pce.digest,
        "purpose": "HRESCH",
        "use": ["HMB"],
        "kinds": ["Patient", "Observation"],
        "what_for": "Use a computer program to work out your risk of heart disease.",
        "who_sees": "Your heart clinic.",
        "what_can_go_wrong": "The program is wrong for about 8 out of every 100 people.",
        "share_until": (today + timedelta(days=200)).isoformat(),
        "answer_by": (today + timedelta(days=30)).isoformat(),
    }

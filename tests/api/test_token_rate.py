"""How often a client may show who it is, and that nobody can use that up for another."""

from typing import Any

import pytest
from django.test import Client

from consent.models import Requester
from gateway.accounts import clients
from gateway.api import tokens
from ledger.audit.log import Actor
from tests.api.conftest import HELIX_KEY
from tests.signing import TYPE, ask_for_token, assertion, claims, key_set, new_key

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def few(settings: Any) -> None:
    settings.TOKENS_A_MINUTE, settings.TOKEN_FAILURES_A_MINUTE = 3, 3


def right(application: Any, **where: Any) -> Any:
    signed = assertion(HELIX_KEY, claims(application.client_id))
    return ask_for_token(signed, client=Client(**where))


def wrong(client_id: str, **where: Any) -> Any:
    return ask_for_token(assertion(new_key("helix"), claims(client_id)), client=Client(**where))


def is_refused(answer: Any) -> bool:
    if answer.status_code != 429:
        return False
    assert answer.json()["error"] == "too_many_requests"
    assert 1 <= int(answer["Retry-After"]) <= 61
    assert answer["Cache-Control"] == "no-store"
    return True


def test_a_client_gets_so_many_tokens_a_minute(application: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        assert right(application).status_code == 200
    assert is_refused(right(application))
    assert is_refused(right(application, REMOTE_ADDR="10.9.9.9"))  # wherever it comes from
    monkeypatch.setattr(tokens, "MINUTE", 0)
    assert right(application).status_code == 200


def test_one_client_takes_nothing_from_another(application: Any) -> None:
    key = new_key("other")
    other = clients.register(
        requester=Requester.objects.create(name="Other AI"), by=Actor.staff(1), jwks=key_set(key)
    )
    for _ in range(4):
        last = ask_for_token(assertion(key, claims(other.application.client_id)))
    assert is_refused(last)
    assert right(application).status_code == 200


def test_an_address_fails_so_often_a_minute(application: Any) -> None:
    for _ in range(3):
        assert wrong("made-up").status_code == 401
    assert is_refused(wrong("another-made-up"))
    assert wrong("made-up", REMOTE_ADDR="10.9.9.9").status_code == 401


def test_who_only_says_that_it_is_helix_does_not_lock_helix_out(application: Any) -> None:
    """Not from elsewhere, and not from the address at which helix showed who it is, as behind a proxy."""
    assert right(application).status_code == 200
    for _ in range(9):
        wrong(application.client_id)
        wrong(application.client_id, REMOTE_ADDR="10.9.9.9")
        wrong("made-up")
    assert right(application).status_code == 200


def test_the_neighbours_of_one_network_are_one(application: Any) -> None:
    for number in range(3):
        assert wrong("made-up", REMOTE_ADDR=f"2001:db8::{number}").status_code == 401
    assert is_refused(wrong("made-up", REMOTE_ADDR="2001:db8::ffff"))
    assert wrong("made-up", REMOTE_ADDR="2001:db8:0:1::1").status_code == 401


@pytest.mark.parametrize("path", ["/oauth/introspect", "/oauth/revoke", "/oauth/token/"])
def test_every_address_at_which_a_client_shows_who_it_is(application: Any, path: str) -> None:
    form = {"client_assertion_type": TYPE, "client_assertion": "x", "token": "x"}
    for _ in range(3):
        assert Client().post(path, form).status_code in (400, 401)
    assert is_refused(Client().post(path, form))

"""Pages as the cast sees them. The keyholder is down unless a test has an installation: pages say so."""

from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from consent.models import ConsentRequest
from tests.questions import ask
from tests.staff.conftest import member

__all__ = ["member"]


@pytest.fixture(autouse=True)
def no_keyholder(settings: Any, tmp_path: Any) -> None:
    settings.KEYHOLDER_SOCKET = str(tmp_path / "nobody.sock")


@pytest.fixture(autouse=True)
def no_earlier_tries() -> None:
    """Tries are counted for each user in this process's cache, and every test's alice has the same number."""
    cache.clear()


@pytest.fixture
def browser(alice: Any) -> Client:
    """alice, signed in."""
    client = Client()
    client.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def stranger(charlie: Any) -> Client:
    """charlie, signed in."""
    client = Client()
    client.force_login(charlie.user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def question(alice: Any, helix: Any) -> ConsentRequest:
    return ask(helix, alice)

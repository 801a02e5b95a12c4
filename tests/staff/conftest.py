"""The staff as the cast: one signed-in person for each role, each with a second factor."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from consent.explanation import KINDS
from consent.models import ConsentRequest
from gateway.accounts.models import User
from gateway.accounts.roles import make_groups
from gateway.analysis.models import AIModel
from tests.questions import ask_unread


@pytest.fixture(autouse=True)
def no_keyholder(settings: Any, tmp_path: Any) -> None:
    settings.KEYHOLDER_SOCKET = str(tmp_path / "nobody.sock")


def add_factor(person: User) -> None:
    from allauth.mfa.models import Authenticator

    Authenticator.objects.create(user=person, type=Authenticator.Type.TOTP, data={"secret": "unused"})


@pytest.fixture
def member(user: Any) -> Callable[..., Client]:
    """A member of staff with one role, signed in."""

    def sign_in(role: str, factor: bool = True) -> Client:
        make_groups()
        person = User.objects.filter(username=role).first() or user(role, is_staff=True)
        person.groups.set(Group.objects.filter(name=role))
        if factor:
            add_factor(person)
        client = Client()
        client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return sign_in


@pytest.fixture
def model(pce: AIModel) -> AIModel:
    """Helix' approved model."""
    return pce


@pytest.fixture
def unread(alice: Any, helix: Any, model: AIModel) -> ConsentRequest:
    """A question that asks for what the model reads, and no more."""
    kinds = [kind for kind in model.card["reads"] if kind in KINDS]
    return ask_unread(helix, alice, model=model.digest, kinds=kinds, sensitive=[])

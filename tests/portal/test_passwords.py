"""How passwords are kept, as an installation has it: other tests keep them in a way that costs nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password

from gateway import settings as own

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def hashers(settings: Any) -> None:
    settings.PASSWORD_HASHERS = own.PASSWORD_HASHERS


def test_a_password_is_kept_by_argon2id() -> None:
    assert make_password(PASSWORD).startswith("argon2$argon2id$v=19$m=47104,t=1,p=1$")


def test_one_that_was_kept_otherwise_is_kept_anew_when_it_is_used(user: Callable[..., Any]) -> None:
    alice = user("alice")
    alice.password = PBKDF2PasswordHasher().encode(PASSWORD, "a" * 22, iterations=1000)
    alice.save()
    assert not alice.check_password("another password")
    assert alice.password.startswith("pbkdf2_sha256$")
    assert alice.check_password(PASSWORD)
    alice.refresh_from_db()
    assert alice.password.startswith("argon2$")
    assert alice.check_password(PASSWORD)

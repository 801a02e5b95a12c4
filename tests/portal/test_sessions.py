"""How long a session lives, what ends it, where signing in leads, and what is said to who fails too often."""

import time
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.test import Client
from django.urls import reverse

from consent import services
from consent.models import Patient
from gateway.accounts.models import User
from ledger.audit.log import Actor

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


def sign_in(client: Client, person: User, **more: str) -> Any:
    return client.post(reverse("account_login"), {"login": person.email, "password": PASSWORD, **more})


@pytest.fixture
def clock(monkeypatch: Any) -> Any:
    """Sessions and nothing else see this time."""
    now = [time.time()]
    monkeypatch.setattr("gateway.accounts.sessions.time.time", lambda: now[0])
    return now


def is_in(client: Client) -> bool:
    return client.get("/home").status_code == 200


def test_who_leaves_it_is_signed_out_and_who_uses_it_is_not(client: Client, alice: Any, clock: Any) -> None:
    sign_in(client, alice.user)
    for _ in range(5):
        clock[0] += settings.SESSION_IDLE_SECONDS - 60
        assert is_in(client)
    clock[0] += settings.SESSION_IDLE_SECONDS + 1
    assert not is_in(client)
    assert not client.session.get("_auth_user_id")


def test_what_was_pressed_after_the_session_ended_is_told_as_not_done(
    client: Client, alice: Any, question: Any
) -> None:
    page = reverse("question", args=[question.id])
    answer = client.post(
        reverse("refuse", args=[question.id]), headers={"referer": f"http://testserver{page}?a=b"}
    )
    assert answer["Location"] == f"{reverse('account_login')}?next={page}%3Fa%3Db"
    assert "You were signed out before this was done" in client.get(answer["Location"]).content.decode()
    assert not question.consents.exists()
    for elsewhere in ("http://example.org/x", "javascript:1", ""):
        answer = Client().post(reverse("refuse", args=[question.id]), headers={"referer": elsewhere})
        assert answer["Location"].endswith(f"?next={reverse('refuse', args=[question.id])}")
    sign_in(client, alice.user)
    assert "You were signed out" not in client.get(page).content.decode()
    acts = Client().post(reverse("act"), headers={"referer": "http://testserver/people"})
    assert acts["Location"].endswith("?next=/people")
    told = Client().post(reverse("settings"), headers={"referer": "http://testserver//example.org/x"})
    assert told["Location"].endswith("?next=/example.org/x")
    staff = Client().post("/staff/requests/x/approve", headers={"referer": "http://testserver/staff/queue"})
    assert staff.status_code == 404
    ours = reverse("staff_approve", args=[question.id])
    staff = Client().post(ours, headers={"referer": "http://testserver/staff/queue"})
    assert staff["Location"].endswith("?next=/staff/queue")


def test_no_session_lives_longer_than_its_day(client: Client, alice: Any, clock: Any) -> None:
    sign_in(client, alice.user)
    end = clock[0] + settings.SESSION_LONGEST_SECONDS
    while clock[0] + 1200 < end:
        clock[0] += 1200
        assert is_in(client)
    clock[0] = end + 1
    assert not is_in(client)


def test_signing_in_makes_a_new_session(client: Client, alice: Any) -> None:
    """Whoever planted a session in the browser does not share the one that follows."""
    session = client.session
    session["planted"] = "yes"
    session.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = planted = session.session_key
    sign_in(client, alice.user)
    assert client.session.session_key != planted
    assert not is_in_with(planted)


def is_in_with(key: str) -> bool:
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = key
    return is_in(client)


def test_a_new_password_ends_every_other_session(client: Client, alice: Any) -> None:
    other = Client()
    for each in (client, other):
        sign_in(each, alice.user)
        assert is_in(each)
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    new = "another horse battery"
    client.post(
        reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": new, "password2": new}
    )
    assert is_in(client)
    assert not is_in(other)


def test_cookies_are_for_the_server_alone(client: Client, alice: Any, settings: Any) -> None:
    answer = sign_in(client, alice.user)
    cookie = answer.cookies[settings.SESSION_COOKIE_NAME]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
    assert settings.SESSION_COOKIE_SECURE is settings.PRODUCTION


@pytest.mark.parametrize(
    "next", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example", "\\\\evil"]
)
def test_signing_in_leads_to_no_other_site(client: Client, alice: Any, next: str) -> None:
    assert sign_in(client, alice.user, next=next)["Location"] == "/home"
    client.post(reverse("account_logout"))
    there = sign_in(client, alice.user, next="/choices")
    assert there["Location"] == "/choices"
    client.post(reverse("account_reauthenticate"), {"password": "wrong"})
    answer = client.post(f"{reverse('account_reauthenticate')}?next={next}", {"password": PASSWORD})
    assert "evil" not in answer.get("Location", "")


def test_too_many_tries_are_told_in_plain_words(client: Client, alice: Any, settings: Any, user: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = False
    there, wrong = reverse("account_login"), {"login": alice.user.email, "password": "wrong"}
    for _ in range(settings.AXES_FAILURE_LIMIT):
        answer = client.post(there, wrong)
    assert answer.status_code == 429
    assert "Too many tries" in answer.content.decode()
    assert int(answer["Retry-After"]) == 900
    # Not even the right one, and an address that has no account reads the same.
    assert sign_in(client, alice.user).status_code == 429
    for _ in range(settings.AXES_FAILURE_LIMIT):
        other = client.post(there, {"login": "nobody@example.org", "password": "wrong"})
    assert other.status_code == 429
    assert other.content.decode().count("evil") == 0
    # Another person at the same clinic's address is not locked out with them.
    assert sign_in(Client(), user("ada")).status_code == 302


def test_a_new_password_takes_no_second_step_away(client: Client, alice: Any) -> None:
    from allauth.mfa.models import Authenticator
    from allauth.mfa.totp.internal import auth

    auth.TOTP.activate(alice.user, auth.generate_totp_secret())
    client.post(reverse("account_reset_password"), {"email": alice.user.email})
    (letter,) = mail.outbox
    link = next(word for word in letter.body.split() if "/password/reset/key/" in word)
    form = client.get(link, follow=True).redirect_chain[-1][0]
    new = "another horse battery"
    client.post(form, {"password1": new, "password2": new})
    alice.user.refresh_from_db()
    assert alice.user.check_password(new)
    assert Authenticator.objects.filter(user=alice.user).exists()
    answer = client.post(reverse("account_login"), {"login": alice.user.email, "password": new})
    assert answer["Location"] == reverse("mfa_authenticate")
    assert not is_in(client)


def test_an_invitation_takes_over_no_account(client: Client, alice: Any) -> None:
    """Whoever has an invitation and somebody else's address gets neither account nor records."""
    invited, code = services.invite(name="Mallory", by=Actor.staff(1))
    client.get(f"/invitation/{code}")
    account = {"email": alice.user.email, "password1": "mallory's horse", "password2": "mallory's horse"}
    client.post(reverse("account_signup"), account)
    assert User.objects.get(email=alice.user.email).check_password(PASSWORD)
    assert Patient.objects.get(pk=invited.pk).user is None
    assert not is_in(client)

"""Sign-up by invitation, sign-in, sign-out, and pages under a person's feet."""

import re
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth
from django.core.cache import cache
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from consent import services
from consent.models import ConsentRequest, Patient
from gateway.accounts import forms
from gateway.accounts.adapter import MFAAdapter
from gateway.accounts.models import User
from gateway.portal.context import whole
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from tests.passkeys import Passkey, register

pytestmark = pytest.mark.django_db

ACCOUNT = {
    "email": "ada@example.org",
    "password1": "correct horse battery",
    "password2": "correct horse battery",
}


def test_an_invitation_leads_to_an_account(client: Client) -> None:
    patient, code = services.invite(name="Ada", by=Actor.staff(1))
    assert "You are invited" in client.get(f"/invitation/{code}").content.decode()
    assert client.post(reverse("account_signup"), ACCOUNT)["Location"] == "/home"
    patient.refresh_from_db()
    assert patient.user == User.objects.get(email="ada@example.org")
    assert "Hello, Ada" in client.get("/home").content.decode()
    assert Client().get(f"/invitation/{code}").status_code == 409


def test_nobody_signs_up_without_one(client: Client) -> None:
    client.post(reverse("account_signup"), ACCOUNT)
    assert not User.objects.exists()
    assert "You need an invitation" in client.get(reverse("account_signup")).content.decode()
    assert client.get("/invitation/no-such-code").status_code == 409


def test_no_code_comes_by_email_and_no_page_asks_for_one(client: Client) -> None:
    with pytest.raises(NoReverseMatch):
        reverse("account_confirm_login_code")
    for path in ("/accounts/login/code/confirm/", "/accounts/login/code/"):
        assert client.get(path).status_code == client.post(path).status_code == 404


def test_every_limit_of_tries_is_stated(settings: Any) -> None:
    """allauth adds its own for what a settings file leaves out: what is not stated would still be there."""
    from allauth.account import app_settings

    assert app_settings.RATE_LIMITS == settings.ACCOUNT_RATE_LIMITS
    assert all(settings.ACCOUNT_RATE_LIMITS.values())


def test_a_limit_of_tries_holds_and_says_so(client: Client, settings: Any) -> None:
    tries = int(settings.ACCOUNT_RATE_LIMITS["signup"].split("/")[0])
    for _ in range(tries):
        assert client.post(reverse("account_signup"), {}).status_code == 200
    answer = client.post(reverse("account_signup"), {})
    assert answer.status_code == 429
    assert "Too many tries" in answer.content.decode()


def test_who_has_an_account_uses_it(client: Client, user: Any) -> None:
    patient, code = services.invite(name="Ada", by=Actor.staff(1))
    client.force_login(user("ada"), backend="django.contrib.auth.backends.ModelBackend")
    assert client.post(f"/invitation/{code}")["Location"] == "/home"
    assert Patient.objects.get(pk=patient.pk).user is not None


def test_the_code_of_an_invitation_is_gone_after_signing_in(client: Client, alice: Any) -> None:
    _, code = services.invite(name="Ada", by=Actor.staff(1))
    client.get(f"/invitation/{code}")
    assert code in client.session.values()
    client.post(reverse("account_login"), {"login": alice.user.email, "password": "correct horse battery"})
    assert client.session["_auth_user_id"] == str(alice.user.pk)
    client.get(f"/invitation/{code}")
    assert code not in client.session.values()


def test_signing_in_and_out(client: Client, alice: Any) -> None:
    wrong = client.post(reverse("account_login"), {"login": alice.user.email, "password": "wrong"})
    assert "There is a problem" in wrong.content.decode()
    right = client.post(
        reverse("account_login"), {"login": alice.user.email, "password": "correct horse battery"}
    )
    assert right["Location"] == "/home"
    assert client.post(reverse("account_logout"))["Location"] == "/"
    assert client.get("/home").status_code == 302


def test_every_page_of_signing_in_knows_the_phone_number(client: Client, settings: Any) -> None:
    for name in ("account_login", "account_reset_password", "account_signup"):
        assert f"Call {whole(settings.HELP_PHONE)}." in client.get(reverse(name)).content.decode()


def test_problems_are_named(client: Client) -> None:
    page = client.post(reverse("account_login"), {}).content.decode()
    assert "Enter your email" in page
    assert "Enter your password" in page


def test_an_app_is_set_up_and_asked_for_in_our_words(browser: Client, alice: Any) -> None:
    page = browser.get(reverse("account_reauthenticate")).content.decode()
    assert "Show that it is you" in page
    browser.post(reverse("account_reauthenticate"), {"password": "correct horse battery"})
    page = browser.get(reverse("mfa_activate_totp")).content.decode()
    (secret,) = re.findall(r'<code class="gw-hash">([A-Z2-7 ]+)</code>', page)
    assert {len(part) for part in secret.split()} == {4}
    assert secret.replace(" ", "") == browser.session["mfa.totp.secret"]
    assert "Code from the app" in page
    auth.TOTP.activate(alice.user, secret.replace(" ", ""))
    client = Client()
    there = client.post(
        reverse("account_login"), {"login": alice.user.email, "password": "correct horse battery"}
    )["Location"]
    page = client.get(there).content.decode()
    assert "One more step to sign in" in page
    assert "Code from the app, or a spare code" in page
    assert "Use a passkey" not in page
    assert "Enter the code" in client.post(there, {"code": ""}).content.decode()
    register(alice.user, Passkey())
    assert "Use a passkey" in client.get(there).content.decode()


def test_a_code_from_an_app_lets_in_once_whichever_web_process_is_asked(
    alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = auth.generate_totp_secret()
    auth.TOTP.activate(alice.user, secret)

    def sign_in(at: datetime) -> bool:
        step = int(at.timestamp()) // 30
        monkeypatch.setattr(auth, "yield_hotp_counters_from_time", lambda: iter([step]))
        monkeypatch.setattr(forms, "timezone", SimpleNamespace(now=lambda: at))
        cache.clear()  # what another process of the site remembers: nothing
        client = Client()
        who = {"login": alice.user.email, "password": "correct horse battery"}
        there = client.post(reverse("account_login"), who)["Location"]
        client.post(there, {"code": auth.format_hotp_value(auth.hotp_value(secret, step))})
        return "_auth_user_id" in client.session

    now = timezone.now()
    assert [sign_in(now), sign_in(now)] == [True, False]
    assert sign_in(now + timedelta(seconds=60))


def test_a_spare_code_is_not_bound_to_when_the_app_was_used(alice: Any) -> None:
    app = auth.TOTP.activate(alice.user, auth.generate_totp_secret()).instance
    spare = RecoveryCodes.activate(alice.user)
    Authenticator.objects.filter(pk=app.pk).update(last_used_at=timezone.now())
    client = Client()
    who = {"login": alice.user.email, "password": "correct horse battery"}
    there = client.post(reverse("account_login"), who)["Location"]
    client.post(there, {"code": spare.generate_codes()[0]})
    assert "_auth_user_id" in client.session


def test_a_password_is_changed_in_our_words(browser: Client) -> None:
    browser.post(reverse("account_reauthenticate"), {"password": "correct horse battery"})
    there = reverse("account_change_password")
    page = browser.get(there).content.decode()
    for words in ("Change my password", "Your password now", "New password", "New password again"):
        assert words in page
    wrong = browser.post(there, {}).content.decode()
    assert wrong.index("Enter your password") < wrong.index("Choose a password")
    new = "another horse battery"
    changed = {"oldpassword": "correct horse battery", "password1": new, "password2": new}
    assert "Your new password is saved." in browser.post(there, changed, follow=True).content.decode()


def test_a_passkey_needs_a_script_and_the_page_says_so_beside_its_button(browser: Client) -> None:
    page = Client().get(reverse("account_login")).content.decode()
    assert page.index('id="passkey_login"') < page.index("<noscript>") < page.index("</main>")
    assert page.count("<noscript>") == 1
    browser.post(reverse("account_reauthenticate"), {"password": "correct horse battery"})
    page = browser.get(reverse("mfa_add_webauthn")).content.decode()
    assert page.count("<noscript>") == 1
    assert 'value="My passkey"' in page


def test_a_new_passkey_gets_a_name_that_is_free(alice: Any) -> None:
    adapter, kind = MFAAdapter(), Authenticator.Type.WEBAUTHN
    for name in ("My passkey 2", "Phone"):
        assert adapter.generate_authenticator_name(alice.user, kind) == "My passkey"
        Authenticator.objects.create(user=alice.user, type=kind, data={"name": name, "credential": {}})
    Authenticator.objects.create(user=alice.user, type=kind, data={"name": "My passkey", "credential": {}})
    assert adapter.generate_authenticator_name(alice.user, kind) == "My passkey 3"


def test_signed_out_in_the_middle_goes_on_after_signing_in(client: Client, question: ConsentRequest) -> None:
    there = reverse("check", args=[question.id])
    answer = client.post(there)
    assert answer["Location"] == f"{reverse('account_login')}?next={there}"
    assert not question.consents.exists()


def test_staff_leave_a_row_when_they_sign_in(client: Client, bob: Any, alice: Any) -> None:
    for person in (bob, alice.user):
        client.post(reverse("account_login"), {"login": person.email, "password": "correct horse battery"})
        client.post(reverse("account_logout"))
    assert AuditRow.objects.filter(kind="staff.signed_in").count() == 1


def test_the_admin_site_signs_people_in_like_every_page(client: Client) -> None:
    assert client.get("/admin/", follow=True).redirect_chain[-1][0].startswith(reverse("account_login"))


def test_a_forged_post_changes_nothing(alice: Any, question: ConsentRequest) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    answer = client.post(reverse("refuse", args=[question.id]))
    assert answer.status_code == 403
    assert "This page was open too long" in answer.content.decode()
    assert not question.consents.exists()


def test_a_stolen_session_does_not_take_the_account_over(client: Client, alice: Any) -> None:
    """An email of the thief's would let them choose a new password: it is taken after the old one only."""
    client.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    thief = "thief@example.org"
    answer = client.post(reverse("account_email"), {"action_add": "", "email": thief})
    assert answer["Location"].startswith(reverse("account_reauthenticate"))
    client.post(reverse("account_email"), {"action_primary": "", "email": thief})
    alice.user.refresh_from_db()
    assert alice.user.email == "alice@example.org"
    assert thief not in alice.user.emailaddress_set.values_list("email", flat=True)
    # Who knows the password goes on.
    page = client.get(answer["Location"])
    assert page.status_code == 200
    client.post(answer["Location"], {"password": "correct horse battery"})
    assert (
        client.post(reverse("account_email"), {"action_add": "", "email": "a2@example.org"}).status_code
        == 302
    )
    assert alice.user.emailaddress_set.filter(email="a2@example.org").exists()

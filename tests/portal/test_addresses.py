"""An account's email: confirmed by its owner alone, and no way in before that."""

import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from consent import services
from consent.models import News, Patient
from gateway.accounts import addresses, recovery
from gateway.accounts.models import User
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.errors import RefusedTransition

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"
MISTYPED, RIGHT = "ada@exmaple.org", "ada@example.org"


def sign_up(client: Client, email: str) -> User:
    _, code = services.invite(name="Ada", by=Actor.staff(1))
    client.get(f"/invitation/{code}")
    client.post(reverse("account_signup"), {"email": email, "password1": PASSWORD, "password2": PASSWORD})
    return User.objects.get(email=email)


def signed_in(user: User) -> Client:
    """And showed again who they are."""
    client = Client()
    client.post(reverse("account_login"), {"login": user.email, "password": PASSWORD})
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    return client


def link_in(letter: Any) -> str:
    assert "<" not in letter.body  # plain text
    found = re.search(r"https?://[^/]+(/accounts/\S+)", letter.body)
    assert found is not None
    return found[1]


def ask_for_password(email: str) -> Any:
    return Client().post(reverse("account_reset_password"), {"email": email}, follow=True)


def change(client: Client, email: str) -> None:
    client.post(reverse("account_email"), {"action_add": "", "email": email})


def test_a_sign_up_sends_a_link_which_confirms(client: Client) -> None:
    ada = sign_up(client, RIGHT)
    assert client.session["_auth_user_id"] == str(ada.pk)  # whoever was invited waits for no letter
    assert not addresses.is_confirmed(ada)
    (letter,) = mail.outbox
    assert letter.to == [RIGHT]
    page = link_in(letter)
    assert RIGHT in client.get(page).content.decode()
    assert not addresses.is_confirmed(ada)  # a mail program that opens links confirms nothing
    assert client.post(page)["Location"] == reverse("account_email")
    assert addresses.is_confirmed(ada)
    assert AuditRow.objects.filter(kind="address.confirmed", subject=ada.patient.pseudonym).count() == 1
    assert client.post(page).status_code == 404  # it works once


def test_whoever_has_a_mistyped_address_gets_no_password(client: Client) -> None:
    ada = sign_up(client, MISTYPED)
    theirs = link_in(mail.outbox.pop())
    # Neither by asking for one,
    answer = ask_for_password(MISTYPED)
    assert mail.outbox == []
    # nor by opening the link that came: it asks them to sign in,
    assert Client().get(theirs)["Location"].startswith(reverse("account_login"))
    assert Client().post(theirs)["Location"].startswith(reverse("account_login"))
    # nor with an account of their own.
    _, code = services.invite(name="Mallory", by=Actor.staff(1))
    mallory = User.objects.create_user("mallory", "mallory@example.org", PASSWORD)
    services.accept_invitation(code=code, user=mallory)
    other = signed_in(mallory)
    assert other.get(theirs).status_code == other.post(theirs).status_code == 404
    assert MISTYPED not in other.get(theirs).content.decode()
    assert not addresses.is_confirmed(ada)
    # The page is the same as for an address that nobody has, and for one that is confirmed.
    addresses.confirm_without_asking(mallory)
    for email in ("nobody@example.org", mallory.email):
        assert ask_for_password(email).content == answer.content
    assert [letter.to for letter in mail.outbox] == [[mallory.email]]


def test_the_mistyped_address_is_put_right(client: Client) -> None:
    ada = sign_up(client, MISTYPED)
    first = link_in(mail.outbox.pop())
    client = signed_in(ada)  # a sign-up is not enough to change it by
    change(client, RIGHT)
    ada.refresh_from_db()
    assert ada.email == MISTYPED  # until the link is opened
    (letter,) = mail.outbox
    assert letter.to == [RIGHT]
    client.post(link_in(letter))
    ada.refresh_from_db()
    assert ada.email == RIGHT
    assert addresses.is_confirmed(ada)
    assert mail.outbox == [letter]  # whose the mistyped one is, nobody knows: nobody is told there
    assert client.post(first).status_code == 404
    assert list(EmailAddress.objects.values_list("email", "verified", "primary")) == [(RIGHT, True, True)]


def test_a_change_is_told_to_the_old_address(alice: Any) -> None:
    client = signed_in(alice.user)
    change(client, "new@example.org")
    (letter,) = mail.outbox
    alice.user.refresh_from_db()
    assert alice.user.email == "alice@example.org"
    ask_for_password("new@example.org")
    assert mail.outbox == [letter]
    ask_for_password("alice@example.org")
    assert mail.outbox.pop().to == ["alice@example.org"]
    client.post(link_in(letter))
    alice.user.refresh_from_db()
    assert alice.user.email == "new@example.org"
    told = mail.outbox[-1]
    assert told.to == ["alice@example.org"]
    assert "was changed" in told.body
    assert "new@example.org" not in told.body
    ask_for_password("alice@example.org")
    assert mail.outbox[-1] is told  # no way in by the old one any more


def test_an_old_address_that_cannot_be_told_stays(alice: Any, settings: Any) -> None:
    client = signed_in(alice.user)
    change(client, "new@example.org")
    page = link_in(mail.outbox[-1])
    settings.EMAIL_BACKEND = "tests.portal.test_addresses.Down"
    assert client.post(page).status_code == 503
    alice.user.refresh_from_db()
    assert alice.user.email == "alice@example.org"
    assert addresses.is_confirmed(alice.user)
    assert addresses.waiting_for(alice.user) is not None


class Down:
    """A mail server that is away."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def send_messages(self, messages: Any) -> int:
        raise ConnectionRefusedError("alice@example.org")


def test_a_mail_server_that_is_down_keeps_nobody_from_an_account(
    client: Client, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_BACKEND = "tests.portal.test_addresses.Down"
    ada = sign_up(client, RIGHT)
    assert Patient.objects.filter(user=ada).exists()
    cache.clear()
    page = client.post(reverse("account_email"), {"action_send": ""}, follow=True)
    assert "cannot send email just now" in page.content.decode()
    assert "example.org" not in caplog.text


def test_an_address_that_waits_is_dropped_or_replaced(alice: Any) -> None:
    client = signed_in(alice.user)
    change(client, "first@example.org")
    first = link_in(mail.outbox[-1])
    change(client, "second@example.org")
    waiting = addresses.waiting_for(alice.user)
    assert waiting is not None
    assert waiting.email == "second@example.org"
    assert client.post(first).status_code == 404
    client.post(reverse("account_email"), {"action_drop": ""})
    assert addresses.waiting_for(alice.user) is None
    assert client.post(link_in(mail.outbox[-1])).status_code == 404
    assert addresses.is_confirmed(alice.user)


def test_anothers_address_is_not_taken(alice: Any, charlie: Any) -> None:
    """And whose it is is said to nobody but who reads its letters."""
    client = signed_in(alice.user)
    change(client, charlie.user.email)
    page = link_in(mail.outbox[-1])
    assert mail.outbox[-1].to == [charlie.user.email]
    assert client.post(page).status_code == 409
    alice.user.refresh_from_db()
    assert alice.user.email == "alice@example.org"


def test_one_letter_in_three_minutes(client: Client) -> None:
    sign_up(client, RIGHT)
    page = client.post(reverse("account_email"), {"action_send": ""}, follow=True)
    assert "a moment ago" in page.content.decode()
    assert len(mail.outbox) == 1


def test_an_address_that_the_admin_site_changed_is_not_confirmed(alice: Any) -> None:
    User.objects.filter(pk=alice.user.pk).update(email="other@example.org")
    for email in ("alice@example.org", "other@example.org"):
        ask_for_password(email)
    assert mail.outbox == []


def test_the_home_page_asks_until_it_is_confirmed(client: Client) -> None:
    ada = sign_up(client, RIGHT)
    assert "Is your email right?" in client.get("/home").content.decode()
    addresses.confirm_without_asking(ada)
    assert "Is your email right?" not in client.get("/home").content.decode()


def test_the_letters_are_in_the_readers_language(client: Client) -> None:
    client.cookies["django_language"] = "es"
    sign_up(client, RIGHT)
    assert mail.outbox[0].subject == "¿Es este su correo electrónico?"


# Where no letter arrives


def test_the_clinic_hands_out_a_link_for_a_new_password(client: Client, member: Any) -> None:
    ada = sign_up(client, MISTYPED)
    patient = ada.patient
    ward = member("clinician")
    page = ward.post(reverse("staff_password", args=[patient.pk]), {"method": "in_person", "present": "on"})
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    found = re.search(r"http://localhost:8000(/accounts/password/reset/key/[^<]+)<", page.content.decode())
    assert found is not None
    guest = Client()
    form = guest.get(found[1], follow=True).redirect_chain[-1][0]
    guest.post(form, {"password1": "another horse battery", "password2": "another horse battery"})
    ada.refresh_from_db()
    assert ada.check_password("another horse battery")
    assert not addresses.is_confirmed(ada)
    assert "does not work" in Client().get(found[1], follow=True).content.decode()
    assert News.objects.filter(patient=patient, kind=News.Kind.WAY_BACK).count() == 1
    assert AuditRow.objects.filter(kind="password.link_given", subject=patient.pseudonym).count() == 1


def test_no_link_for_oneself_for_staff_or_for_who_has_no_account(alice: Any, user: Any) -> None:
    ward = user("ward", is_staff=True)
    with pytest.raises(RefusedTransition, match="Somebody else"):
        recovery.new_password_link(patient=alice, by=alice.user, method="in_person")
    Patient.objects.filter(pk=alice.pk).update(user=user("chief", is_staff=True))
    alice.refresh_from_db()
    with pytest.raises(RefusedTransition, match="administrator"):
        recovery.new_password_link(patient=alice, by=ward, method="in_person")
    invited, _ = services.invite(name="Ada", by=Actor.staff(1))
    with pytest.raises(RefusedTransition, match="invite them"):
        recovery.new_password_link(patient=invited, by=ward, method="in_person")
    assert not News.objects.filter(kind=News.Kind.WAY_BACK).exists()

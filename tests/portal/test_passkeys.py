"""/accounts/2fa/webauthn: which passkeys sign, how another one may, how one goes; /staff/…/passkeys."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth import get_user
from django.test import Client
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.timezone import localtime

from consent.models import News, Patient
from gateway.accounts import passkeys
from gateway.accounts.letters import due
from gateway.accounts.models import User
from gateway.accounts.passkeys import passkeys_of
from gateway.demo.pages import show_again
from gateway.keyholder.client import Keyholder
from ledger.audit.models import AuditRow
from ledger.errors import RefusedTransition
from ledger.webauthn import passkey_challenge
from tests.conftest import ORIGIN
from tests.passkeys import Passkey, register

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "mfa_list_webauthn"


@pytest.fixture
def keyholder(no_keyholder: None, installation: Any, alice: Any) -> Keyholder:
    found = Keyholder(settings.KEYHOLDER_SOCKET)
    found.enrol(patient=alice.id)
    return found


@pytest.fixture
def phone(alice: Any) -> Passkey:
    found = Passkey()
    register(alice.user, found, "My phone")
    return found


@pytest.fixture
def tablet(alice: Any) -> Passkey:
    found = Passkey()
    register(alice.user, found, "My tablet")
    return found


def know(keyholder: Keyholder, alice: Any, passkey: Passkey) -> None:
    keyholder.enrol_passkey(patient=alice.pk, credential=passkey.credential, public_key=passkey.public_key)


def row_of(alice: Any, passkey: Passkey) -> int:
    return next(one.id for one in passkeys_of(alice.user) if one.credential == passkey.credential)


def test_the_list_says_which_of_them_sign(
    browser: Client, alice: Any, phone: Passkey, keyholder: Keyholder
) -> None:
    assert "from your next yes on" in browser.get(reverse(LIST)).content.decode()
    know(keyholder, alice, phone)
    register(alice.user, Passkey(), "My tablet")
    page = browser.get(reverse(LIST)).content.decode()
    assert "It signs your choices." in page
    assert "It does not sign your choices yet." in page
    keyholder.drop_passkeys(patient=alice.pk)
    assert "nobody can say yes for you" in browser.get(reverse(LIST)).content.decode()


def test_without_the_keyholder_the_list_says_that_it_cannot_tell(browser: Client, phone: Passkey) -> None:
    assert "We cannot tell just now" in browser.get(reverse(LIST)).content.decode()


def test_one_that_signs_vouches_for_another(
    browser: Client, alice: Any, phone: Passkey, tablet: Passkey, keyholder: Keyholder
) -> None:
    know(keyholder, alice, phone)
    there = reverse("vouch_for_passkey", args=[row_of(alice, tablet)])
    assert "reauthenticate" in browser.get(there)["Location"]
    show_again(browser)
    page = browser.get(there).content.decode()
    assert f'data-credentials="{phone.credential}"' in page
    found = re.search(r'data-challenge="([0-9a-f]+)"', page)
    assert found
    challenge = bytes.fromhex(found[1])
    for bad in (
        tablet.sign(challenge, origin=ORIGIN, rp_id="localhost"),  # it cannot vouch for itself
        phone.sign(bytes(32), origin=ORIGIN, rp_id="localhost"),
    ):
        assert browser.post(there, {"signature": json.dumps(bad.to_json())}).status_code == 409
    assert browser.post(there, {"signature": "nonsense"}).status_code == 409
    assert browser.post(there).status_code == 409
    assert keyholder.signers(patient=alice.pk)["signing"] == [phone.credential]
    good = phone.sign(challenge, origin=ORIGIN, rp_id="localhost")
    assert browser.post(there, {"signature": json.dumps(good.to_json())})["Location"] == reverse(LIST)
    assert set(keyholder.signers(patient=alice.pk)["signing"]) == {phone.credential, tablet.credential}
    assert AuditRow.objects.filter(kind="passkey.enrolled").count() == 1


def test_nobody_vouches_for_anothers(
    browser: Client, stranger: Client, alice: Any, phone: Passkey, keyholder: Keyholder
) -> None:
    show_again(stranger)
    assert stranger.get(reverse("vouch_for_passkey", args=[row_of(alice, phone)])).status_code == 404


def test_a_passkey_that_is_removed_signs_no_more_and_the_last_one_stays(
    browser: Client, alice: Any, phone: Passkey, tablet: Passkey, keyholder: Keyholder
) -> None:
    know(keyholder, alice, phone)
    show_again(browser)
    there = reverse("mfa_remove_webauthn", args=[row_of(alice, phone)])
    answer = browser.post(there)
    assert answer.status_code == 409
    assert "Only this passkey signs your choices" in answer.content.decode()
    assert Authenticator.objects.count() == 2
    # The other one does not sign, and goes as it likes.
    assert browser.post(reverse("mfa_remove_webauthn", args=[row_of(alice, tablet)])).status_code == 302
    assert [one.credential for one in passkeys_of(alice.user)] == [phone.credential]
    assert keyholder.signers(patient=alice.pk)["signing"] == [phone.credential]


def test_without_the_keyholder_none_is_removed(browser: Client, alice: Any, phone: Passkey) -> None:
    show_again(browser)
    answer = browser.post(reverse("mfa_remove_webauthn", args=[row_of(alice, phone)]))
    assert answer.status_code == 503
    assert Authenticator.objects.filter(user=alice.user).count() == 1


def test_who_is_patient_and_clinician_keeps_it_for_both_or_for_neither(
    browser: Client, alice: Any, phone: Passkey, tablet: Passkey, keyholder: Keyholder
) -> None:
    User.objects.filter(pk=alice.user.pk).update(is_staff=True)
    know(keyholder, alice, phone)
    for passkey in passkeys_of(alice.user):
        if passkey.credential == phone.credential:
            passkeys.enrol_clinician(alice.user, passkey)
    show_again(browser)
    there = reverse("mfa_remove_webauthn", args=[row_of(alice, phone)])
    assert browser.post(there).status_code == 409
    assert passkeys.confirming(alice.user)["signing"] == [phone.credential]
    assert not AuditRow.objects.filter(kind="passkey.dropped").exists()

    voucher = phone.sign(
        passkey_challenge(patient=alice.pk, credential=tablet.credential, public_key=tablet.public_key),
        origin=ORIGIN,
        rp_id="localhost",
    )
    keyholder.enrol_passkey(
        patient=alice.pk,
        credential=tablet.credential,
        public_key=tablet.public_key,
        voucher=voucher.to_json(),
    )
    assert browser.post(there).status_code == 302
    assert keyholder.signers(patient=alice.pk)["signing"] == [tablet.credential]
    assert passkeys.confirming(alice.user)["known"] == []
    assert AuditRow.objects.filter(kind="passkey.dropped").count() == 2


def test_a_clinician_reads_a_sentence_of_her_own(
    member: Any, monkeypatch: pytest.MonkeyPatch, keyholder: Keyholder
) -> None:
    """The keyholder here takes unsigned emergencies: this is the word of one that does not."""

    def refuse(self: Keyholder, method: str, *_: Any) -> None:
        error = RefusedTransition("Only this passkey.", code="emergency_passkey_last")
        error.is_remote = True
        raise error

    staff = member("clinician")
    register(get_user(staff), Passkey())
    show_again(staff)
    (own,) = passkeys_of(get_user(staff))
    monkeypatch.setattr(Keyholder, "_call", refuse)
    page = staff.post(reverse("mfa_remove_webauthn", args=[own.id]))
    assert page.status_code == 409
    assert "Only this passkey confirms your emergencies." in page.content.decode()
    assert "signs your choices. Add" not in page.content.decode()


# At the clinic

RESET = {"method": "in_person", "told": "on"}


def test_the_clinic_drops_them_all_and_she_is_told(
    browser: Client,
    member: Any,
    alice: Any,
    phone: Passkey,
    keyholder: Keyholder,
) -> None:
    know(keyholder, alice, phone)
    staff = member("clinician")
    there = reverse("staff_passkeys", args=[alice.pk])
    assert "1 passkey signs for them now." in staff.get(there).content.decode()
    assert "Tell them first" in staff.post(there, {"method": "in_person"}).content.decode()
    assert staff.post(there, RESET)["Location"] == reverse("staff_patient", args=[alice.pk])
    assert "can say yes again" in staff.get(reverse("staff_patient", args=[alice.pk])).content.decode()
    signers = keyholder.signers(patient=alice.pk)
    assert (signers["known"], signers["signing"]) == ([], [])
    assert signers["quiet_until"] > 0
    assert not Authenticator.objects.filter(user=alice.user).exists()
    assert AuditRow.objects.filter(kind="passkeys.reset").count() == 1
    # She is told whatever she wants else, and signed out everywhere.
    alice.user.notices = alice.user.Notices.NEVER
    alice.user.save(update_fields=["notices"])
    told = News.objects.get(kind=News.Kind.PASSKEYS)
    assert told in due(told.created_at)
    assert browser.get("/home")["Location"].startswith(reverse("account_login"))


def test_where_no_passkey_signs_staff_are_not_asked_to_tell_of_a_day_of_quiet(
    member: Any, alice: Any, phone: Passkey, keyholder: Keyholder
) -> None:
    keyholder.enrol(patient=alice.pk)
    staff, there = member("clinician"), reverse("staff_passkeys", args=[alice.pk])
    page = staff.get(there).content.decode()
    assert "they can say yes at once" in page
    assert "24 hours" not in page
    assert 'name="told"' not in page
    assert staff.post(there, {"method": "in_person"})["Location"] == reverse("staff_patient", args=[alice.pk])
    assert keyholder.signers(patient=alice.pk)["quiet_until"] == 0
    know(keyholder, alice, phone)
    until = datetime.fromtimestamp(keyholder.drop_passkeys(patient=alice.pk), UTC)
    page = staff.get(there).content.decode()
    assert f"Until {date_format(localtime(until), 'DATETIME_FORMAT')} nobody can say yes" in page
    assert 'name="told"' in page


def test_a_day_of_quiet_that_is_over_is_not_told_of(
    member: Any, alice: Any, phone: Passkey, keyholder: Keyholder, monkeypatch: pytest.MonkeyPatch
) -> None:
    know(keyholder, alice, phone)
    last_year = keyholder.drop_passkeys(patient=alice.pk) - 365 * 86_400
    monkeypatch.setattr(Keyholder, "drop_passkeys", lambda self, *, patient: last_year)
    assert passkeys.reset(patient=alice, by=User(pk=0), method="in_person", app_too=False) is None


def test_the_app_stays_unless_it_is_lost_too(
    member: Any,
    alice: Any,
    keyholder: Keyholder,
) -> None:
    Authenticator.objects.create(user=alice.user, type=Authenticator.Type.TOTP, data={})
    staff = member("clinician")
    there = reverse("staff_passkeys", args=[alice.pk])
    staff.post(there, RESET)
    assert Authenticator.objects.filter(user=alice.user).count() == 1
    staff.post(there, {**RESET, "app_too": "on"})
    assert not Authenticator.objects.filter(user=alice.user).exists()


def test_who_works_here_keeps_what_they_sign_in_with(
    alice: Any, phone: Passkey, keyholder: Keyholder, user: Any
) -> None:
    """No clinician takes a colleague's second step away by their record as a patient."""
    know(keyholder, alice, phone)
    alice.user.is_staff = True
    alice.user.save()
    passkeys.reset(patient=alice, by=user("ward"), method="in_person", app_too=True)
    assert Authenticator.objects.filter(user=alice.user).exists()
    assert keyholder.signers(patient=alice.pk)["known"] == []


def test_a_reset_that_the_keyholder_did_not_hear_changes_nothing(
    member: Any,
    alice: Any,
    phone: Passkey,
) -> None:
    staff = member("clinician")
    answer = staff.post(reverse("staff_passkeys", args=[alice.pk]), RESET)
    assert answer.status_code == 503
    assert Authenticator.objects.filter(user=alice.user).count() == 1
    assert not News.objects.filter(kind=News.Kind.PASSKEYS).exists()
    assert not AuditRow.objects.filter(kind="passkeys.reset").exists()


def test_nobody_resets_their_own(member: Any, keyholder: Keyholder) -> None:
    staff = member("clinician")
    own = Patient.objects.create(user_id=staff.session["_auth_user_id"], name="Bob", record_id="bob-1")
    keyholder.enrol(patient=own.pk)
    answer = staff.post(reverse("staff_passkeys", args=[own.pk]), RESET)
    assert answer.status_code == 409
    assert "Somebody else has to check who you are" in answer.content.decode()

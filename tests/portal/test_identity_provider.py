"""Signing in at a hospital's identity provider, a real one on loopback, and every way in that must not be.

A `Browser` is one person's: it has our session, and goes to the provider when our page sends it there.
"""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from allauth.mfa.models import Authenticator
from django.conf import settings as django_settings
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.core.checks import run_checks
from django.test import Client
from django.urls import reverse
from joserfc.jwk import ECKey

from consent import services
from consent.models import Patient
from gateway.accounts.models import ProviderIdentity, User
from gateway.accounts.oidc import exchange, identities, providers
from gateway.accounts.oidc.providers import Provider
from gateway.accounts.roles import make_groups
from ledger.audit.log import Actor
from ledger.audit.models import AuditRow
from ledger.errors import RefusedTransition
from tests.identity_provider import CLIENT, Running, running
from tests.representing import represent

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def process() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def other_process() -> Iterator[Running]:
    with running() as found:
        yield found


def let_in(settings: Any, *found: dict[str, Any]) -> None:
    settings.OIDC_PROVIDERS = list(found)
    settings.OUTBOUND_ALLOWED = [urlsplit(each["issuer"]).netloc for each in found]
    settings.ACCOUNT_RATE_LIMITS = False


@pytest.fixture
def hospital(process: Running, settings: Any) -> Iterator[Running]:
    """The provider `hospital`, which tells the truth unless a test twists it."""
    let_in(settings, process.settings())
    yield process
    process.twist()


class Browser(Client):
    """One person's browser."""

    def set_out(self, slug: str = "hospital", page: str = "provider_start", **form: str) -> str:
        """The provider's address to which our page sends them."""
        answer = self.post(reverse(page, args=[slug]), form)
        assert answer.status_code == 200, (answer.status_code, answer.get("Location"))
        return str(answer["Refresh"].removeprefix("0; url="))

    def come_back(self, address: str) -> Any:
        """Where the provider sent them, on our site."""
        parts = urlsplit(address)
        return self.get(f"{parts.path}?{parts.query}")

    def sign_in(self, provider: Running, sub: str, slug: str = "hospital", **form: str) -> Any:
        return self.come_back(provider.sign_in(self.set_out(slug, **form), sub))

    @property
    def who(self) -> str:
        return str(self.session.get("_auth_user_id", ""))


@pytest.fixture
def linked(alice: Any, hospital: Running) -> Any:
    """alice, who is alice-at-home at the provider."""
    ProviderIdentity.objects.create(user=alice.user, issuer=hospital.issuer, subject="alice-at-home")
    return alice


def audited(kind: str) -> list[dict[str, Any]]:
    return [json.loads(bytes(row.line)) for row in AuditRow.objects.filter(kind=kind).order_by("pk")]


def refused(answer: Any, browser: Browser, status: int = 400) -> str:
    """Nobody is signed in, and a page of ours says what to do."""
    assert (answer.status_code, browser.who) == (status, "")
    page = str(answer.content.decode())
    assert "That did not work" in page
    return page


# Who comes in


def test_who_is_linked_comes_in_and_it_is_written_down(linked: Any, hospital: Running) -> None:
    browser = Browser()
    answer = browser.sign_in(hospital, "alice-at-home", next="/choices")
    assert (answer.status_code, answer["Location"]) == (302, "/choices")
    assert browser.who == str(linked.user.pk)
    (row,) = audited("identity.signed_in")
    assert row["actor"] == {"kind": "patient", "id": linked.pseudonym}
    assert row["details"] == {"provider": "hospital"}


@pytest.mark.parametrize("sign", ["rs256", ""])
def test_both_kinds_of_key_sign(linked: Any, hospital: Running, sign: str) -> None:
    hospital.twist(sign=sign)
    browser = Browser()
    browser.sign_in(hospital, "alice-at-home")
    assert browser.who == str(linked.user.pk)


def test_an_unknown_sub_makes_no_account_whatever_its_email(alice: Any, hospital: Running) -> None:
    """The provider says that this is alice@example.org, and that it has checked it."""
    people = User.objects.count()
    browser = Browser()
    answer = browser.sign_in(hospital, "somebody")
    assert (answer.status_code, browser.who) == (403, "")
    assert "We do not know this sign-in yet" in answer.content.decode()
    assert User.objects.count() == people
    assert not ProviderIdentity.objects.exists()


def test_an_invited_person_gets_an_account_and_the_link(hospital: Running) -> None:
    patient, code = services.invite(name="Ada", by=Actor.staff(1))
    browser = Browser()
    page = browser.get(f"/invitation/{code}").content.decode()
    assert "Sign in with Riverside" in page
    answer = browser.sign_in(hospital, "ada-at-home", next=f"/invitation/{code}")
    assert answer["Location"] == reverse("provider_sign_up")
    assert browser.get(answer["Location"]).status_code == 200
    assert not User.objects.exists()
    done = browser.post(answer["Location"], {"email": "Ada@example.org"})
    assert done["Location"] == "/home"
    patient.refresh_from_db()
    user = User.objects.get()
    assert patient.user == user
    assert (user.email, user.has_usable_password()) == ("ada@example.org", False)
    assert browser.who == str(user.pk)
    assert [row["details"] for row in audited("identity.linked")] == [
        {"provider": "hospital", "code": "invitation"}
    ]
    # The invitation is used up; the next time the provider alone is enough.
    assert Client().get(f"/invitation/{code}").status_code == 409
    again = Browser()
    again.sign_in(hospital, "ada-at-home")
    assert again.who == str(user.pk)


def test_an_invitation_takes_over_no_account_by_its_email(alice: Any, hospital: Running) -> None:
    patient, code = services.invite(name="Mallory", by=Actor.staff(1))
    browser = Browser()
    browser.get(f"/invitation/{code}")
    browser.sign_in(hospital, "mallory")
    answer = browser.post(reverse("provider_sign_up"), {"email": "ALICE@example.org"})
    assert "has an account here already" in answer.content.decode()
    assert browser.who == ""
    assert not ProviderIdentity.objects.exists()
    assert Patient.objects.get(pk=patient.pk).user is None


def test_an_invitation_that_was_used_meanwhile_makes_nothing(hospital: Running, user: Any) -> None:
    _, code = services.invite(name="Ada", by=Actor.staff(1))
    browser = Browser()
    browser.get(f"/invitation/{code}")
    browser.sign_in(hospital, "ada-at-home")
    services.accept_invitation(code=code, user=user("quicker"))
    answer = browser.post(reverse("provider_sign_up"), {"email": "ada@example.org"})
    assert (answer.status_code, browser.who) == (409, "")
    assert not User.objects.filter(email="ada@example.org").exists()
    assert not ProviderIdentity.objects.exists()


def test_the_last_page_of_signing_up_is_for_who_came_from_the_provider(client: Client) -> None:
    for answer in (
        client.get(reverse("provider_sign_up")),
        client.post(reverse("provider_sign_up"), {"email": "a@b.c"}),
    ):
        assert answer["Location"] == reverse("account_login")
    assert not User.objects.exists()


def test_an_account_that_is_closed_stays_closed(linked: Any, hospital: Running) -> None:
    User.objects.filter(pk=linked.user.pk).update(is_active=False)
    browser = Browser()
    assert browser.sign_in(hospital, "alice-at-home")["Location"] == reverse("account_inactive")
    assert browser.who == ""


# What the session may claim


def test_our_own_second_step_is_asked_for_whatever_the_provider_saw(linked: Any, hospital: Running) -> None:
    from allauth.mfa.totp.internal import auth

    secret = auth.generate_totp_secret()
    auth.TOTP.activate(linked.user, secret)
    hospital.twist(claims={"amr": ["pwd", "otp", "mfa"]})
    browser = Browser()
    there = browser.sign_in(hospital, "alice-at-home", next="/choices")["Location"]
    assert there.startswith(reverse("mfa_authenticate"))
    assert browser.who == ""
    assert not audited("identity.signed_in")
    code = auth.format_hotp_value(auth.hotp_value(secret, next(auth.yield_hotp_counters_from_time())))
    assert browser.post(there, {"code": code})["Location"] == "/choices"
    assert browser.who == str(linked.user.pk)
    assert len(audited("identity.signed_in")) == 1


@pytest.mark.parametrize(
    ("claims", "comes_in"),
    [
        ({"amr": ["pwd", "mfa"]}, True),
        ({"acr": "https://refeds.org/profile/mfa"}, True),
        ({"amr": ["pwd", "pin"]}, False),
        ({"amr": "mfa-not"}, False),
        ({"acr": "https://refeds.org/profile/sfa"}, False),
        ({}, False),
    ],
)
def test_staff_need_a_second_factor_here_or_shown_there(
    bob: Any, hospital: Running, settings: Any, claims: dict[str, Any], comes_in: bool
) -> None:
    make_groups()
    bob.groups.set(Group.objects.filter(name="clinician"))
    let_in(settings, hospital.settings(acr=("https://refeds.org/profile/mfa",)))
    ProviderIdentity.objects.create(user=bob, issuer=hospital.issuer, subject="bob-at-work")
    hospital.twist(claims=claims)
    browser = Browser()
    browser.sign_in(hospital, "bob-at-work")
    assert browser.who == str(bob.pk)
    assert (browser.get(reverse("staff_patients")).status_code == 200) is comes_in
    # By the password, in another browser, what the provider said then is worth nothing.
    other = Browser()
    other.post(reverse("account_login"), {"login": bob.email, "password": PASSWORD})
    assert other.get(reverse("staff_patients")).status_code == 403
    assert audited("identity.signed_in")[0]["actor"]["kind"] == "staff"


def test_signing_in_at_the_provider_is_no_step_up(linked: Any, hospital: Running) -> None:
    """Neither for a yes nor for a new email, however fresh it is."""
    browser = Browser()
    hospital.twist(claims={"amr": ["mfa"]})
    browser.sign_in(hospital, "alice-at-home")
    answer = browser.post(reverse("account_email"), {"action_add": "", "email": "a2@example.org"})
    assert answer["Location"].startswith(reverse("account_reauthenticate"))
    answer = browser.post(reverse("provider_unlink", args=["hospital"]))
    assert answer["Location"].startswith(reverse("account_reauthenticate"))
    # Who has a password shows that: the provider is no way around it.
    assert browser.post(reverse("provider_again", args=["hospital"]))["Location"] == "/home"


@pytest.fixture
def without_password(linked: Any) -> Any:
    linked.user.set_unusable_password()
    linked.user.save()
    return linked


@pytest.mark.parametrize(
    ("page", "form"),
    [
        ("account_email", {"action_add": "", "email": "a2@example.org"}),
        ("account_set_password", {"password1": "another horse", "password2": "another horse"}),
        ("mfa_activate_totp", {}),
        ("mfa_add_webauthn", {}),
    ],
)
def test_who_has_no_password_shows_it_at_the_provider(
    without_password: Any, hospital: Running, page: str, form: dict[str, str]
) -> None:
    """A session that was left open changes no email, adds no second factor, and sets no first password."""
    browser = Browser()
    browser.sign_in(hospital, "alice-at-home")
    answer = browser.post(reverse(page), form)
    assert answer["Location"].startswith(reverse("provider_again", args=["hospital"]))
    assert not without_password.user.emailaddress_set.filter(email="a2@example.org").exists()
    assert not Authenticator.objects.exists()
    assert not User.objects.get(pk=without_password.user.pk).has_usable_password()

    back = dict(parse_qsl(urlsplit(answer["Location"]).query))["next"]
    there = browser.set_out(page="provider_again", next=back)
    asked = dict(parse_qsl(urlsplit(there).query))
    assert (asked["prompt"], asked["max_age"]) == ("login", "0")
    browser.come_back(hospital.sign_in(there, "alice-at-home"))
    assert browser.get(reverse(page)).status_code == 200


@pytest.mark.parametrize(
    ("claims", "sub", "said"),
    [
        ({"auth_time": int(time.time()) - 3600}, "alice-at-home", "did not ask you again"),
        ({"auth_time": None}, "alice-at-home", "did not ask you again"),
        ({"auth_time": int(time.time()) + 36000}, "alice-at-home", "did not ask you again"),
        ({}, "somebody-else", "Another person is signed in at Riverside"),
    ],
)
def test_what_does_not_show_it_again_is_no_step_up(
    without_password: Any, hospital: Running, claims: dict[str, Any], sub: str, said: str
) -> None:
    browser = Browser()
    browser.sign_in(hospital, "alice-at-home")
    hospital.twist(claims=claims)
    there = browser.set_out(page="provider_again", next="/settings")
    answer = browser.come_back(hospital.sign_in(there, sub))
    assert said in answer.content.decode()
    answer = browser.get(reverse("account_set_password"))
    assert answer["Location"].startswith(reverse("provider_again", args=["hospital"]))


# Linking and unlinking


def signed_in_again(person: User) -> Browser:
    """Signed in, and the password typed a moment ago."""
    browser = Browser()
    browser.post(reverse("account_login"), {"login": person.email, "password": PASSWORD})
    browser.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    return browser


def test_a_signed_in_person_links_and_unlinks(alice: Any, hospital: Running) -> None:
    browser = signed_in_again(alice.user)
    assert "Sign in with Riverside from now on" in browser.get(reverse("providers")).content.decode()
    there = browser.set_out(page="provider_link")
    answer = browser.come_back(hospital.sign_in(there, "alice-at-home"))
    assert answer["Location"] == reverse("providers")
    assert ProviderIdentity.objects.get().user == alice.user
    assert "You sign in with Riverside" in browser.get(reverse("providers")).content.decode()
    assert browser.post(reverse("provider_unlink", args=["hospital"]))["Location"] == reverse("providers")
    assert not ProviderIdentity.objects.exists()
    assert browser.post(reverse("provider_unlink", args=["hospital"])).status_code == 302
    assert len(audited("identity.unlinked")) == 1
    (row,) = audited("identity.linked")
    assert row["details"] == {"provider": "hospital", "code": "settings"}
    assert row["actor"]["id"] == alice.pseudonym
    assert "alice-at-home" not in "".join(map(json.dumps, [row]))


def test_nothing_is_linked_without_showing_again_who_one_is(alice: Any, hospital: Running) -> None:
    browser = Browser()
    browser.post(reverse("account_login"), {"login": alice.user.email, "password": PASSWORD})
    answer = browser.post(reverse("provider_link", args=["hospital"]))
    assert answer["Location"].startswith(reverse("account_reauthenticate"))


def test_a_sub_belongs_to_one_account(linked: Any, charlie: Any, hospital: Running) -> None:
    browser = signed_in_again(charlie.user)
    answer = browser.come_back(hospital.sign_in(browser.set_out(page="provider_link"), "alice-at-home"))
    assert answer.status_code == 409
    assert "belongs to another account" in answer.content.decode()
    assert ProviderIdentity.objects.get().user == linked.user


def test_the_only_way_in_is_not_taken_away(without_password: Any, hospital: Running) -> None:
    browser = Browser()
    browser.sign_in(hospital, "alice-at-home")
    there = browser.set_out(page="provider_again", next="/settings")
    browser.come_back(hospital.sign_in(there, "alice-at-home"))
    answer = browser.post(reverse("provider_unlink", args=["hospital"]))
    assert answer.status_code == 409
    assert "Choose a password first" in answer.content.decode()
    assert ProviderIdentity.objects.exists()


def test_the_log_names_each_as_what_they_are(alice: Any, bob: Any, user: Any, hospital: Running) -> None:
    """By a pseudonym: who acts for a patient as that, and beside whom."""
    ana, found = user("ana"), providers.find("hospital")
    row = represent(alice, ana)
    assert found is not None
    for number, person in enumerate((ana, bob, alice.user)):
        identities.link(user=person, provider=found, subject=str(number), how="settings")
    assert [(each["actor"]["kind"], each["subject"]) for each in audited("identity.linked")] == [
        ("representative", alice.pseudonym), ("staff", ""), ("patient", alice.pseudonym),
    ]  # fmt: skip
    assert audited("identity.linked")[0]["actor"]["id"] == row.pseudonym


# Attacks on the way back


def test_a_state_that_this_browser_did_not_begin_is_refused(linked: Any, hospital: Running) -> None:
    """Login CSRF: mallory's answer in alice's browser would sign alice in as mallory."""
    ProviderIdentity.objects.create(user=User.objects.create(email="m@x.org", username="m"),
                                    issuer=hospital.issuer, subject="mallory")  # fmt: skip
    mallory, alices = Browser(), Browser()
    back = hospital.sign_in(mallory.set_out(), "mallory")
    refused(alices.come_back(back), alices)
    alices.set_out()  # nor while she has begun one of her own
    refused(alices.come_back(back), alices)


def test_an_answer_is_good_once(linked: Any, hospital: Running) -> None:
    browser = Browser()
    back = hospital.sign_in(browser.set_out(), "alice-at-home")
    browser.come_back(back)
    browser.post(reverse("account_logout"))
    refused(browser.come_back(back), browser)


def test_a_failed_answer_uses_its_state_up(linked: Any, hospital: Running) -> None:
    browser = Browser()
    back = hospital.sign_in(browser.set_out(), "alice-at-home")
    refused(browser.come_back(back.replace("code=", "code=x")), browser)
    refused(browser.come_back(back), browser)


def test_a_code_is_worth_nothing_without_the_browsers_verifier(linked: Any, hospital: Running) -> None:
    browser = Browser()
    back = hospital.sign_in(browser.set_out(), "alice-at-home")
    code = dict(parse_qsl(urlsplit(back).query))["code"]
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": "x" * 64}
    callback = f"{django_settings.PUBLIC_URL}{reverse('provider_callback', args=['hospital'])}"
    assert hospital.redeem({**form, "redirect_uri": callback}) == 400
    # And it is used up by that: the provider takes no code twice.
    refused(browser.come_back(back), browser)


def test_the_code_of_another_browser_is_refused(linked: Any, hospital: Running) -> None:
    """A code that was stolen is put into the thief's own answer: its verifier is another."""
    alices, thief = Browser(), Browser()
    stolen = dict(parse_qsl(urlsplit(hospital.sign_in(alices.set_out(), "alice-at-home")).query))["code"]
    back = urlsplit(hospital.sign_in(thief.set_out(), "mallory"))
    answer = {**dict(parse_qsl(back.query)), "code": stolen}
    refused(thief.get(f"{back.path}?{urlencode(answer)}"), thief)


def test_too_late_is_over(linked: Any, hospital: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser()
    back = hospital.sign_in(browser.set_out(), "alice-at-home")
    monkeypatch.setattr(exchange, "LASTS_SECONDS", 0)
    assert "took too long" in refused(browser.come_back(back), browser)


def test_a_browser_begins_only_so_many_at_once(linked: Any, hospital: Running) -> None:
    browser = Browser()
    first = browser.set_out()
    for _ in range(exchange.AT_ONCE):
        last = browser.set_out()
    assert len(browser.session[exchange.BEGUN]) == exchange.AT_ONCE
    refused(browser.come_back(hospital.sign_in(first, "alice-at-home")), browser)
    browser.come_back(hospital.sign_in(last, "alice-at-home"))
    assert browser.who == str(linked.user.pk)


def test_who_signed_in_meanwhile_is_not_linked_to_what_another_began(
    alice: Any, charlie: Any, hospital: Running
) -> None:
    browser = signed_in_again(alice.user)
    back = hospital.sign_in(browser.set_out(page="provider_link"), "alice-at-home")
    begun = browser.session[exchange.BEGUN]
    browser.force_login(charlie.user, backend="django.contrib.auth.backends.ModelBackend")
    kept = browser.session
    kept[exchange.BEGUN] = begun
    kept.save()
    assert browser.come_back(back).status_code == 400
    assert not ProviderIdentity.objects.exists()


@pytest.mark.parametrize(
    "answer",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"code": None},
        {"code": ""},
        {"code": "x" * 5000},
        {"state": None},
        {"state": ""},
        {"error": "access_denied"},
        {"error": "server_error", "error_description": "<script>alert(1)</script>"},
    ],
)
def test_an_answer_that_is_not_whole(linked: Any, hospital: Running, answer: dict[str, Any]) -> None:
    hospital.twist(answer=answer)
    browser = Browser()
    page = refused(browser.sign_in(hospital, "alice-at-home"), browser)
    assert "alert(1)" not in page
    assert "access_denied" not in page


def test_an_answer_to_one_provider_is_no_answer_to_another(
    linked: Any, hospital: Running, other_process: Running, settings: Any
) -> None:
    """Mix-up: a provider that is not honest sends a code of the honest one's, or takes one for it."""
    let_in(settings, hospital.settings(), other_process.settings("other"))
    browser = Browser()
    back = urlsplit(hospital.sign_in(browser.set_out("other"), "alice-at-home"))
    query = dict(parse_qsl(back.query))
    for path in (reverse("provider_callback", args=[slug]) for slug in ("other", "hospital")):
        refused(browser.get(f"{path}?{urlencode(query)}"), browser)
    # Even where it says no issuer, a state is good at the provider's own address alone.
    other_process.twist(document={"authorization_response_iss_parameter_supported": None})
    cache.clear()
    there = browser.set_out("other")
    state = dict(parse_qsl(urlsplit(there).query))["state"]
    asked = {"code": query["code"], "state": state}
    refused(browser.get(f"{reverse('provider_callback', args=['hospital'])}?{urlencode(asked)}"), browser)
    other_process.twist()


def test_the_same_sub_at_another_provider_is_another_person(
    linked: Any, hospital: Running, other_process: Running, settings: Any
) -> None:
    let_in(settings, hospital.settings(), other_process.settings("other"))
    browser = Browser()
    answer = browser.sign_in(other_process, "alice-at-home", "other")
    assert (answer.status_code, browser.who) == (403, "")


def test_a_parameter_twice_counts_as_none(linked: Any, hospital: Running) -> None:
    browser = Browser()
    back = hospital.sign_in(browser.set_out(), "alice-at-home")
    refused(browser.come_back(f"{back}&state=x"), browser)


# Attacks on the ID token


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": 7},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another client"},
        {"aud": [CLIENT, "another client"]},
        {"aud": []},
        {"aud": None},
        {"azp": "another client"},
        {"exp": int(time.time()) - 120},
        {"exp": None},
        {"exp": "2099-01-01"},
        {"iat": int(time.time()) - 36000},
        {"iat": int(time.time()) + 36000},
        {"iat": None},
        {"nbf": int(time.time()) + 36000},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"sub": "alice-at-home\u0000"},
    ],
)
def test_a_claim_that_does_not_hold(linked: Any, hospital: Running, claims: dict[str, Any]) -> None:
    hospital.twist(claims=claims)
    browser = Browser()
    refused(browser.sign_in(hospital, "alice-at-home"), browser)


@pytest.mark.parametrize("sign", ["none", "hs256", "stranger"])
def test_a_signature_that_is_none(linked: Any, hospital: Running, sign: str) -> None:
    """None; the public key as a shared secret; a stranger's key under the name of the provider's."""
    hospital.twist(sign=sign)
    browser = Browser()
    refused(browser.sign_in(hospital, "alice-at-home"), browser)


STRANGER = ECKey.generate_key("P-256", {"kid": "one"})


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "unknown"},
        {"kid": None},
        {"kid": "two"},  # a key of another kind than alg says
        {"jwk": STRANGER.as_dict(private=False)},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"typ": "at+jwt"},
    ],
)
def test_a_header_that_brings_its_own_rule(linked: Any, hospital: Running, header: dict[str, Any]) -> None:
    hospital.twist(header=header)
    browser = Browser()
    refused(browser.sign_in(hospital, "alice-at-home"), browser)


def test_unknown_keys_are_looked_for_once_a_minute(linked: Any, hospital: Running) -> None:
    before = hospital.twist(header={"kid": "unknown"})["key_sets_asked"]
    for _ in range(4):
        browser = Browser()
        refused(browser.sign_in(hospital, "alice-at-home"), browser)
    assert hospital.twist()["key_sets_asked"] - before == 1


# Attacks on our own pages


@pytest.mark.parametrize(
    "next", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil"]
)
def test_it_leads_to_no_other_site(linked: Any, hospital: Running, next: str) -> None:
    browser = Browser()
    assert browser.sign_in(hospital, "alice-at-home", next=next)["Location"] == "/home"


def test_signing_in_makes_a_new_session(linked: Any, hospital: Running) -> None:
    """Whoever planted a session in the browser does not share the one that follows."""
    browser = Browser()
    session = browser.session
    session["planted"] = "yes"
    session.save()
    browser.cookies[django_settings.SESSION_COOKIE_NAME] = planted = session.session_key
    browser.sign_in(hospital, "alice-at-home")
    assert browser.session.session_key != planted
    thief = Client()
    thief.cookies[django_settings.SESSION_COOKIE_NAME] = planted
    assert thief.get("/home").status_code == 302


def test_a_sign_in_begins_with_a_form_of_ours(linked: Any, hospital: Running) -> None:
    there = reverse("provider_start", args=["hospital"])
    assert Client().get(there).status_code == 405
    assert Client(enforce_csrf_checks=True).post(there).status_code == 403


def test_the_provider_learns_who_asks_and_nothing_else(linked: Any, hospital: Running) -> None:
    asked = dict(parse_qsl(urlsplit(Browser().set_out(next="/choices")).query))
    assert asked.keys() == {
        "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge",
        "code_challenge_method",
    }  # fmt: skip
    assert (asked["scope"], asked["code_challenge_method"]) == ("openid", "S256")
    assert len(asked["state"]) >= 43


def test_too_many_tries_from_an_address_wait(linked: Any, hospital: Running, settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = {"provider": "3/m/ip"}
    browser = Browser()
    for _ in range(3):
        browser.set_out()
    answer = browser.post(reverse("provider_start", args=["hospital"]))
    assert answer.status_code == 429
    assert "Too many tries" in answer.content.decode()


# The provider's own document


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"end_session_endpoint": "ftp://evil.example"},
        {"response_types_supported": ["id_token"]},
        {"code_challenge_methods_supported": ["plain"]},
        {"id_token_signing_alg_values_supported": ["none", "HS256"]},
        {"token_endpoint_auth_methods_supported": ["none"]},
    ],
)
def test_a_document_that_is_not_the_providers(
    linked: Any, hospital: Running, document: dict[str, Any]
) -> None:
    hospital.twist(document=document)
    answer = Browser().post(reverse("provider_start", args=["hospital"]))
    assert answer.status_code == 503
    assert "evil" not in answer.content.decode()


def test_a_provider_that_is_away_stops_nobody_else(linked: Any, hospital: Running) -> None:
    hospital.twist(silent=True)
    browser = Browser()
    assert browser.post(reverse("provider_start", args=["hospital"])).status_code == 503
    assert browser.get(reverse("account_login")).status_code == 200
    browser.post(reverse("account_login"), {"login": linked.user.email, "password": PASSWORD})
    assert browser.who == str(linked.user.pk)


def test_the_set_up_is_checked(hospital: Running, settings: Any) -> None:
    def problems(**others: Any) -> set[str]:
        settings.OIDC_PROVIDERS = [hospital.settings(**others)]
        return {str(found.id) for found in run_checks(include_deployment_checks=True)}

    assert not {each for each in problems() if each.startswith("gateway.E01")}
    assert "gateway.E010" in problems(slug="Hospital")
    assert "gateway.E011" in problems(issuer="http://idp.example")
    assert "gateway.E012" in problems(client_secret="")
    assert "gateway.E014" in problems(issuer=f"{hospital.issuer}/elsewhere")
    settings.PRODUCTION = True
    assert "gateway.E011" in problems()
    settings.PRODUCTION = False
    settings.OIDC_PROVIDERS = [hospital.settings(), hospital.settings("twice")]
    assert "gateway.E013" in {str(found.id) for found in run_checks()}


def test_a_provider_is_set_up_by_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from gateway.settings import identity_providers

    secret = tmp_path / "secret"
    secret.write_text("of the hospital\n")
    for name, value in {
        "GATEWAY_OIDC": "st-mary=https://idp.example/realms/h",
        "GATEWAY_OIDC_ST_MARY_NAME": "St Mary's",
        "GATEWAY_OIDC_ST_MARY_CLIENT_ID": "gateway",
        "GATEWAY_OIDC_ST_MARY_CLIENT_SECRET_FILE": str(secret),
    }.items():
        monkeypatch.setenv(name, value)
    (found,) = [Provider(**each) for each in identity_providers()]
    assert (found.slug, found.issuer) == ("st-mary", "https://idp.example/realms/h")
    assert (found.name, found.client_secret) == ("St Mary's", "of the hospital")
    assert "of the hospital" not in repr(found)


# Signing out


def test_signing_out_here_tells_of_the_provider(linked: Any, hospital: Running) -> None:
    browser = Browser()
    browser.sign_in(hospital, "alice-at-home")
    answer = browser.post(reverse("account_logout"))
    page = browser.get(answer["Location"]).content.decode()
    assert "You are signed out here" in page
    assert f"{hospital.issuer}/logout?client_id={CLIENT}" in page
    assert "id_token" not in page
    assert browser.who == ""
    # Who came by the password is not asked; nor where the provider offers no such thing.
    browser.post(reverse("account_login"), {"login": linked.user.email, "password": PASSWORD})
    assert browser.post(reverse("account_logout"))["Location"] == "/"
    hospital.twist(document={"end_session_endpoint": None})
    cache.clear()
    assert browser.get(answer["Location"])["Location"] == "/"


def test_two_links_of_one_sub_at_once_are_one(alice: Any, charlie: Any, hospital: Running) -> None:
    found = providers.find("hospital")
    assert found is not None
    identities.link(user=alice.user, provider=found, subject="one", how="settings")
    with pytest.raises(RefusedTransition) as caught:
        identities.link(user=charlie.user, provider=found, subject="one", how="settings")
    assert caught.value.code == "identity_taken"

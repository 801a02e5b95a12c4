"""The whole way through a hospital's identity provider, in a browser: from the invitation to signing out."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.cache import cache
from django.urls import reverse

from consent import services
from consent.models import Patient
from gateway.accounts.models import ProviderIdentity
from ledger.audit.log import Actor
from tests.browser.visit import EACH_WIDTH, IN_A_BROWSER, Visit
from tests.identity_provider import Running, running

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def hospital(no_keyholder: None, settings: Any, live_server: Any) -> Iterator[Running]:
    cache.clear()
    with running() as found:
        settings.PUBLIC_URL = live_server.url
        settings.OIDC_PROVIDERS = [found.settings(name="Riverside Hospital")]
        settings.OUTBOUND_ALLOWED = [urlsplit(found.issuer).netloc]
        yield found


class Person(Visit):
    """A visit that may go to the provider too."""

    def at_the_hospital(self, name: str) -> None:
        self.page.get_by_label("Name").fill(name)
        self.press("Sign in")


@pytest.mark.parametrize("scripts", [True, False], ids=["js", "nojs"])
@pytest.mark.parametrize("width", EACH_WIDTH)
def test_from_the_letter_to_signing_out(
    chromium: Any, live_server: Any, hospital: Running, width: int, scripts: bool
) -> None:
    patient, code = services.invite(name="Ada", by=Actor.staff(1))
    visit = Person(chromium, live_server.url, width, scripts)
    visit.other_hosts = {urlsplit(hospital.issuer).netloc}
    page = visit.page

    # Without an invitation the sign-in leads to nobody's account.
    visit.open(reverse("account_login"))
    visit.look("provider-login")
    visit.press("Sign in with Riverside Hospital")
    page.get_by_role("heading", name="Hospital sign-in").wait_for()
    visit.expect_status(403)
    visit.at_the_hospital("ada-at-home")
    page.get_by_role("heading", name="We do not know this sign-in yet").wait_for()
    visit.look("provider-unlinked")

    # With it there is an account, and the way in.
    visit.open(f"/invitation/{code}")
    visit.look("provider-invitation")
    visit.press("Sign in with Riverside Hospital")
    visit.at_the_hospital("ada-at-home")
    page.get_by_role("heading", name="Set up your account").wait_for()
    visit.look("provider-sign-up")
    page.get_by_label("Email").fill("ada@example.org")
    visit.press("Set up my account")
    page.get_by_role("heading", name="Hello").wait_for()
    assert Patient.objects.get(pk=patient.pk).user is not None

    # Before something that matters the provider asks again.
    visit.open(reverse("providers"))
    visit.look("providers-linked")
    visit.press("Stop signing in with Riverside Hospital")
    page.get_by_role("heading", name="Show that it is you").wait_for()
    visit.look("provider-again")
    visit.press("Go to Riverside Hospital")
    visit.at_the_hospital("ada-at-home")
    page.get_by_role("heading", name="Sign in with your clinic").wait_for()
    visit.expect_status(409)
    visit.press("Stop signing in with Riverside Hospital")
    page.get_by_text("is your only way in").wait_for()
    visit.look("provider-problem")
    assert ProviderIdentity.objects.exists()

    # Signed out here, and there if she likes.
    visit.open(reverse("account_logout"))
    visit.press("Sign out")
    page.get_by_role("heading", name="You are signed out here").wait_for()
    visit.look("provider-signed-out")
    page.get_by_role("button", name="Sign out of Riverside Hospital").click()
    page.get_by_role("heading", name="Signed out at the hospital").wait_for()

    # And in again, with nothing but the provider.
    visit.open(reverse("account_login"))
    visit.press("Sign in with Riverside Hospital")
    visit.at_the_hospital("ada-at-home")
    page.get_by_role("heading", name="Hello").wait_for()
    assert visit.problems == []
    visit.close()


@pytest.mark.parametrize("width", EACH_WIDTH)
def test_the_page_on_the_way_there_and_a_provider_that_is_away(
    chromium: Any, live_server: Any, hospital: Running, width: int
) -> None:
    visit = Person(chromium, live_server.url, width)
    visit.other_hosts = {urlsplit(hospital.issuer).netloc}
    page = visit.page
    # As a browser shows it that does not go on by itself.
    page.route("**/authorize?**", lambda route: route.fulfill(status=204))
    visit.open(reverse("account_login"))
    visit.press("Sign in with Riverside Hospital")
    page.get_by_role("heading", name="You go on to Riverside Hospital").wait_for()
    visit.look("provider-go")
    page.unroute("**/authorize?**")
    page.get_by_role("link", name="Go on, if nothing happens").click()
    page.get_by_role("heading", name="Hospital sign-in").wait_for()

    cache.clear()
    hospital.twist(silent=True)
    visit.open(reverse("account_login"))
    visit.expect_status(503)
    visit.press("Sign in with Riverside Hospital")
    page.get_by_role("heading", name="That did not work").wait_for()
    visit.look("provider-away")
    visit.close()

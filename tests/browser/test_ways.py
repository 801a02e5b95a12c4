"""Each journey of a patient, and of who acts for her, in the six ways of tests/browser/ways.py: from an
invitation to an account; from signing in to a yes, a change and a stop; a no; an email; settings; a copy; a
proof; acting for somebody.

Then what happens on the way in life: a double click, a ledger that nobody reaches.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.cache import cache
from django.urls import reverse

from consent import representatives, services
from consent.models import Consent
from consent.teach_back import ITEMS
from gateway.accounts.models import User
from gateway.records.models import OwnCopy
from ledger.audit.log import Actor
from ledger.models import LedgerTransaction
from tests.browser.test_what_happened import DENIED, USED, played
from tests.browser.visit import IN_A_BROWSER, Visit
from tests.browser.ways import FORWARD, Walk, each_way
from tests.portal.test_addresses import link_in
from tests.questions import ask, commit, grant, in_force
from tests.representing import represent

__all__ = ["played"]

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

Begin = Callable[..., Walk]
PASSWORD = "correct horse battery"


@each_way("keyboard")
def test_an_account_and_a_forgotten_password(walk: Begin) -> None:
    cache.clear()  # which counts letters to an address
    _, code = services.invite(name="Ada", by=Actor.staff(1))
    visit = walk()
    visit.open(reverse("invitation", args=[code]))
    visit.look("way-invitation")
    visit.go("account_signup")
    visit.look("way-sign-up")
    for field, text in (("email", "ada@example.org"), ("password1", PASSWORD), ("password2", PASSWORD)):
        visit.type(f'input[name="{field}"]', text)
    visit.use(FORWARD)
    assert visit.is_at("home")
    visit.open(link_in(mail.outbox[-1]))
    visit.use(FORWARD)
    visit.use(f'header a[href="{reverse("account_logout")}"]')
    visit.look("way-sign-out")
    visit.use(FORWARD)
    assert visit.is_at("start")

    visit.go("home")
    visit.go("account_reset_password")
    visit.look("way-forgotten")
    visit.type('input[name="email"]', "ada@example.org")
    visit.use(FORWARD)
    visit.look("way-forgotten-sent")
    visit.open(link_in(mail.outbox[-1]))
    visit.look("way-new-password")
    for field in ("password1", "password2"):
        visit.type(f'input[name="{field}"]', f"another {PASSWORD}")
    visit.use(FORWARD)
    visit.look("way-new-password-saved")
    assert User.objects.get(email="ada@example.org").check_password(f"another {PASSWORD}")


@each_way("keyboard", "no scripts")
def test_from_signing_in_to_a_stop(walk: Begin, alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    visit = walk()
    visit.open(reverse("start"))
    visit.look("way-start")
    visit.go("home")
    visit.use(FORWARD)
    visit.look("way-sign-in-error")
    visit.type('input[name="login"]', alice.user.email)
    visit.type('input[name="password"]', PASSWORD)
    visit.use(FORWARD)
    assert visit.is_at("home")
    visit.look("way-home")

    visit.go("question", question.id)
    visit.use("main summary")
    visit.look("way-question")
    visit.send("choose", question.id)
    visit.use(FORWARD)
    visit.look("way-choose-error")
    for field, value in (("kinds", "Observation"), ("sensitive", "PSY"), ("duration", "90_days")):
        visit.use(f'input[name="{field}"][value="{value}"]')
    visit.look("way-choose")
    visit.use(FORWARD)
    for item in ITEMS.values():
        visit.use(f'input[name="answer"][value="{item.right}"]')
        visit.look("way-understand")
        visit.use(FORWARD)
    assert visit.is_at("check", question.id)
    visit.look("way-check")
    visit.use('main a[role="button"]')
    visit.type('input[name="password"]', PASSWORD)
    visit.use(FORWARD)
    assert visit.is_at("check", question.id)
    visit.use(FORWARD)
    assert visit.is_at("done", question.id)
    visit.look("way-done")
    consent = question.consents.get()
    assert (consent.kinds, consent.sensitive) == (["Observation"], ["PSY"])
    commit(consent)

    visit.go("choice", consent.id)
    visit.look("way-choice")
    visit.go("change", consent.id)
    visit.use('input[name="kinds"][value="Condition"]')
    visit.use('input[name="duration"][value="until"]')
    visit.look("way-change")
    visit.use(FORWARD)
    assert visit.is_at("check_change", consent.id)
    visit.look("way-change-check")
    visit.use(FORWARD)
    changed = question.consents.exclude(pk=consent.pk).get()
    assert set(changed.kinds) == {"Observation", "Condition"}
    commit(changed, "ConsentReplaced")

    # At most two clicks from home.
    visit.open(reverse("home"))
    visit.go("choices")
    visit.send("stop", changed.id)
    visit.look("way-stopped")
    changed.refresh_from_db()
    assert changed.stopped_at is not None


@each_way("right to left")
def test_no_is_one_press(walk: Begin, alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    visit = walk(alice.user)
    visit.open(reverse("question", args=[question.id]))
    visit.send("refuse", question.id)
    assert visit.is_at("done", question.id)
    visit.look("way-no")
    assert question.consents.get().status == Consent.Status.REJECTED


@each_way("keyboard")
def test_an_email_is_changed(walk: Begin, alice: Any) -> None:
    cache.clear()  # which counts letters to an address
    visit = walk(alice.user)
    visit.open(reverse("home"))
    visit.go("settings")
    visit.go("account_email")
    visit.look("way-email")
    visit.type('input[name="email"]', "alice@new.example.org")
    visit.use('button[name="action_add"]')
    if visit.is_at("account_reauthenticate"):
        visit.type('input[name="password"]', PASSWORD)
        visit.use(FORWARD)
    visit.look("way-email-waits")
    visit.open(link_in(mail.outbox[-1]))
    visit.look("way-email-confirm")
    visit.use(FORWARD)
    alice.user.refresh_from_db()
    assert alice.user.email == "alice@new.example.org"
    assert mail.outbox[-1].to == ["alice@example.org"]


@each_way("large text")
def test_settings_are_kept(walk: Begin, alice: Any) -> None:
    visit = walk(alice.user)
    visit.open(reverse("home"))
    visit.go("settings")
    visit.look("way-settings")
    visit.use('input[name="notices"][value="daily"]')
    visit.use('input[name="large_text"]')
    visit.send("settings")
    visit.look("way-settings-kept")
    alice.user.refresh_from_db()
    assert (alice.user.notices, alice.user.large_text) == (User.Notices.DAILY, True)


@each_way("no scripts")
def test_a_copy_of_ones_own(walk: Begin, played: Any, tmp_path: Path) -> None:
    visit = walk(played.user)
    visit.open(reverse("home"))
    visit.go("own_copy")
    assert visit.is_at("account_reauthenticate")
    visit.type('input[name="password"]', PASSWORD)
    visit.use(FORWARD)
    visit.look("way-copy")
    visit.send("own_copy")
    copy = OwnCopy.objects.get()
    visit.look("way-copy-asked")
    visit.send("own_copy_of", copy.pk)
    visit.look("way-copy-ready")
    visit.keep(f'main a[href="{reverse("own_copy_file", args=[copy.pk, "ndjson"])}"]', tmp_path / "copy")
    assert b"Hay fever" in (tmp_path / "copy").read_bytes()
    visit.go("own_copy_page", copy.pk)
    assert visit.page.get_by_role("rowheader", name="Hay fever").is_visible()
    visit.look("way-copy-read")
    visit.open(reverse("own_copy"))
    visit.go("own_copy_of", copy.pk)
    visit.go("use", copy.pk)
    visit.look("way-copy-use")


@each_way("320 px")
def test_a_proof_is_kept_and_checked(walk: Begin, played: Any, helix: Any, tmp_path: Path) -> None:
    """Kept by the patient, checked by a stranger to whom she gave it."""
    proof, forged = tmp_path / "proof.json", tmp_path / "forged.json"
    visit = walk(played.user)
    visit.open(reverse("home"))
    visit.go("access")
    visit.use(".gw-steps summary")
    visit.look("way-access")
    visit.use("summary:has-text('Show only')")
    visit.choose("#show", "blocked")
    visit.choose("#who", str(helix.pk))
    visit.send("access")
    visit.look("way-access-filtered")
    assert visit.page.locator("main tbody tr").count() == 1
    visit.go("use", DENIED)
    visit.look("way-use-blocked")
    visit.open(reverse("use", args=[USED]))
    visit.look("way-use")
    visit.go("proof", USED)
    visit.use("main summary")
    visit.look("way-proof")
    visit.keep(f'main a[href="{reverse("proof_file", args=[USED])}"]', proof)
    forged.write_bytes(proof.read_bytes().replace(b"job.released", b"job.rel3ased"))

    visit = walk()
    visit.open(reverse("proof_check"))
    visit.expect_status(400)
    visit.use(FORWARD)
    visit.look("way-check-none")
    for file, verdict in ((forged, ".govuk-error-summary"), (proof, ".govuk-panel--confirmation")):
        visit.attach('input[name="proof"]', file)
        visit.use(FORWARD)
        assert visit.page.locator(verdict).is_visible()
        visit.look(f"way-check-{file.stem}")


@each_way("right to left")
def test_somebody_acts_for_a_patient(walk: Begin, alice: Any, helix: Any, user: Any) -> None:
    """From the clinic's invitation to the day on which the patient ends it."""
    made, question = represent(alice, None), ask(helix, alice)
    shared = in_force(ask(helix, alice, model="cd" * 32))
    code = representatives.invite_again(representative=made, by=Actor.staff(1))
    ana = walk(user("ana"))
    ana.open(reverse("invitation", args=[code]))
    ana.look("way-people-invitation")
    ana.use(FORWARD)
    ana.look("way-people-by-me")
    ana.send("act")
    ana.look("way-people-home")
    ana.go("question", question.id)
    ana.send("refuse", question.id)
    ana.look("way-people-no")
    refused = question.consents.get()
    assert (refused.status, refused.representative) == (Consent.Status.REJECTED, made)
    ana.go("home")
    ana.go("choices")
    ana.send("stop", shared.id)
    ana.look("way-people-stopped")
    shared.refresh_from_db()
    assert (shared.stopped_at is not None, shared.stopper) == (True, made)
    ana.use(f'header a[href="{reverse("people")}"]')
    ana.look("way-people-acting")
    ana.send("act")
    ana.look("way-people-for-nobody")

    visit = walk(alice.user)
    visit.open(reverse("home"))
    visit.use(f'header a[href="{reverse("people")}"]')
    visit.look("way-people-for-me")
    visit.send("end", made.pk)
    visit.look("way-people-ended")
    made.refresh_from_db()
    assert made.ended_at is not None


def test_a_double_click_is_one_answer(chromium: Any, live_server: Any, alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    visit = Visit(chromium, live_server.url, who=alice.user)
    visit.open(reverse("question", args=[question.id]))
    visit.page.locator(f'form[action="{reverse("refuse", args=[question.id])}"] button').dblclick()
    visit.page.wait_for_url(f"**{reverse('done', args=[question.id])}")
    assert question.consents.count() == 1
    visit.close()


def test_a_ledger_that_nobody_reaches(chromium: Any, live_server: Any, alice: Any, helix: Any) -> None:
    """The choice is kept and the pages say so; it lands once the ledger is back."""
    consent = grant(ask(helix, alice))
    visit = Visit(chromium, live_server.url, who=alice.user)
    for page in (reverse("choices"), reverse("choice", args=[consent.id])):
        visit.open(page)
        assert visit.page.locator(".govuk-tag", has_text="Waiting to be sealed").first.is_visible()
    visit.look("ledger-unreachable")
    assert LedgerTransaction.objects.get(reference=f"consent/{consent.id}").state == "pending"
    commit(consent)
    visit.open(reverse("choices"))
    assert visit.page.locator(".govuk-tag", has_text="Sharing").first.is_visible()
    visit.close()


def test_another_language_is_one_press(chromium: Any, live_server: Any, alice: Any) -> None:
    visit = Visit(chromium, live_server.url)
    visit.open(reverse("start"))
    visit.press("Español")
    assert visit.page.locator("html").get_attribute("lang") == "es"
    assert visit.path == reverse("start")
    visit.sign_in(alice.user)
    visit.open(reverse("home"))
    visit.press("English")
    assert visit.page.locator("html").get_attribute("lang") == "en"
    alice.user.refresh_from_db()
    assert alice.user.language == "en"
    visit.close()

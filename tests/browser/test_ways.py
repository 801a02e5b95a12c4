"""Each journey by mouse, by keyboard alone, without scripts, small, large, mirrored: from a question to a
yes, to a stop; an e-mail that is changed; what staff review and judge.

Then what happens on the way in life: a double click, a ledger that nobody reaches. Nothing here looks for
words, so that every language is the same to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.core import mail
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from consent.models import Consent, ConsentRequest
from consent.teach_back import ITEMS
from gateway.compliance.models import Alarm
from ledger.models import LedgerTransaction
from tests.browser import pseudo
from tests.browser.visit import IN_A_BROWSER, Visit
from tests.portal.test_addresses import link_in
from tests.questions import ask, commit

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

MOST_TABS = 60


@dataclass
class Way:
    """How somebody goes about it: options of a Visit, and whether they have no mouse."""

    options: dict[str, Any] = field(default_factory=dict)
    keyboard: bool = False

    def use(self, visit: Visit, where: str) -> None:
        """Follow, press, tick or choose the one that `where` (CSS) names."""
        target = visit.page.locator(where).first
        if target.evaluate("e => e.matches('input')"):
            self._tick(visit, target)
            return
        with visit.page.expect_navigation():
            if self.keyboard:
                self._walk(visit, target)
                visit.page.keyboard.press("Enter")
            else:
                target.click()

    def type(self, visit: Visit, where: str, text: str) -> None:
        target = visit.page.locator(where).first
        if self.keyboard:
            self._walk(visit, target)
            visit.page.keyboard.type(text)
        else:
            target.fill(text)

    def _tick(self, visit: Visit, target: Any) -> None:
        if self.keyboard:
            self._walk(visit, target)
            visit.page.keyboard.press("Space")
        else:
            target.check()

    def _walk(self, visit: Visit, target: Any) -> None:
        for _ in range(MOST_TABS):
            visit.page.keyboard.press("Tab")
            if target.evaluate("e => e === document.activeElement"):
                assert visit.page.evaluate(SEEN), "the focus is not to be seen"
                return
            # Arrows move within a group of radios, of which Tab reaches one.
            if target.evaluate("e => e.type === 'radio' && document.activeElement.name === e.name"):
                for _ in range(MOST_TABS):
                    visit.page.keyboard.press("ArrowDown")
                    if target.evaluate("e => e === document.activeElement"):
                        return
        raise AssertionError(f"{target} cannot be reached by keyboard")


# What has the focus lies on the screen and looks different from what has not.
SEEN = """() => {
  const e = document.activeElement, box = e.getBoundingClientRect(), style = getComputedStyle(e);
  const on = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  const mark = e.matches('input') || style.outlineStyle !== 'none' || style.boxShadow !== 'none';
  return on && mark;
}"""

WAYS = {
    "mouse": Way(),
    "keyboard": Way(keyboard=True),
    "no scripts": Way({"scripts": False}),
    "320 px": Way({"width": 320}),
    "large text": Way({"text": 200}),
    "right to left": Way({"language": pseudo.CODE}),
}
EACH_WAY = [
    pytest.param(way, id=name, marks=[] if name == "keyboard" else [pytest.mark.exhaustive])
    for name, way in WAYS.items()
]


@pytest.fixture(scope="module", autouse=True)
def mirrored(tmp_path_factory: Any) -> Iterator[None]:
    with pseudo.spoken(tmp_path_factory.mktemp("languages")):
        yield


@pytest.mark.parametrize("way", EACH_WAY)
def test_from_a_question_to_a_stop(chromium: Any, live_server: Any, alice: Any, helix: Any, way: Way) -> None:
    question = ask(helix, alice)
    visit = Visit(chromium, live_server.url, who=alice.user, **way.options)

    visit.open(reverse("home"))
    way.use(visit, f'a[href="{reverse("question", args=[question.id])}"]')
    visit.look("way-question")
    way.use(visit, f'form[action="{reverse("choose", args=[question.id])}"] button')
    way.use(visit, 'input[name="kinds"][value="Observation"]')
    way.use(visit, 'input[name="duration"][value="90_days"]')
    visit.look("way-choose")
    way.use(visit, FORWARD)
    for item in ITEMS.values():
        way.use(visit, f'input[name="answer"][value="{item.right}"]')
        visit.look("way-understand")
        way.use(visit, FORWARD)
    assert visit.path == reverse("check", args=[question.id])
    visit.look("way-check")
    way.use(visit, 'main a[role="button"]')
    way.type(visit, 'input[name="password"]', "correct horse battery")
    way.use(visit, FORWARD)
    assert visit.path == reverse("check", args=[question.id])
    way.use(visit, FORWARD)
    assert visit.path == reverse("done", args=[question.id])
    visit.look("way-done")
    consent = question.consents.get()
    assert (consent.kinds, consent.sensitive) == (["Observation"], [])
    commit(consent)

    # At most two clicks from home.
    visit.open(reverse("home"))
    way.use(visit, f'main a[href="{reverse("choices")}"]')
    way.use(visit, f'form[action="{reverse("stop", args=[consent.id])}"] button')
    visit.look("way-stopped")
    consent.refresh_from_db()
    assert consent.stopped_at is not None
    visit.close()


# The first button of the page's own form.
FORWARD = "main form[method=post] button:not([formaction])"


@pytest.mark.parametrize("way", EACH_WAY)
def test_no_is_one_press(chromium: Any, live_server: Any, alice: Any, helix: Any, way: Way) -> None:
    question = ask(helix, alice)
    visit = Visit(chromium, live_server.url, who=alice.user, **way.options)
    visit.open(reverse("question", args=[question.id]))
    way.use(visit, f'form[action="{reverse("refuse", args=[question.id])}"] button')
    assert visit.path == reverse("done", args=[question.id])
    assert question.consents.get().status == Consent.Status.REJECTED
    visit.close()


@pytest.mark.parametrize("way", EACH_WAY)
def test_an_email_is_changed(chromium: Any, live_server: Any, alice: Any, way: Way) -> None:
    cache.clear()  # which counts letters to an address
    visit = Visit(chromium, live_server.url, who=alice.user, **way.options)
    visit.open(reverse("home"))
    way.use(visit, f'main a[href="{reverse("settings")}"]')
    way.use(visit, f'main a[href="{reverse("account_email")}"]')
    visit.look("way-email")
    way.type(visit, 'input[name="email"]', "alice@new.example.org")
    way.use(visit, 'button[name="action_add"]')
    if visit.path == reverse("account_reauthenticate"):
        way.type(visit, 'input[name="password"]', "correct horse battery")
        way.use(visit, FORWARD)
    visit.look("way-email-waits")
    visit.open(link_in(mail.outbox[-1]))
    visit.look("way-email-confirm")
    way.use(visit, FORWARD)
    alice.user.refresh_from_db()
    assert alice.user.email == "alice@new.example.org"
    assert mail.outbox[-1].to == ["alice@example.org"]
    visit.close()


@pytest.mark.parametrize("way", EACH_WAY)
def test_a_reviewer_approves(
    chromium: Any, live_server: Any, unread: ConsentRequest, member: Any, way: Way
) -> None:
    visit = Visit(chromium, live_server.url, who=get_user(member("reviewer")), **way.options)
    visit.open(reverse("staff_queue"))
    visit.look("way-queue")
    way.use(visit, f'main a[href="{reverse("staff_request", args=[unread.id])}"]')
    visit.look("way-review")
    way.use(visit, f'form[action="{reverse("staff_approve", args=[unread.id])}"] button')
    assert visit.path == reverse("staff_request", args=[unread.id])
    unread.refresh_from_db()
    assert unread.state == ConsentRequest.State.PENDING
    visit.close()


@pytest.mark.parametrize("way", EACH_WAY)
def test_a_look_is_judged(
    chromium: Any, live_server: Any, alice: Any, bob: Any, member: Any, way: Way
) -> None:
    today, now = timezone.localdate(), timezone.now()
    alarm = Alarm.objects.create(kind="night", by=bob, patient=alice, day=today, seen_at=now, leaf=1)
    visit = Visit(chromium, live_server.url, who=get_user(member("compliance")), **way.options)
    visit.open(reverse("staff_alarms"))
    way.use(visit, f'main a[href="{reverse("staff_alarm", args=[alarm.pk])}"]')
    visit.look("way-alarm")
    way.use(visit, 'input[name="outcome"][value="explained"]')
    way.type(visit, 'textarea[name="reason"]', "He was on duty that night.")
    way.use(visit, f'form[action="{reverse("staff_alarm_settle", args=[alarm.pk])}"] button')
    visit.look("way-alarm-judged")
    alarm.refresh_from_db()
    assert alarm.outcome == Alarm.Outcome.EXPLAINED
    visit.close()


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
    from tests.questions import grant

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

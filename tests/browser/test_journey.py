"""Every state of a question and of a choice in a real browser, each looked at in both widths."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from consent import recorded, review, services
from consent.deletion import ask_deletion, confirm_deletion
from consent.models import Consent, ConsentRequest
from consent.teach_back import ITEMS
from gateway.analysis.models import JobSubject
from gateway.demo.pages import to_check
from ledger.audit.log import Actor
from ledger.models import LedgerTransaction
from tests.browser.visit import EACH_WIDTH, IN_A_BROWSER, Visit
from tests.portal.test_history import subject
from tests.questions import ask, ask_unread, commit, grant, in_force, reviewer

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]

CHOICE = {"kinds": ["Observation"], "duration": "until"}


def nobody(_consent: str) -> None:
    """The keyholder is not there to be told."""


@pytest.fixture(params=EACH_WIDTH)
def visit(request: Any, chromium: Any, live_server: Any, alice: Any) -> Iterator[Visit]:
    found = Visit(chromium, live_server.url, request.param, who=alice.user)
    yield found
    found.close()


@pytest.fixture
def at_hand(alice: Any) -> Client:
    """The same person's other browser."""
    client = Client()
    client.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_nothing_asked(visit: Visit) -> None:
    for name in ("home", "requests", "choices"):
        visit.open(reverse(name))
        visit.look(f"{name}-nothing")


def test_the_teach_back(visit: Visit, alice: Any, helix: Any, at_hand: Client) -> None:
    question = ask(helix, alice)
    at_hand.post(reverse("choose", args=[question.id]), CHOICE)
    visit.open(reverse("understand_one", args=[question.id, 1]))
    visit.press("Continue")
    assert visit.page.get_by_text("There is a problem").is_visible()
    visit.look("understand-error")
    item = ITEMS["use"]
    for name in ("understand-wrong", "understand-wrong-twice"):
        visit.page.get_by_label(str(item.answers["anyone"])).check()
        visit.press("Continue")
        assert visit.page.get_by_text("Not quite.").is_visible()
        visit.look(name)
    assert visit.page.get_by_text("talk it through").is_visible()
    for each in ITEMS.values():
        visit.page.get_by_label(str(each.answers[each.right])).check()
        visit.press("Continue")
    assert visit.path == reverse("check", args=[question.id])
    visit.back()
    visit.look("understand-again")
    visit.press("No, do not share")
    assert visit.page.get_by_role("heading", name="You said no").is_visible()


def test_a_day_of_ones_own(visit: Visit, alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    page = visit.page
    visit.open(reverse("choose", args=[question.id]))
    page.get_by_label("Test results").check()
    box = page.get_by_label("Day", exact=True)
    assert box.is_hidden()
    page.get_by_label("Until a day that you choose").check()
    box.wait_for()
    page.get_by_label("Day", exact=True).fill("31")
    page.get_by_label("Month").fill("2")
    page.get_by_label("Year").fill("2027")
    visit.press("Yes, go on")
    visit.look("choose-no-such-day")
    day = timezone.localdate() + timedelta(days=30)
    for label, value in (("Day", day.day), ("Month", day.month), ("Year", day.year)):
        page.get_by_label(label, exact=True).fill(str(value))
    visit.press("Yes, go on")
    for each in ITEMS.values():
        page.get_by_label(str(each.answers[each.right])).check()
        visit.press("Continue")
    visit.look("check-own-day")
    visit.follow("Change how long")
    assert page.get_by_label("Year").input_value() == str(day.year)
    visit.look("choose-kept")


def test_two_tabs_and_the_back_button(visit: Visit, alice: Any, helix: Any, at_hand: Client) -> None:
    question = ask(helix, alice)
    check = reverse("check", args=[question.id])
    to_check(at_hand, question.id, CHOICE)
    visit.open(check)
    visit.press("Show that it is you")
    visit.page.get_by_label("Password").fill("correct horse battery")
    visit.press("Confirm")
    assert visit.path == check
    at_hand.post(reverse("choose", args=[question.id]), {**CHOICE, "kinds": ["Condition"]})
    visit.press("Agree and share")
    assert visit.page.get_by_text("Your answers changed.").is_visible()
    visit.look("check-changed")
    visit.press("Agree and share")
    assert visit.path == reverse("done", args=[question.id])
    visit.back()
    assert visit.path == reverse("done", args=[question.id])
    assert visit.page.get_by_role("heading", name="You said yes").is_visible()
    assert Consent.objects.get().kinds == ["Condition"]


def test_a_session_that_ends_while_she_ticks(visit: Visit, alice: Any, helix: Any) -> None:
    question = ask(helix, alice)
    page = visit.page
    choose = reverse("choose", args=[question.id])
    visit.open(choose)
    page.get_by_label("Test results").check()
    page.get_by_label("Mental health").check()
    page.get_by_label("For 90 days").check()
    visit.sign_out_elsewhere()
    visit.press("Yes, go on")
    page.get_by_label("Email").fill(alice.user.email)
    page.get_by_label("Password").fill("correct horse battery")
    visit.press("Sign in")
    assert visit.path == choose
    for label in ("Test results", "Mental health", "For 90 days"):
        assert page.get_by_label(label).is_checked()
    assert not page.get_by_label("Medicines").is_checked()
    visit.look("choose-after-signing-in-again")


def test_questions_that_are_over(visit: Visit, alice: Any, helix: Any) -> None:
    taken, late = ask(helix, alice), ask(helix, alice)
    services.withdraw_request(request=taken, requester=helix)
    ConsentRequest.objects.filter(pk=late.pk).update(answer_by=timezone.localdate() - timedelta(days=1))
    visit.open(reverse("question", args=[taken.id]))
    assert visit.page.get_by_text("took this question back").is_visible()
    visit.look("question-taken-back")
    visit.open(reverse("question", args=[late.id]))
    assert visit.page.get_by_text("The time to answer ended").is_visible()
    visit.look("question-not-answered")
    visit.open(reverse("requests"))
    visit.look("requests-closed")
    answered = ask(helix, alice)
    in_force(answered)
    visit.open(reverse("question", args=[answered.id]))
    visit.look("question-answered")


def replaced(question: ConsentRequest) -> Consent:
    consent = in_force(question)
    newer = services.replace(consent=consent, patient=question.patient, kinds=["Condition"], duration="until")
    commit(newer, "ConsentReplaced")
    return consent


def stopped(question: ConsentRequest) -> Consent:
    consent = in_force(question)
    services.revoke(consent=consent, patient=question.patient, stop_now=nobody)
    commit(consent, "ConsentRevoked")
    return consent


def stopped_in_a_job(question: ConsentRequest) -> Consent:
    consent = stopped(question)
    subject(consent, JobSubject.State.NOT_AVAILABLE)
    return consent


def deleted(question: ConsentRequest) -> Consent:
    consent = stopped(question)
    subject(consent, JobSubject.State.DELIVERED, sent=True)
    asked = ask_deletion(consent=consent, patient=question.patient)
    confirm_deletion(deletion=asked, by=Actor.staff(1))
    return consent


def ended(question: ConsentRequest) -> Consent:
    consent = in_force(question)
    Consent.objects.filter(pk=consent.pk).update(expires_at=timezone.now() - timedelta(days=1))
    return consent


def not_sealed(question: ConsentRequest) -> Consent:
    consent = grant(question)
    services.record_refused(LedgerTransaction.objects.get(reference=f"consent/{consent.pk}"))
    return consent


def written_down(question: ConsentRequest) -> Consent:
    return recorded.record_answer(
        request=question,
        by=reviewer(),
        given_by="phone",
        authority="patient",
        kinds=["Observation"],
        duration="until",
        read_back=True,
    )


def all_of_it(question: ConsentRequest) -> Consent:
    return in_force(question, kinds=question.kinds, sensitive=question.sensitive)


STATES: dict[str, tuple[Callable[[ConsentRequest], Consent], str]] = {
    "pending": (grant, "We keep it and try again until it is sealed"),
    "sharing": (all_of_it, "Sharing"),
    "partly": (in_force, "The rest stays locked"),
    "refused": (
        lambda asked: services.refuse(request=asked, patient=asked.patient),
        "Your care stays the same",
    ),
    "ended": (ended, "Nothing is shared any more"),
    "stopped": (stopped, "It was sealed"),
    "stopped-in-a-job": (stopped_in_a_job, "Its result was not released"),
    "deleted": (deleted, "They said on"),
    "replaced": (replaced, "See your newer choice"),
    "not-sealed": (not_sealed, "The record book did not take this choice"),
    "written-down": (written_down, "Staff wrote this down for you"),
}


@pytest.mark.parametrize("name", STATES)
def test_each_state_of_a_choice(visit: Visit, alice: Any, helix: Any, name: str) -> None:
    make, words = STATES[name]
    consent = make(ask(helix, alice))
    visit.open(reverse("choice", args=[consent.pk]))
    assert visit.page.get_by_text(words).first.is_visible()
    visit.look(f"choice-{name}")


def test_the_list_of_all_of_them(visit: Visit, alice: Any, helix: Any) -> None:
    """The keyholder and the ledger are out of reach throughout: the list works all the same."""
    helix.contact = "research@helix.example"
    helix.save()
    for make, _words in STATES.values():
        make(ask(helix, alice))
    for _ in range(16):
        ask(helix, alice)
    visit.open(reverse("choices"))
    assert visit.page.get_by_text("Waiting to be sealed").first.is_visible()
    visit.look("choices-all")
    visit.open(reverse("home"))
    visit.look("home-busy")
    consent = in_force(ask(helix, alice))
    subject(consent, JobSubject.State.DELIVERED, sent=True)
    # Two clicks from home.
    visit.open(reverse("home"))
    visit.follow("See or stop what you share")
    visit.press("Stop sharing")
    assert visit.page.get_by_role("heading", name="You stopped sharing").is_visible()
    visit.look("stopped-just-now")
    visit.press("Ask them to delete what they got")
    assert visit.page.get_by_text("They have not said yet").is_visible()
    visit.look("deletion-asked")


def test_what_is_in_review_is_not_there(visit: Visit, alice: Any, helix: Any) -> None:
    question = ask_unread(helix, alice)
    visit.open(reverse("question", args=[question.id]), status=404)
    review.approve(request=question, by=reviewer())
    visit.open(reverse("question", args=[question.id]))

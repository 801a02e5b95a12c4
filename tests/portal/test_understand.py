"""…/understand: three questions, one a page, between choosing and checking; never in the way of No."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from consent.explanation import longest_sentence, reading_grade
from consent.models import Consent, ConsentRequest, Progress
from consent.teach_back import ITEMS
from gateway.demo.pages import agree, say_yes, to_check
from gateway.portal.context import whole
from ledger.audit.models import AuditRow

pytestmark = pytest.mark.django_db

CHOICE = {"kinds": ["Observation"], "duration": "until"}
NAMES = list(ITEMS)


def at(question: ConsentRequest, number: int) -> str:
    return reverse("understand_one", args=[question.id, number])


def first(question: ConsentRequest) -> str:
    return reverse("understand", args=[question.id])


def wrong(name: str) -> dict[str, str]:
    item = ITEMS[name]
    return {"answer": next(said for said in item.answers if said != item.right)}


def right(name: str) -> dict[str, str]:
    return {"answer": ITEMS[name].right}


@pytest.fixture
def chosen(browser: Client, question: ConsentRequest) -> ConsentRequest:
    browser.post(reverse("choose", args=[question.id]), CHOICE)
    return question


def test_one_question_a_page_then_the_check(browser: Client, chosen: ConsentRequest) -> None:
    for number, name in enumerate(NAMES, start=1):
        assert browser.get(first(chosen))["Location"] == at(chosen, number)
        page = browser.get(at(chosen, number)).content.decode()
        assert str(ITEMS[name].question) in page
        assert f"Question {number} of 3" in page
        assert " checked" not in page
        browser.post(at(chosen, number), right(name))
    assert browser.get(first(chosen))["Location"] == reverse("check", args=[chosen.id])


def test_a_wrong_answer_is_explained_and_asked_again(browser: Client, chosen: ConsentRequest) -> None:
    there = at(chosen, 1)
    assert browser.post(there, wrong("use"))["Location"] == there
    page = browser.get(there).content.decode()
    assert "Not quite." in page
    assert str(ITEMS["use"].why) in page
    assert "talk it through" not in page
    # Loading the page again is not another answer.
    browser.get(there)
    assert Progress.objects.get().asked == {"use": 1}


def test_two_misses_offer_a_call(browser: Client, chosen: ConsentRequest, settings: Any) -> None:
    for _ in range(2):
        browser.post(at(chosen, 1), wrong("use"))
    page = browser.get(at(chosen, 1)).content.decode()
    assert "talk it through" in page
    assert f"Call {whole(settings.HELP_PHONE)}" in page
    # And it goes on: nobody is locked out of Yes.
    assert browser.post(at(chosen, 1), right("use"))["Location"] == at(chosen, 2)


def test_it_never_stands_in_the_way_of_no(browser: Client, chosen: ConsentRequest) -> None:
    browser.post(at(chosen, 1), wrong("use"))
    page = browser.get(at(chosen, 1)).content.decode()
    buttons = [line for line in page.partition("<main")[2].splitlines() if "<button" in line]
    assert len(buttons) == 2
    assert all('class="govuk-button govuk-button--secondary"' in button for button in buttons)
    refuse = reverse("refuse", args=[chosen.id])
    assert refuse in page
    browser.post(refuse)
    assert Consent.objects.get().status == Consent.Status.REJECTED
    assert not Progress.objects.exists()


def test_yes_is_not_reached_around_it(browser: Client, chosen: ConsentRequest) -> None:
    check = reverse("check", args=[chosen.id])
    for name in NAMES:
        assert browser.get(check)["Location"] == first(chosen)
        shown = {"shown": Progress.objects.get().shown}
        assert browser.post(check, shown)["Location"] == first(chosen)
        browser.post(at(chosen, NAMES.index(name) + 1), right(name))
    assert not Consent.objects.exists()
    assert agree(browser, check)["Location"] == reverse("done", args=[chosen.id])


def test_an_answer_that_becomes_wrong_is_asked_again(browser: Client, chosen: ConsentRequest) -> None:
    to_check(browser, chosen.id, CHOICE)
    assert "You got this one right" in browser.get(at(chosen, 2)).content.decode()
    browser.post(at(chosen, 2), wrong("refusal"))
    assert browser.get(first(chosen))["Location"] == at(chosen, 2)


def test_how_often_it_was_asked_is_kept_with_the_consent(browser: Client, chosen: ConsentRequest) -> None:
    browser.post(at(chosen, 3), wrong("stop"))
    say_yes(browser, chosen.id, CHOICE)
    assert Consent.objects.get().teach_back == {"use": 1, "refusal": 1, "stop": 2}
    line = bytes(AuditRow.objects.get(kind="consent.granted").line).decode()
    assert '"teach_back":4' in line


@pytest.mark.parametrize("said", [{}, {"answer": ""}, {"answer": "nonsense"}])
def test_no_answer_is_a_problem_and_not_a_miss(
    browser: Client, chosen: ConsentRequest, said: dict[str, str]
) -> None:
    page = browser.post(at(chosen, 1), said)
    assert page.status_code == 200
    assert "There is a problem" in page.content.decode()
    assert Progress.objects.get().asked == {}


def test_out_of_turn(browser: Client, stranger: Client, question: ConsentRequest) -> None:
    choose = reverse("choose", args=[question.id])
    for page in (first(question), at(question, 1), at(question, 9)):
        assert browser.get(page)["Location"] == choose
        assert stranger.get(page).status_code == 404
    browser.post(reverse("refuse", args=[question.id]))
    for page in (first(question), at(question, 1)):
        assert browser.get(page)["Location"] == reverse("question", args=[question.id])


def test_it_can_be_read() -> None:
    for item in ITEMS.values():
        text = "\n".join(str(part) for part in (item.question, item.why, *item.answers.values()))
        assert reading_grade(text) <= 6
        assert longest_sentence(text) <= 20
        assert item.right in item.answers


# What was chosen, and when it is lost


def test_a_session_that_ends_in_the_middle_loses_nothing(
    client: Client, alice: Any, question: ConsentRequest
) -> None:
    sign_in = {"login": alice.user.email, "password": "correct horse battery"}
    client.post(reverse("account_login"), sign_in)
    client.post(reverse("choose", args=[question.id]), {**CHOICE, "sensitive": ["PSY"]})
    client.post(at(question, 1), right("use"))
    client.session.flush()
    there = at(question, 2)
    answer = client.post(there, right("refusal"))
    assert answer["Location"] == f"{reverse('account_login')}?next={there}"
    assert client.post(answer["Location"], sign_in)["Location"] == there
    for number in (2, 3):
        client.post(at(question, number), right(NAMES[number - 1]))
    agree(client, reverse("check", args=[question.id]))
    consent = Consent.objects.get()
    assert (consent.kinds, consent.sensitive) == (["Observation"], ["PSY"])


def test_what_is_agreed_is_what_the_page_showed(browser: Client, question: ConsentRequest) -> None:
    """Two windows: the second changes the ticks, then the first one agrees."""
    to_check(browser, question.id, CHOICE)
    check = reverse("check", args=[question.id])
    shown = {"shown": Progress.objects.get().shown}
    browser.post(reverse("choose", args=[question.id]), {**CHOICE, "kinds": ["Condition", "Observation"]})
    assert browser.post(check, shown)["Location"] == check
    assert "Your answers changed." in browser.get(check).content.decode()
    assert not Consent.objects.exists()
    agree(browser, check)
    assert Consent.objects.get().kinds == ["Condition", "Observation"]

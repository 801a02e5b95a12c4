"""What holds for every page: whose it is, how it is sent, how many queries it takes."""

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from consent.models import Consent, ConsentRequest
from tests.questions import ask, in_force

pytestmark = pytest.mark.django_db

OWN = ["home", "requests", "choices", "access", "mfa_index"]
OF_A_QUESTION = ["question", "choose", "understand", "check", "refuse", "done"]
OF_A_CHOICE = [
    "choice",
    "change",
    "check_change",
    "stop",
    "ask_deletion",
    "undo",
    "receipt_json",
    "receipt_pdf",
]
PUBLIC = ["start", "help", "account_login", "account_reset_password", "account_signup"]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_pages_need_no_sign_in(client: Client, name: str) -> None:
    assert client.get(reverse(name)).status_code == 200


@pytest.mark.parametrize("name", OWN)
def test_own_pages_need_one(client: Client, browser: Client, name: str) -> None:
    answer = client.get(reverse(name))
    assert (answer.status_code, answer["Location"].split("?")[0]) == (302, reverse("account_login"))
    assert browser.get(reverse(name)).status_code == 200


@pytest.mark.parametrize("name", OF_A_QUESTION)
def test_anothers_question_is_no_question(
    browser: Client, stranger: Client, question: ConsentRequest, name: str
) -> None:
    pages = [stranger.get(reverse(name, args=[id])) for id in (question.id, "0" * 64)]
    assert [page.status_code for page in pages] == [404, 404]
    texts = [re.sub(r'csrfmiddlewaretoken" value="[^"]+"', "", page.content.decode()) for page in pages]
    assert texts[0] == texts[1]
    assert browser.get(reverse(name, args=[question.id])).status_code in (200, 302)


@pytest.mark.parametrize("name", OF_A_CHOICE)
def test_anothers_choice_is_no_choice(stranger: Client, question: ConsentRequest, name: str) -> None:
    consent = in_force(question)
    for method in (stranger.get, stranger.post):
        pages = [method(reverse(name, args=[id])) for id in (consent.id, "0" * 64)]
        assert {page.status_code for page in pages} <= {404, 405}
        assert pages[0].status_code == pages[1].status_code
    consent.refresh_from_db()
    assert consent.stopped_at is None


def test_staff_without_records_go_to_their_own_site(client: Client, bob: Any) -> None:
    client.force_login(bob, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/home")["Location"] == reverse("staff")


def test_an_account_without_records_is_told_so(client: Client, user: Any) -> None:
    client.force_login(user("eve"), backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/home").status_code == 403


@pytest.mark.parametrize("name", ["start", "account_login", "home", "requests", "choices", "access"])
def test_pages_carry_a_strict_policy_and_nothing_inline(browser: Client, name: str) -> None:
    page = browser.get(reverse(name), follow=True)
    assert "default-src 'self'" in page["Content-Security-Policy"]
    assert "unsafe" not in page["Content-Security-Policy"]
    html = page.content.decode()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", html)
    for tag in re.findall(r"<script[^>]*>", html):
        assert "src=" in tag or 'type="application/json"' in tag
    assert not re.search(r"""(?:src|href|action)="(?:https?:)?//""", html)


def test_pages_of_a_person_are_not_kept_by_the_browser(browser: Client) -> None:
    assert "no-store" in browser.get("/home")["Cache-Control"]


@pytest.mark.parametrize("more", [1, 30])
@pytest.mark.parametrize("name", ["home", "requests", "choices", "access"])
def test_lists_take_few_queries_however_long(
    browser: Client, alice: Any, helix: Any, name: str, more: int, django_assert_max_num_queries: Any
) -> None:
    for _ in range(more):
        in_force(ask(helix, alice))
        ask(helix, alice)
    with django_assert_max_num_queries(15):
        assert browser.get(reverse(name)).status_code == 200


@pytest.mark.parametrize("name", ["question", "choose", "check", "done"])
def test_pages_of_one_question_take_few_queries(
    browser: Client, question: ConsentRequest, name: str, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(15):
        browser.get(reverse(name, args=[question.id]))


def test_the_full_text_can_be_read_by_its_hash_by_anyone(client: Client, question: ConsentRequest) -> None:
    page = client.get(reverse("notice", args=[question.notice.digest]))
    assert question.notice.digest in page.content.decode()
    assert client.get(reverse("notice", args=["0" * 64])).status_code == 404


def test_the_full_text_leads_back_to_where_it_was_opened(browser: Client, question: ConsentRequest) -> None:
    choice = in_force(question)
    for page in (f"/requests/{question.id}", f"/choices/{choice.id}"):
        (link,) = re.findall(r'href="(/notices/[^"]+)"', browser.get(page).content.decode())
        browser.cookies["django_language"] = "es"
        text = browser.get(link).content.decode()
        assert f'<a href="{page}" class="govuk-back-link"' in text
        (spanish,) = re.findall(r'href="(/notices/[^"]+)" hreflang="es">Leer', text)
        assert f'<a href="{page}" class="govuk-back-link"' in browser.get(spanish).content.decode()
        del browser.cookies["django_language"]
    plain = reverse("notice", args=[question.notice.digest])
    for came_from in ("", "?question=", "?question=//example.org", "?choice=../x", "?page=home"):
        assert "govuk-back-link" not in browser.get(plain + came_from).content.decode()


def test_the_full_text_is_offered_in_the_language_of_the_page(
    client: Client, question: ConsentRequest
) -> None:
    """Also to who opens its address without having seen the question."""
    address = reverse("notice", args=[question.notice.digest])
    assert "Read this text in English" not in client.get(address).content.decode()
    client.cookies["django_language"] = "es"
    page = client.get(address).content.decode()
    (there,) = re.findall(r'href="(/notices/[^"]+)" hreflang="es">Leer este texto en español', page)
    page = client.get(there).content.decode()
    assert '<div lang="es" dir="auto">' in page
    assert "Leer este texto" not in page


def test_every_state_has_words(browser: Client, alice: Any, helix: Any) -> None:
    from django.template.loader import render_to_string

    from consent.state import State

    words = {render_to_string("includes/state.html", {"state": state}).strip() for state in State}
    assert "" not in words
    assert len(words) == len(State)
    assert not Consent.objects.exists()


def test_an_askers_words_are_marked_as_the_language_they_are_in(
    browser: Client, alice: Any, helix: Any, member: Any
) -> None:
    """WCAG 3.1.2: a screen reader that reads Spanish pages does not read English aloud as Spanish."""
    asked = ask(helix, alice, who_sees="Your own doctor.", what_can_go_wrong="It can be wrong.")
    browser.cookies["django_language"] = "es"
    marked = '<span lang="en" dir="auto">{}</span>'
    for page in ("/home", "/requests", f"/requests/{asked.id}"):
        text = browser.get(page).content.decode()
        assert '<html lang="es"' in text
        assert marked.format(asked.what_for) in text
        assert text.count(asked.what_for) == text.count(marked.format(asked.what_for))
    assert marked.format("Your own doctor.") in text
    assert marked.format("It can be wrong.") in text
    notice = browser.get(reverse("notice", args=[asked.notice.digest])).content.decode()
    assert f'<div lang="en" dir="auto">\n<h1 class="govuk-heading-l">{asked.notice.title}</h1>' in notice
    reviewer = member("reviewer")
    reviewer.cookies["django_language"] = "es"
    assert marked.format(asked.what_for) in reviewer.get(f"/staff/requests/{asked.id}").content.decode()

"""News: what is queued with each act, how it goes out by email, and the page."""

import smtplib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from consent import news, representatives, services
from consent.models import ConsentRequest, News
from gateway.accounts.letters import CLAIM, say, send_letters
from gateway.accounts.models import User
from gateway.portal.news import OWN_PAGES, PAGE, PAGES
from ledger.errors import InvalidInput
from tests.questions import ask_unread, commit, grant, reviewer
from tests.representing import minor, of_age_in, represent

pytestmark = pytest.mark.django_db

Kind = News.Kind


def kinds(patient: Any) -> list[str]:
    return list(News.objects.filter(patient=patient).order_by("pk").values_list("kind", flat=True))


def tell(patient: Any, kind: str, count: int = 1) -> None:
    for _ in range(count):
        news.tell(patient=patient, kind=Kind(kind))


class Dead(EmailBackend):
    """A mail server that fails, with words that nobody should log."""

    def send_messages(self, messages: Any) -> int:
        raise smtplib.SMTPRecipientsRefused({"alice@example.org": (550, b"no such mailbox")})


class DiesAfter(EmailBackend):
    """It takes the letter, and then the connection is gone."""

    def send_messages(self, messages: Any) -> int:
        super().send_messages(messages)
        raise smtplib.SMTPServerDisconnected("gone")


# What is queued


def test_acts_of_consent_are_news(alice: Any, question: ConsentRequest) -> None:
    consent = grant(question)
    commit(consent)
    commit(consent)  # heard twice
    services.revoke(consent=consent, patient=alice, stop_now=lambda id: None)
    assert kinds(alice) == ["question", "sealed", "stopped"]
    assert News.objects.get(kind="question").about == question.id
    assert News.objects.get(kind="sealed").about == consent.id


def test_who_may_act_for_her_is_news_and_so_is_its_end(alice: Any, user: Any) -> None:
    first, second = represent(alice, user("ana")), represent(alice, user("leo"))
    representatives.end_by_patient(representative=first, patient=alice)  # she knows
    representatives.end_by_clinic(representative=second, by=reviewer())
    assert kinds(alice) == ["acts_for", "acts_for", "acts_no_more"]
    refused = {"name": "Bo", "role": "parent"}
    with pytest.raises(InvalidInput):
        represent(alice, None, **refused)
    assert len(kinds(alice)) == 3


def test_coming_of_age_is_news_once_however_many_acted(alice: Any, charlie: Any, user: Any) -> None:
    minor(alice, days=20)
    for name in ("ana", "leo"):
        represent(alice, user(name), role="parent", name=name)
    represent(charlie, user("eve"))  # a grown-up's attorney
    assert representatives.tell_birthdays() == 0
    of_age_in(alice, days=0)
    assert representatives.tell_birthdays() == 1
    assert representatives.tell_birthdays() == 0
    assert kinds(alice).count("of_age") == 1
    assert "of_age" not in kinds(charlie)
    send_letters()
    assert any("You are an adult now" in letter.body for letter in mail.outbox)


def test_a_birthday_of_long_ago_is_told_on_the_pages_alone(alice: Any, user: Any) -> None:
    minor(alice, days=20)
    represent(alice, user("ana"), role="parent")
    of_age_in(alice, days=-90)
    assert representatives.tell_birthdays() == 0


def test_a_question_in_review_is_no_news(alice: Any, helix: Any) -> None:
    ask_unread(helix, alice)
    assert kinds(alice) == []


def test_news_and_its_act_are_kept_together_or_not_at_all(alice: Any, question: ConsentRequest) -> None:
    def act() -> None:
        with transaction.atomic():
            commit(grant(question))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        act()
    assert kinds(alice) == ["question"]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("job.released", ["use"]),
        ("job.denied", ["blocked"]),
        ("job.stopped", ["blocked"]),
        ("job.delivered", ["result"]),
        ("job.failed", []),
    ],
)
def test_steps_of_a_job_are_news(alice: Any, kind: str, told: list[str]) -> None:
    news.tell_of_use(kind, patient=alice.pk, use="aa" * 32)
    assert kinds(alice) == told


# By email


def test_a_letter_says_what_happened_and_nothing_else(alice: Any, question: ConsentRequest) -> None:
    tell(alice, "blocked", 2)
    tell(alice, "result")
    assert send_letters() == 1
    (sent,) = mail.outbox
    assert sent.to == ["alice@example.org"]
    assert "You were asked a question." in sent.body
    assert "2 times we stopped a computer program" in sent.body
    assert "/news" in sent.body
    whole = sent.subject + sent.body
    for secret in (alice.name, "Helix", question.what_for, question.id, "heart", "Observation"):
        assert secret not in whole
    assert send_letters() == 0


def test_at_once_daily_and_never(alice: Any, charlie: Any, user: Any) -> None:
    alice.user.notices, charlie.user.notices = "daily", "never"
    alice.user.save()
    charlie.user.save()
    for patient in (alice, charlie):
        tell(patient, "use", 3)
    News.objects.update(created_at=datetime(2026, 5, 1, 9, tzinfo=UTC))
    assert send_letters(now=datetime(2026, 5, 1, 23, tzinfo=UTC)) == 0
    assert send_letters(now=datetime(2026, 5, 2, 7, 59, tzinfo=UTC)) == 0
    assert send_letters(now=datetime(2026, 5, 2, 8, 0, tzinfo=UTC)) == 1
    assert mail.outbox[0].to == ["alice@example.org"]
    # A change of mind is about what comes after.
    User.objects.filter(pk=charlie.user.pk).update(notices="at_once")
    assert send_letters() == 0


@pytest.mark.parametrize("notices", ["daily", "never"])
def test_a_copy_that_was_asked_for_is_told_at_once_whatever_was_chosen(alice: Any, notices: str) -> None:
    """Whoever asks in her name could have turned letters off before."""
    alice.user.notices = notices
    alice.user.save()
    tell(alice, "copy")
    assert send_letters() == 1
    assert "If it was not you, call us" in mail.outbox[0].body


@pytest.mark.parametrize("notices", ["daily", "never"])
def test_an_emergency_is_told_at_once_whatever_was_chosen(alice: Any, notices: str) -> None:
    alice.user.notices = notices
    alice.user.save()
    tell(alice, "use")
    tell(alice, "emergency")
    assert send_letters() == 1
    assert "in an emergency" in mail.outbox[0].body
    assert "computer program" not in mail.outbox[0].body


@pytest.mark.parametrize("notices", ["daily", "never"])
def test_who_may_act_for_her_is_told_at_once_whatever_was_chosen(alice: Any, notices: str) -> None:
    """Whoever forged the paper could have turned letters off before."""
    alice.user.notices = notices
    alice.user.save()
    represent(alice, None)
    assert send_letters() == 1
    assert "someone may act for you" in mail.outbox[0].body
    assert "Ana" not in mail.outbox[0].body


def test_a_dead_mail_server_loses_nothing_and_is_asked_less_and_less(
    alice: Any, settings: Any, caplog: Any
) -> None:
    tell(alice, "result")
    live, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, f"{__name__}.Dead"
    now = timezone.now()
    assert send_letters(now=now) == 0
    assert send_letters(now=now + timedelta(seconds=119)) == 0
    first = News.objects.get()
    assert (first.mail, first.tries) == ("due", 1)
    tell(alice, "blocked")
    assert send_letters(now=now + timedelta(seconds=121)) == 0
    assert "alice" not in caplog.text
    settings.EMAIL_BACKEND = live
    later = now + timedelta(hours=2)
    assert send_letters(now=later) + send_letters(now=later) == 2
    assert [("result was sent" in one.body, "we stopped" in one.body.lower()) for one in mail.outbox] == [
        (True, False),
        (False, True),
    ]


def test_a_letter_that_is_sent_again_is_the_same_letter(alice: Any, settings: Any) -> None:
    tell(alice, "result")
    live, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, f"{__name__}.DiesAfter"
    send_letters()
    settings.EMAIL_BACKEND = live
    tell(alice, "blocked")
    send_letters(now=timezone.now() + timedelta(minutes=3))
    first, again = mail.outbox[0], mail.outbox[-1]
    first_id, again_id = first.extra_headers["Message-ID"], again.extra_headers["Message-ID"]
    bodies = {one.extra_headers["Message-ID"]: one.body for one in mail.outbox}
    assert len(bodies) == 2 or first_id == again_id
    assert "result" in bodies[first_id]
    assert "blocked" not in bodies[first_id]


def test_two_relays_send_one_letter(alice: Any, monkeypatch: Any) -> None:
    """What one has claimed, another leaves alone until the claim is over."""
    tell(alice, "result")
    monkeypatch.setattr("gateway.accounts.letters._send", lambda rows, now: False)
    now = timezone.now()
    send_letters(now=now)
    monkeypatch.undo()
    assert send_letters(now=now + timedelta(minutes=1)) == 0
    assert send_letters(now=now + CLAIM) == 1


def test_a_letter_comes_in_the_language_of_its_reader(alice: Any) -> None:
    alice.user.language = "es"
    alice.user.save()
    tell(alice, "result")
    send_letters()
    assert len(mail.outbox) == 1


def test_who_has_no_account_gets_no_letter(alice: Any) -> None:
    alice.user = None
    alice.save()
    tell(alice, "result")
    assert send_letters() == 0


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_words_and_a_page(kind: News.Kind) -> None:
    assert say(kind, 1)
    # These are the same however often.
    if kind not in (Kind.PASSKEYS, Kind.WAY_BACK, Kind.OF_AGE):
        assert say(kind, 1) != say(kind, 2)
        assert "2" in say(kind, 2)
    assert (kind in PAGES) != (kind in OWN_PAGES)


# The page


def test_the_page_lists_ones_own_and_links_to_what_it_is_about(
    browser: Client, charlie: Any, question: ConsentRequest
) -> None:
    tell(charlie, "emergency")
    page = browser.get("/news").content.decode()
    assert f"/requests/{question.id}" in page
    assert "emergency" not in page.replace("emergency-", "")


def test_many_news_take_as_many_queries_as_few(browser: Client, alice: Any) -> None:
    browser.get("/news")  # the session notes when it was begun
    counts = []
    for more in (2, 2_000):
        News.objects.bulk_create(News(patient=alice, kind="use", about="aa" * 32) for _ in range(more))
        with CaptureQueriesContext(connection) as queries:
            page = browser.get("/news").content.decode()
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 15
    assert page.count("<dt") == PAGE
    last = News.objects.order_by("-pk")[PAGE - 1].pk
    assert f"before={last}" in page
    assert browser.get(f"/news?before={last}").content.decode().count("<dt") == PAGE


# Settings


def test_settings_are_kept_with_the_person(browser: Client, alice: Any) -> None:
    assert 'class="govuk-template"' in browser.get("/settings").content.decode()
    chosen = {"notices": "daily", "language": "es", "large_text": "on"}
    answer = browser.post("/settings", chosen)
    assert answer.status_code == 302
    alice.user.refresh_from_db()
    assert (alice.user.notices, alice.user.language, alice.user.large_text) == ("daily", "es", True)

    elsewhere = Client(headers={"accept-language": "en"})
    elsewhere.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    page = elsewhere.get("/settings").content.decode()
    assert 'lang="es"' in page[:200]
    assert "gw-large" in page[:300]
    # The browser remembers both for the pages before signing in.
    del browser.cookies["sessionid"]
    before = browser.get("/")
    assert before["Content-Language"] == "es"


@pytest.mark.parametrize("wrong", [{"notices": "hourly"}, {"language": "xx"}, {"notices": ""}])
def test_settings_that_were_not_offered_change_nothing(
    browser: Client, alice: Any, wrong: dict[str, str]
) -> None:
    answer = browser.post("/settings", {"notices": "never", "language": "es", **wrong})
    assert answer.status_code == 200
    assert "There is a problem" in answer.content.decode()
    alice.user.refresh_from_db()
    assert (alice.user.notices, alice.user.language) == ("at_once", "")


def test_settings_need_a_person(db: None) -> None:
    assert Client().get("/settings").status_code == 302

"""/choices, /choices/<id> and /choices/<id>/stop."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format

from consent import services
from consent.models import Consent, ConsentRequest
from gateway.analysis.models import Job, JobSubject, Leg
from gateway.demo.pages import agree
from gateway.keyholder.client import Keyholder
from ledger.errors import KeyholderUnavailable
from ledger.models import LedgerTransaction
from tests.questions import commit, grant, in_force

pytestmark = pytest.mark.django_db(transaction=True)


def stop(browser: Client, consent: Consent) -> Any:
    return browser.post(reverse("stop", args=[consent.id]))


def page(browser: Client, consent: Consent) -> str:
    return browser.get(reverse("choice", args=[consent.id])).content.decode()


def test_stop_is_one_post_and_tells_the_keyholder_at_once(
    browser: Client, question: ConsentRequest, monkeypatch: Any
) -> None:
    consent, told = in_force(question), []
    monkeypatch.setattr(Keyholder, "stop", lambda self, *, consent: told.append(consent))
    assert "Stop sharing" in browser.get("/choices").content.decode()
    assert stop(browser, consent)["Location"] == reverse("stop", args=[consent.id])
    assert told == [consent.id]
    text = page(browser, consent)
    assert "Stopped. Waiting to be sealed" in text
    assert "From then on we open nothing more" in text
    assert "What may still exist" in text
    commit(consent, "ConsentRevoked")
    assert "It was sealed" in page(browser, consent)
    assert "Stop sharing" not in browser.get("/choices").content.decode()


def test_a_copy_that_left_is_not_told_as_a_result(
    browser: Client, alice: Any, question: ConsentRequest
) -> None:
    consent = in_force(question)
    for kind in (Job.Kind.EXPORT, Job.Kind.EXPORT, Job.Kind.ANALYSE):
        job = Job.objects.create(
            requester=question.requester, kind=kind, purpose="HRESCH", index_date="2026-01-01",
            settled_at=timezone.now(),
        )  # fmt: skip
        JobSubject.objects.create(
            job=job, leg=Leg.objects.create(job=job), number=0, asked="x", patient=alice, state="delivered",
            consent=consent.id,
        )  # fmt: skip
    Consent.objects.update(expires_at=timezone.now() - timedelta(days=1))
    text = page(browser, consent)
    assert "got 2 copies of the records. We cannot call them back." in text
    day = date_format(timezone.localdate(), "DATE_FORMAT")
    assert f"got 1 result, on {day}. We cannot call it back." in text
    assert "Ask them to delete what they got" in text


def test_what_waits_to_be_sealed_is_taken_back_and_not_stopped(
    browser: Client, question: ConsentRequest
) -> None:
    consent = grant(question)
    listed = browser.get("/choices").content.decode()
    for text in (listed, page(browser, consent)):
        assert "Take back my yes" in text
        assert "Stop sharing" not in text


def test_what_ended_says_when(browser: Client, question: ConsentRequest) -> None:
    consent = in_force(question)
    ended = timezone.now() - timedelta(days=3)
    Consent.objects.filter(pk=consent.pk).update(expires_at=ended)
    day = date_format(timezone.localtime(ended), "DATE_FORMAT")
    assert day in browser.get("/choices").content.decode()
    assert "It ended, as chosen" in page(browser, consent)


def test_stop_works_without_the_keyholder(
    browser: Client, question: ConsentRequest, monkeypatch: Any
) -> None:
    def unavailable(self: Keyholder, *, consent: str) -> None:
        raise KeyholderUnavailable("It cannot be reached.")

    monkeypatch.setattr(Keyholder, "stop", unavailable)
    consent = in_force(question)
    assert stop(browser, consent).status_code == 302
    consent.refresh_from_db()
    assert consent.stopped_at is not None


def test_the_same_stop_twice_is_one_stop(browser: Client, question: ConsentRequest) -> None:
    consent = in_force(question)
    stop(browser, consent)
    consent.refresh_from_db()
    when = consent.stopped_at
    assert stop(browser, consent).status_code == 302
    consent.refresh_from_db()
    assert consent.stopped_at == when


def test_a_look_at_the_address_stops_nothing(browser: Client, question: ConsentRequest) -> None:
    consent = in_force(question)
    browser.get(reverse("stop", args=[consent.id]))
    consent.refresh_from_db()
    assert consent.stopped_at is None


def test_what_waits_to_be_sealed_can_be_stopped(browser: Client, question: ConsentRequest) -> None:
    consent = grant(question)
    assert "Waiting to be sealed" in browser.get("/choices").content.decode()
    stop(browser, consent)
    consent.refresh_from_db()
    assert consent.stopped_at is not None


def test_every_end_is_told_apart(browser: Client, alice: Any, question: ConsentRequest) -> None:
    consent = in_force(question)
    newer = services.replace(consent=consent, patient=alice, kinds=["Condition"], duration="until")
    commit(newer, "ConsentReplaced")
    assert "Replaced by a newer choice" in page(browser, consent)
    assert newer.id in page(browser, consent)
    Consent.objects.filter(pk=newer.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "Ended" in page(browser, newer)
    Consent.objects.filter(pk=newer.pk).update(ledger_state="refused")
    assert "Not saved. Nothing is shared" in page(browser, newer)


CHANGED = {"kinds": ["Condition"], "duration": "until"}


def test_a_choice_is_changed_through_the_pages_that_made_it(
    browser: Client, question: ConsentRequest
) -> None:
    consent = in_force(question, sensitive=["PSY"])
    to_change = reverse("change", args=[consent.id])
    to_check = reverse("check_change", args=[consent.id])
    assert to_change in page(browser, consent)
    form = browser.get(to_change).content.decode()
    for given in ("Observation", "Condition", "PSY"):
        assert f'value="{given}" checked' in form
    assert form.count(" checked") == 3
    assert "No, do not share" not in form
    assert browser.post(to_change, CHANGED)["Location"] == to_check
    checked = browser.get(to_check).content.decode()
    assert "holds until this is sealed" in checked
    assert to_change + "#id_kinds_0" in checked
    assert agree(browser, to_check)["Location"] == reverse("done", args=[question.id])
    newer = Consent.objects.get(replaces=consent)
    assert (newer.kinds, newer.sensitive, newer.duration) == (["Condition"], [], "until")
    assert "what you chose before holds" in browser.get(reverse("done", args=[question.id])).content.decode()
    assert newer.id in page(browser, consent)
    assert to_change not in page(browser, consent)
    # The same POST twice changes nothing more.
    assert agree(browser, to_check)["Location"] == reverse("choice", args=[consent.id])
    assert Consent.objects.count() == 2
    commit(newer, "ConsentReplaced")
    assert "Replaced by a newer choice" in page(browser, consent)


def test_a_change_that_the_ledger_refused_leaves_the_choice_as_it_was(
    browser: Client, question: ConsentRequest
) -> None:
    consent = in_force(question)
    browser.post(reverse("change", args=[consent.id]), CHANGED)
    agree(browser, reverse("check_change", args=[consent.id]))
    newer = Consent.objects.get(replaces=consent)
    services.record_refused(LedgerTransaction.objects.get(name="ReplaceConsent"))
    assert consent.id in page(browser, newer)
    assert "still holds" in page(browser, newer)
    receipt = browser.get(reverse("done", args=[question.id])).content.decode()
    assert "Sharing part" in receipt
    assert reverse("change", args=[consent.id]) in page(browser, consent)


def test_only_what_is_in_force_is_changed(
    browser: Client, stranger: Client, question: ConsentRequest
) -> None:
    consent = grant(question)
    for name in ("change", "check_change"):
        address = reverse(name, args=[consent.id])
        for answer in (browser.get(address), browser.post(address, CHANGED)):
            assert answer["Location"] == reverse("choice", args=[consent.id])
        assert stranger.post(address, CHANGED).status_code == 404
    commit(consent)
    nothing = browser.post(reverse("change", args=[consent.id]), {"duration": "until"}).content.decode()
    assert "Tick one or more kinds" in nothing
    assert agree(browser, reverse("check_change", args=[consent.id]))["Location"] == reverse(
        "choice", args=[consent.id]
    )
    # It ends between the two pages.
    browser.post(reverse("change", args=[consent.id]), CHANGED)
    stop(browser, consent)
    assert agree(browser, reverse("check_change", args=[consent.id]))["Location"] == reverse(
        "choice", args=[consent.id]
    )
    assert Consent.objects.count() == 1


def test_a_patient_who_never_chose_is_told_so(browser: Client) -> None:
    assert "You have not chosen anything yet" in browser.get("/choices").content.decode()

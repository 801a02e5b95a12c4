"""Webhooks: who is told what, signed, tried again, logged; and that no call reaches our own network."""

import hashlib
import hmac
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from consent import services
from consent.models import Consent, ConsentRequest, Patient, Requester
from gateway.accounts import outbound, webhooks
from gateway.accounts.models import Webhook, WebhookCall
from gateway.relay import HANDLERS
from ledger.client import Event

pytestmark = pytest.mark.django_db
Call = Callable[..., Any]
URL = "https://helix.example/hooks"


class Receiver:
    """What the company's server gets; `statuses` are what it answers with, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.got = list(statuses) or [204], []

    def __call__(self, url: str, *, method: str, body: bytes, headers: dict[str, str]) -> outbound.Answer:
        self.got: list[tuple[str, bytes, str]]
        self.got.append((url, body, headers[webhooks.SIGNATURE]))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 0:
            raise outbound.Unreachable("The address did not answer.")
        return outbound.Answer(status, {}, b"")


@pytest.fixture
def hook(call: Call) -> dict[str, Any]:
    answer = call("POST", "webhooks", {"url": URL, "events": ["job.updated", "consent.changed"]})
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


@pytest.fixture
def job(call: Call, question: dict[str, Any], hook: dict[str, Any]) -> str:
    """A job that has ended."""
    asked = call("POST", "consent-requests", question).json()["id"]
    body = {"model": question["model"], "purpose": "HRESCH", "requests": [asked]}
    id = str(call("POST", "jobs", body).json()["id"])
    call("POST", f"jobs/{id}/cancel")
    return id


def test_a_webhook_is_registered_with_a_secret_shown_once(call: Call, hook: dict[str, Any]) -> None:
    assert len(hook["secret"]) == 43
    (listed,) = call("GET", "webhooks").json()["webhooks"]
    assert listed == {name: value for name, value in hook.items() if name != "secret"}


def test_a_call_is_signed_with_its_time(hook: dict[str, Any], job: str) -> None:
    receiver = Receiver()
    assert webhooks.send_due(call=receiver) == 1
    ((url, body, signature),) = receiver.got
    assert url == URL
    at, _, signed = signature.partition(",v1=")
    expected = hmac.new(hook["secret"].encode(), at[2:].encode() + b"." + body, hashlib.sha256)
    assert signed == expected.hexdigest()
    assert abs(int(at[2:]) - timezone.now().timestamp()) < 60
    assert webhooks.send_due(call=receiver) == 0


def test_a_call_says_what_changed_and_nothing_of_it(job: str) -> None:
    body = WebhookCall.objects.get().body
    assert body == {"id": body["id"], "type": "job.updated", "at": body["at"], "job": job}


def test_a_consent_that_changed_is_told_to_whoever_asked(
    call: Call, question: dict[str, Any], hook: dict[str, Any], alice: Patient
) -> None:
    other = Requester.objects.create(name="Other AI")
    webhooks.register(requester=other, url=URL, events=["consent.changed"])
    asked = call("POST", "consent-requests", question).json()["id"]
    services.grant(
        request=ConsentRequest.objects.get(), patient=alice, kinds=["Observation"], duration="until"
    )
    consent = Consent.objects.get()
    for name in ("ConsentGranted", "ConsentRevoked"):
        HANDLERS[name](Event(1, 0, "f" * 64, name, {"consent": consent.pk}))
    told = WebhookCall.objects.all()
    assert {each.webhook_id for each in told} == {Webhook.objects.get(requester__name="Helix AI").pk}
    assert [each.body["request"] for each in told] == [asked, asked]
    assert {each.event for each in told} == {"consent.changed"}


def test_a_yes_that_was_stopped_before_it_came_into_force_is_as_a_no(
    call: Call, question: dict[str, Any], hook: dict[str, Any], alice: Patient
) -> None:
    call("POST", "consent-requests", question)
    consent = services.grant(
        request=ConsentRequest.objects.get(), patient=alice, kinds=["Observation"], duration="until"
    )
    services.revoke(consent=consent, patient=alice, stop_now=lambda id: None)
    for name in ("ConsentGranted", "ConsentRevoked"):
        HANDLERS[name](Event(1, 0, "f" * 64, name, {"consent": consent.pk}))
    assert Consent.objects.get().ledger_state == Consent.LedgerState.REVOKED
    assert not WebhookCall.objects.exists()


def test_a_call_is_tried_again_and_given_up_in_the_end(job: str) -> None:
    receiver = Receiver(500, 0, 302, 404, 500, 500)
    for tries in range(1, len(webhooks.PAUSES) + 1):
        assert webhooks.send_due(call=receiver) == 1
        one = WebhookCall.objects.get()
        assert one.tries == tries
        assert one.next_at > timezone.now()
        WebhookCall.objects.update(next_at=timezone.now())
        assert webhooks.send_due(call=receiver) == 0  # its endpoint rests
        Webhook.objects.update(rests_until=None)
    assert one.state == "failed"
    assert webhooks.send_due(call=receiver) == 0


def test_the_log_is_read_and_a_call_sent_again(call: Call, hook: dict[str, Any], job: str) -> None:
    webhooks.send_due(call=Receiver(500))
    path = f"webhooks/{hook['id']}/calls"
    (one,) = call("GET", path).json()["calls"]
    assert (one["state"], one["status"], one["tries"], one["body"]["job"]) == ("pending", 500, 1, job)
    assert call("POST", f"{path}/{one['id']}/resend").status_code == 202
    webhooks.send_due(call=Receiver(200))
    assert call("GET", path).json()["calls"][0]["state"] == "delivered"
    assert call("POST", f"{path}/{'0' * 32}/resend").status_code == 404


def test_a_webhook_ends_with_its_log(call: Call, hook: dict[str, Any], job: str) -> None:
    assert call("DELETE", f"webhooks/{hook['id']}").status_code == 204
    assert not WebhookCall.objects.exists()
    assert call("GET", f"webhooks/{hook['id']}/calls").json()["code"] == "not_available"


def test_anothers_webhook_looks_like_none(call: Call, hook: dict[str, Any]) -> None:
    Webhook.objects.update(requester=Requester.objects.create(name="Other AI"))
    for method, path in (("GET", "/calls"), ("DELETE", ""), ("POST", f"/calls/{'0' * 32}/resend")):
        assert call(method, f"webhooks/{hook['id']}{path}").status_code == 404
    assert Webhook.objects.exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"url": "http://helix.example/"}, "address"),
        ({"url": "https://user:x@helix.example/"}, "address"),
        ({"events": []}, "invalid_input"),
        ({"events": ["everything"]}, "invalid_input"),
    ],
)
def test_what_cannot_be_told_is_refused(call: Call, change: dict[str, Any], code: str) -> None:
    answer = call("POST", "webhooks", {"url": URL, "events": ["job.updated"], **change})
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_there_are_so_many_and_no_more(call: Call, helix: Requester) -> None:
    for _ in range(webhooks.MOST):
        webhooks.register(requester=helix, url=URL, events=["job.updated"])
    answer = call("POST", "webhooks", {"url": URL, "events": ["job.updated"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_webhooks")


def test_no_call_reaches_our_own_network(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "_resolve", lambda host, port: ["169.254.169.254"])
    assert webhooks.send_due() == 1
    one = WebhookCall.objects.get()
    assert (one.state, one.status) == ("pending", 0)


# One company's dead endpoint


def tell(requester: Requester, number: int, url: str) -> None:
    """So many calls wait for an endpoint of this company."""
    made, _ = webhooks.register(requester=requester, url=url, events=["job.updated"])
    for _each in range(number):
        webhooks.tell(requester=requester, event="job.updated", job="0" * 64)
    assert made.calls.count() == number


class DeadAndAlive:
    """Answers for every address but those of `dead`, and keeps the order in which it was called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __call__(self, url: str, **_asked: Any) -> outbound.Answer:
        self.called.append(url)
        if "dead" in url:
            raise outbound.Unreachable("No answer.")
        return outbound.Answer(200, {}, b"")


def test_a_dead_endpoint_with_many_calls_keeps_nobody_waiting(db: None) -> None:
    dead, alive = (Requester.objects.create(name=name) for name in ("Dead AI", "Alive AI"))
    tell(dead, 100, "https://dead.example/")
    tell(alive, 3, "https://alive.example/")
    both = DeadAndAlive()
    assert webhooks.send_due(call=both) == 4
    # The dead one had one call in the first wave and none after it; every call of the other is delivered.
    assert sorted(both.called[:2]) == ["https://alive.example/", "https://dead.example/"]
    assert both.called[2:] == ["https://alive.example/"] * 2
    assert WebhookCall.objects.filter(state="delivered").count() == 3
    assert webhooks.send_due(call=both) == 0


def test_a_dead_endpoint_rests_longer_each_time_and_an_answer_ends_that(db: None) -> None:
    requester = Requester.objects.create(name="Dead AI")
    tell(requester, 20, "https://dead.example/")
    rests = []
    for _ in range(8):
        Webhook.objects.update(rests_until=None)
        begun = timezone.now()
        assert webhooks.send_due(call=DeadAndAlive()) == 1
        rests.append((Webhook.objects.get().rests_until - begun).total_seconds())
    assert [round(each / 60) for each in rests] == [1, 2, 4, 8, 15, 15, 15, 15]
    Webhook.objects.update(rests_until=None, url="https://alive.example/")
    assert webhooks.send_due(call=DeadAndAlive()) == 20 - 8
    assert (Webhook.objects.get().failures, Webhook.objects.get().rests_until) == (0, None)


def test_more_endpoints_than_a_wave_holds_take_turns(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "AT_ONCE", 2)
    monkeypatch.setattr(webhooks, "WAVES", 1)
    for name in "abcde":
        tell(Requester.objects.create(name=name), 3, f"https://{name}.example/")
    heard = DeadAndAlive()
    for _ in range(5):
        assert webhooks.send_due(call=heard) == 2
    assert {heard.called.count(f"https://{name}.example/") for name in "abcde"} == {2}


def test_old_calls_are_forgotten(job: str) -> None:
    WebhookCall.objects.update(created_at=timezone.now() - timedelta(days=31), state="delivered")
    webhooks.send_due(call=Receiver())
    assert not WebhookCall.objects.exists()

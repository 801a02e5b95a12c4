"""Withdrawal after training: which models are concerned, and a ticket that somebody closes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from consent import services
from consent.models import Consent, Patient, Requester
from gateway.analysis import registrations
from gateway.analysis.models import AIModel, Job, JobSubject, ModelRegistration
from gateway.compliance import retraining
from gateway.compliance.models import Retraining
from ledger.audit import sealing
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput, RefusedTransition
from tests.api.conftest import application, call, token_for
from tests.questions import ask, commit, in_force

__all__ = ["application", "call", "token_for"]  # fixtures

pytestmark = pytest.mark.django_db

Use = Callable[..., str]


@pytest.fixture
def copy(alice: Patient, helix: Requester, pce: AIModel, use: Use) -> JobSubject:
    """A copy of alice's records that left, before any model below was registered."""
    AIModel.objects.update(created_at=timezone.now() - timedelta(days=9))
    consent = in_force(ask(helix, alice, action="disclose", model="", use=["GRU"]))
    key = use(consent, "job.released", "job.delivered", kind="export")
    return JobSubject.objects.select_related("job").get(pk=key)


def version(helix: Requester, digit: str, trained_on: list[str] | None) -> ModelRegistration:
    return registrations.register(
        requester=helix, digest=digit * 64, name=f"Model {digit}", version="1", card={"for": "x"},
        people=100, wrong=1, trained_on=trained_on,
    )  # fmt: skip


def withdrawn(copy: JobSubject) -> Consent:
    consent = Consent.objects.get(pk=copy.consent)
    services.revoke(consent=consent, patient=consent.patient, stop_now=lambda _id: None)
    commit(consent, "ConsentRevoked")
    sealing.seal()
    return consent


def digests(ticket: Retraining) -> dict[str, bool]:
    return {one.digest[0]: said for one, said in retraining.concerned_by(ticket)}


def test_what_learned_from_it_and_what_may_have(copy: JobSubject, helix: Requester, user: Any) -> None:
    version(helix, "a", [copy.job_id])
    version(helix, "b", [])
    version(helix, "c", None)
    other = Requester.objects.create(name="Another")
    version(other, "d", None)
    withdrawn(copy)
    assert retraining.watch() == 1
    ticket = Retraining.objects.get()
    assert (ticket.consent, ticket.requester, ticket.state) == (copy.consent, helix, "open")
    assert digests(ticket) == {"a": True, "c": False}  # and not pce, which was there before the copy left
    assert AuditRow.objects.filter(kind="retraining.opened").count() == 1


def test_each_withdrawal_is_one_ticket(copy: JobSubject) -> None:
    withdrawn(copy)
    assert [retraining.watch(), retraining.watch()] == [1, 0]
    sealing.seal()
    assert retraining.watch() == 0
    assert Retraining.objects.count() == 1


def test_no_copy_no_ticket(alice: Patient, helix: Requester, pce: AIModel, use: Use) -> None:
    """A result of a model is no training; neither is a copy that did not leave, or a yes that stands."""
    analysed = in_force(ask(helix, alice, model=pce.digest))
    withdrawn(JobSubject.objects.get(pk=use(analysed, "job.released", "job.delivered")))
    standing = in_force(ask(helix, alice, action="disclose", model="", use=["GRU"]))
    use(standing, "job.released", "job.delivered", kind="export")
    denied = in_force(ask(helix, alice, action="disclose", model="", use=["HMB"]))
    key = use(denied, "job.denied", kind="export")
    JobSubject.objects.filter(pk=key).update(state="not_available")
    withdrawn(JobSubject.objects.get(pk=key))
    assert retraining.watch() == 0


def test_what_was_used_up_is_not_withdrawn(copy: JobSubject) -> None:
    Consent.objects.filter(pk=copy.consent).update(duration="once")
    services.use_up(consents=[copy.consent], stop_now=lambda _id: None)
    commit(Consent.objects.get(pk=copy.consent), "ConsentRevoked")
    sealing.seal()
    assert retraining.watch() == 0


def test_a_delivery_that_is_written_down_after_the_stop(copy: JobSubject, use: Use) -> None:
    JobSubject.objects.filter(pk=copy.pk).update(state="released")
    consent = withdrawn(copy)
    assert retraining.watch() == 0
    use(consent, "job.delivered", kind="export")
    sealing.seal()
    assert retraining.watch() == 1


def test_a_patient_who_was_erased(copy: JobSubject) -> None:
    """Her rows are gone before the log was read: the ticket is opened all the same, and leads to nobody."""
    consent = withdrawn(copy)
    JobSubject.objects.update(patient=None, request=None)
    Consent.objects.filter(pk=consent.pk).delete()
    assert retraining.watch() == 1
    assert [one.pk for one in retraining.copies([Retraining.objects.get().consent])] == [copy.pk]


def test_it_is_closed_with_a_reason(copy: JobSubject, dana: Any, bob: Any) -> None:
    withdrawn(copy)
    retraining.watch()
    ticket = Retraining.objects.get()
    retraining.take(ticket=ticket, by=dana)
    retraining.ask(ticket=ticket, by=dana)
    with pytest.raises(RefusedTransition) as refused:
        retraining.ask(ticket=ticket, by=bob)
    assert refused.value.code == "retraining_asked"
    for outcome, reason in (("retrained", "short"), ("made up", "It was trained anew in May.")):
        with pytest.raises(InvalidInput):
            retraining.settle(ticket=ticket, by=dana, outcome=outcome, reason=reason)
    retraining.settle(ticket=ticket, by=dana, outcome="retrained", reason="It was trained anew in May.")
    ticket.refresh_from_db()
    assert (ticket.state, ticket.outcome, ticket.settled_by) == ("settled", "retrained", dana)
    for act in (retraining.take, retraining.ask):
        with pytest.raises(RefusedTransition) as refused:
            act(ticket=ticket, by=bob)
        assert refused.value.code == "retraining_settled"
    kinds = AuditRow.objects.filter(kind__startswith="retraining.").order_by("pk")
    assert [row.kind.partition(".")[2] for row in kinds] == ["opened", "asked", "settled"]


def test_the_pages(copy: JobSubject, helix: Requester, member: Any) -> None:
    version(helix, "a", [copy.job_id])
    version(helix, "c", None)
    withdrawn(copy)
    retraining.watch()
    ticket = Retraining.objects.get()
    officer, auditor = member("compliance"), member("auditor")
    assert f"/staff/retraining/{ticket.pk}" in officer.get("/staff/retraining").content.decode()
    page = auditor.get(f"/staff/retraining/{ticket.pk}").content.decode()
    assert "Model a 1: the provider says so" in page
    assert "Model c 1: the provider did not say" in page
    assert "Save" not in page
    for act in ("own", "ask", "settle"):
        assert auditor.post(f"/staff/retraining/{ticket.pk}/{act}").status_code == 403
    officer.post(f"/staff/retraining/{ticket.pk}/own")
    officer.post(f"/staff/retraining/{ticket.pk}/ask")
    assert "(1)" in officer.get("/staff/retraining?show=asked").content.decode()
    assert officer.post(f"/staff/retraining/{ticket.pk}/settle", {"outcome": "kept"}).status_code == 400
    given = {"outcome": "retired", "reason": "Both were taken out of use."}
    officer.post(f"/staff/retraining/{ticket.pk}/settle", given)
    page = officer.get(f"/staff/retraining/{ticket.pk}").content.decode()
    assert "The versions are not used any more" in page
    assert "Tell the AI provider" not in page
    assert member("clinician").get("/staff/retraining").status_code == 403


def test_the_provider_reads_it_once_it_was_told(
    copy: JobSubject, helix: Requester, dana: Any, call: Callable[..., Any]
) -> None:
    version(helix, "a", [copy.job_id])
    version(helix, "b", [])
    withdrawn(copy)
    retraining.watch()
    ticket = Retraining.objects.get()
    assert call("GET", f"models/{'a' * 64}").json()["retraining"] == []
    retraining.ask(ticket=ticket, by=dana)
    told = call("GET", f"models/{'a' * 64}").json()
    assert told["trained_on"] == [copy.job_id]
    (one,) = told["retraining"]
    assert (one["id"], one["withdrawn"]) == (ticket.pk, [{"job": copy.job_id, "subject": copy.pk}])
    listed = {each["digest"][0]: each["retraining"] for each in call("GET", "models").json()["models"]}
    assert (len(listed["a"]), listed["b"]) == (1, [])
    retraining.settle(ticket=ticket, by=dana, outcome="retrained", reason="It was trained anew in May.")
    assert call("GET", f"models/{'a' * 64}").json()["retraining"] == []


def test_only_delivered_copies_of_one_s_own_can_be_named(
    copy: JobSubject, helix: Requester, use: Use, call: Callable[..., Any]
) -> None:
    other = Requester.objects.create(name="Another")
    with pytest.raises(InvalidInput) as refused:
        version(other, "a", [copy.job_id])
    assert refused.value.code == "trained_on"
    body = {
        "digest": "a" * 64, "name": "A", "version": "1", "card": {"for": "x"},
        "tested": {"people": 100, "wrong": 1},
    }  # fmt: skip
    answer = call("POST", "models", {**body, "trained_on": ["00" * 32]})
    assert (answer.status_code, answer.json()["code"]) == (400, "trained_on")
    Job.objects.filter(pk=copy.job_id).update(state="failed")
    assert call("POST", "models", {**body, "trained_on": [copy.job_id]}).status_code == 400
    Job.objects.filter(pk=copy.job_id).update(state="done")
    assert call("POST", "models", {**body, "trained_on": [copy.job_id]}).json()["trained_on"] == [copy.job_id]

"""Withdrawal after training: a patient stops, and a copy of her records has left before. What learned of it?

The log says when a consent was revoked; the jobs, which copies had left under it; the provider, which copies
each version of its models learned from. What it did not say counts as learned: a version that it registered
after it had the copy is concerned until it says otherwise. Each withdrawal is one ticket with an owner.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from consent.models import Consent, Requester
from gateway.accounts.models import User
from gateway.analysis.models import AIModel, Job, JobSubject, ModelRegistration
from gateway.compliance.models import SHORTEST, Retraining
from gateway.compliance.watching import RETRAINING, read_on
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput, RefusedTransition

KINDS = ("consent.revoked", "job.delivered")
RELAY = Actor.system("relay")

State, Outcome = Retraining.State, Retraining.Outcome


@dataclass(frozen=True)
class Version:
    """One version of a model; `trained_on`: the jobs whose copies its provider says that it learned from,
    None where it said nothing."""

    digest: str
    name: str
    version: str
    registered_at: datetime
    trained_on: frozenset[str] | None

    def learned_from(self, jobs: Collection[Job]) -> bool | None:
        """Whether it learned from these copies; None: it was registered after one had left, and nothing is
        said."""
        if self.trained_on is not None:
            return bool(self.trained_on & {job.pk for job in jobs})
        return None if any(self.registered_at >= job.created_at for job in jobs) else False


def watch() -> int:
    """Read the log on, and open a ticket for each withdrawal after a copy had left; how many."""
    return read_on(RETRAINING, KINDS, _open)


def _open(rows: Sequence[AuditRow]) -> int:
    """A copy's delivery may be written down after the stop that came after it: then that row opens it."""
    told = {}
    for row in rows:
        details = json.loads(bytes(row.line))["details"]
        if consent := details.get("consent"):
            told[consent] = (row.recorded_at, row.kind)
    had = set(copies(told).values_list("consent", flat=True))
    consents = Consent.objects.in_bulk(sorted(had))
    opened = 0
    for consent, (at, kind) in told.items():
        if consent in had and _is_withdrawn(consents.get(consent), kind):
            opened += _ticket(consent, at)
    return opened


def _is_withdrawn(consent: Consent | None, kind: str) -> bool:
    """Stopped, and not used up; where her row is gone, she was erased."""
    if consent is None:
        return True
    used_up = consent.duration == Consent.Duration.ONCE and consent.stopped_by == "system"
    return not used_up and (kind == "consent.revoked" or consent.ledger_state == Consent.LedgerState.REVOKED)


def _ticket(consent: str, at: datetime) -> bool:
    requester = copies([consent])[0].job.requester
    _made, is_new = Retraining.objects.get_or_create(
        consent=consent, defaults={"requester": requester, "withdrawn_at": at}
    )
    if is_new:
        record(kind="retraining.opened", actor=RELAY, consent=consent, requester=str(requester.pk))
    return is_new


# What it is about, by jobs and registrations


def copies(consents: Any) -> QuerySet[JobSubject]:
    """The copies that left under these consents, the first first."""
    left = JobSubject.objects.filter(
        consent__in=consents, job__kind=Job.Kind.EXPORT, state=JobSubject.State.DELIVERED
    )
    return left.select_related("job__requester").order_by("job__created_at", "pk")


def versions_of(requesters: Collection[Requester]) -> dict[Any, list[Version]]:
    """Every version that these providers have here or registered, by the provider's id. Two queries."""
    found: dict[Any, dict[str, Version]] = {one.pk: {} for one in requesters}
    for model in AIModel.objects.filter(provider__in=requesters):
        found[model.provider_id][model.digest] = Version(
            model.digest, model.name, model.version, model.created_at, None
        )
    # What was said last of a digest counts; what the hospital proposed says nothing of it.
    said = ModelRegistration.objects.filter(requester__in=requesters, tested_people__isnull=False)
    for row in said.order_by("created_at", "pk"):
        learned = None if row.trained_on is None else frozenset(row.trained_on)
        found[row.requester_id][row.digest] = Version(
            row.digest, row.name, row.version, row.created_at, learned
        )
    return {id: sorted(each.values(), key=lambda one: (one.name, one.version)) for id, each in found.items()}


def concerned(versions: Iterable[Version], jobs: Collection[Job]) -> list[tuple[Version, bool]]:
    """Those that learned from these jobs' copies (True: the provider says so), or may have."""
    found = [(one, one.learned_from(jobs)) for one in versions]
    return [(one, learned is True) for one, learned in found if learned is not False]


def concerned_by(ticket: Retraining) -> list[tuple[Version, bool]]:
    jobs = [subject.job for subject in copies([ticket.consent])]
    return concerned(versions_of([ticket.requester])[ticket.requester_id], jobs)


def asked_of(requester: Requester) -> dict[str, list[dict[str, Any]]]:
    """What a provider reads, by the digest of its version: open tickets that the clinic sent it, and the
    copies (job, subject) that the version has to do without."""
    asked = Retraining.objects.filter(requester=requester, state=State.ASKED)
    tickets = {ticket.consent: ticket for ticket in asked.order_by("asked_at", "pk")}
    if not tickets:
        return {}
    left: dict[str, list[JobSubject]] = {consent: [] for consent in tickets}
    for copy in copies(tickets):
        left[copy.consent].append(copy)
    versions = versions_of([requester])[requester.pk]
    found: dict[str, list[dict[str, Any]]] = {}
    for consent, ticket in tickets.items():
        withdrawn = [{"job": one.job_id, "subject": one.pk} for one in left[consent]]
        for version, _said in concerned(versions, [one.job for one in left[consent]]):
            told = {"id": ticket.pk, "asked_at": ticket.asked_at, "withdrawn": withdrawn}
            found.setdefault(version.digest, []).append(told)
    return found


# The queue


def take(*, ticket: Retraining, by: User) -> None:
    """It is this person's to see to. Raises RefusedTransition (`retraining_settled`)."""
    changed = Retraining.objects.filter(pk=ticket.pk).exclude(state=State.SETTLED).update(owner=by)
    if not changed:
        raise _is_settled()


@transaction.atomic
def ask(*, ticket: Retraining, by: User) -> None:
    """Tell the provider: from now on its API shows which versions are concerned, and by which copies.

    Raises RefusedTransition (`retraining_settled`, `retraining_asked`).
    """
    found = _locked(ticket)
    if found.state == State.ASKED:
        raise RefusedTransition(_("The AI provider was told already."), code="retraining_asked")
    found.state, found.asked_at, found.owner = State.ASKED, timezone.now(), by
    found.save(update_fields=["state", "asked_at", "owner"])
    _record("retraining.asked", found, by)


@transaction.atomic
def settle(*, ticket: Retraining, by: User, outcome: str, reason: str) -> None:
    """How it ended, and why. Raises InvalidInput (`retraining_reason`), RefusedTransition."""
    if outcome not in Outcome.values or len(reason.strip()) < SHORTEST:
        raise InvalidInput(_("Say what was done, in 15 characters or more."), code="retraining_reason")
    found = _locked(ticket)
    found.state, found.settled_at, found.settled_by, found.owner = State.SETTLED, timezone.now(), by, by
    found.outcome, found.reason = outcome, reason.strip()
    found.save()
    _record("retraining.settled", found, by, outcome=outcome)


def _locked(ticket: Retraining) -> Retraining:
    found = Retraining.objects.select_for_update().get(pk=ticket.pk)
    if found.state == State.SETTLED:
        raise _is_settled()
    return found


def _is_settled() -> RefusedTransition:
    return RefusedTransition(_("This is closed already."), code="retraining_settled")


def _record(kind: str, ticket: Retraining, by: User, **told: Any) -> None:
    record(
        kind=kind,
        actor=Actor.staff(by.pk),
        consent=ticket.consent,
        requester=str(ticket.requester_id),
        **told,
    )

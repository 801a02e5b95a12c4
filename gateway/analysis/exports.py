"""Jobs of kind export: what is asked for, whose, and the de-identified records that were delivered.

An export is a job like any other: it passes release and deliver, a child de-identifies each patient's
records and seals them, and nothing is opened but by the keyholder after a fresh look at the ledger (ADR 15).
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from consent import services as consents
from consent.models import ConsentRequest, Requester
from gateway.accounts.scopes import Filter
from gateway.analysis import services
from gateway.analysis.deidentify import Identity
from gateway.analysis.models import ExportKey, Job, JobSubject, Output
from gateway.keyholder.client import Keyholder
from ledger.contract.resource_types import RESOURCE_TYPES
from ledger.errors import AccessDenied, InvalidInput, RefusedTransition

Json = dict[str, Any]


def groups(requester: Requester) -> dict[str, list[ConsentRequest]]:
    """Whom this requester asked for a copy of their records, by purpose and use: `HRESCH-HMB-NPU`."""
    found: dict[str, list[ConsentRequest]] = {}
    asked = ConsentRequest.objects.named_by(requester).filter(action=ConsentRequest.Action.DISCLOSE)
    for each in asked.order_by("created_at", "pk"):
        found.setdefault("-".join([each.purpose, *each.use]), []).append(each)
    return found


def submit(
    *,
    requester: Requester,
    group: str | None,
    address: str,
    types: Sequence[str] | None = None,
    since: int | None = None,
    filters: Mapping[str, Sequence[Sequence[Filter]]] | None = None,
) -> Job:
    """Take an export of the group's patients (None: of the only group), of these FHIR types.

    `since` is in seconds since 1970 UTC; `filters` gives for a type groups of filters, of each of which a
    resource has to match one. `address` is what the manifest says was asked. Raises InvalidInput
    (`group`, `resource_type`, `subjects`), RefusedTransition, QuotaReached.
    """
    known = groups(requester)
    if group is None and len(known) != 1:
        raise InvalidInput(
            "You have asked for copies for several purposes: export one Group at a time."
            if known
            else "You have asked nobody for a copy of their records yet.",
            code="group",
        )
    asked = known.get(group or next(iter(known)))
    if asked is None:
        raise AccessDenied("There is no such group.", code="not_available")
    if types is None:
        types = sorted({kind for each in asked for kind in each.kinds})
    if not types or not RESOURCE_TYPES.issuperset(types):
        raise InvalidInput("Name resource types of FHIR R4.", code="resource_type")
    spec = {
        "address": address,
        "filters": {kind: list(each) for kind, each in (filters or {}).items() if kind in types},
        "since": since,
        "types": sorted(set(types)),
    }
    return services.submit_export(
        requester=requester,
        purpose=asked[0].purpose,
        use=asked[0].use,
        subjects=[each.pk for each in asked],
        spec=spec,
    )


def given_to_child(job: Job) -> Json:
    """The `export` of the child's `start` (part.py)."""
    return {
        "filters": job.spec["filters"],
        "key": key_of(job.requester).hex(),
        "since": job.spec["since"],
        "today": job.created_at.date().isoformat(),
        "types": job.spec["types"],
    }


def key_of(requester: Requester) -> bytes:
    return bytes(ExportKey.objects.get_or_create(requester=requester)[0].key)


def pseudonym(key: bytes, subject: JobSubject) -> str:
    """What begins the id of each of this subject's exported resources; `key` is the recipient's."""
    return Identity(key, subject.keyholder_patient, timezone.localdate()).pseudonym


def outputs(job: Job) -> list[Output]:
    """What was delivered and is kept, in the order of the subjects."""
    if (
        job.settled_at is None
        or job.discarded_at is not None
        or timezone.now() >= services.results_until(job)
    ):
        return []
    kept = Output.objects.filter(subject__job=job, subject__state=JobSubject.State.DELIVERED)
    return list(kept.exclude(delivered_at=None).select_related("subject").order_by("subject__number"))


def resources(
    *, job: Job, found: Sequence[Output], keyholder: Keyholder | None = None
) -> Iterator[tuple[Output, list[Json]]]:
    """The resources of each output, opened now: what a consent ended meanwhile is passed over.

    Raises KeyholderUnavailable and LedgerError where it cannot be known; then nothing more comes.
    """
    keyholder = keyholder or Keyholder(settings.KEYHOLDER_SOCKET)
    for output in found:
        try:
            opened = services.open_delivered(job=job, output=output, keyholder=keyholder)
        except AccessDenied:
            continue
        yield output, [orjson.loads(line) for line in opened.splitlines()]


@transaction.atomic
def discard(*, job: Job, requester: Requester, keyholder: Keyholder | None = None) -> None:
    """What runs is cancelled, what was delivered is deleted, at the client's wish. Harmless to repeat."""
    with contextlib.suppress(RefusedTransition):  # it has its end
        services.cancel(job=job, requester=requester)
    Job.objects.filter(pk=job.pk, discarded_at=None).update(discarded_at=timezone.now())
    _drop(Output.objects.filter(subject__job=job), keyholder)


def drop_old() -> int:
    """Delete the sealed exports whose time is over; the relay calls this. Returns how many."""
    over = timezone.now() - timedelta(hours=settings.EXPORT_HOURS)
    return _drop(Output.objects.filter(subject__job__kind=Job.Kind.EXPORT, subject__job__settled_at__lt=over))


def _drop(old: Any, keyholder: Keyholder | None = None) -> int:
    """A consent for one time only has now had it."""
    used = list(
        old.exclude(delivered_at=None).exclude(subject__consent="").values_list("subject__consent", flat=True)
    )
    dropped: int = old.delete()[0]
    if used:
        keyholder = keyholder or Keyholder(settings.KEYHOLDER_SOCKET)
        consents.use_up(consents=used, stop_now=lambda consent: keyholder.stop(consent=consent))
    return dropped

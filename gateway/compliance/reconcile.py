"""Reconciliation: database, ledger, keyholder's log and audit log held against each other.

What one store says and another does not is a finding; a finding that is still there at a second look opens
an incident that holds releases: nobody knows then which of the stores to believe. The relay does this every
minute (the newest rows, and an older stretch in turn); a whole look, once an hour and as long as an incident
holds, derives everything and settles what is so no more. `manage.py reconcile` is a whole look by hand.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.db import transaction
from django.utils import timezone

from consent import replay
from gateway.analysis.models import Attempt, JobSubject, Leg, Output, Summary
from gateway.keyholder.client import Keyholder, LogEntry
from gateway.keyholder.log import INSIDE
from gateway.records.models import Regrouping
from ledger.audit.check import Finding, check_checkpoint, check_rows
from ledger.audit.incidents import open_incident, settle_incident
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditBatch, AuditRow, Incident
from ledger.channels import HOME, Channels
from ledger.client import Ledger
from ledger.contract.canonical import load_canonical
from ledger.contract.release import deliver_key, release_key
from ledger.errors import EnvelopeError

KEYS_AT_ONCE = 500
ROWS_AT_ONCE = 1_000
BATCHES_IN_TURN = 500  # of the older ones, at each short look
RECENT = timedelta(hours=1)
DELIVERED = JobSubject.State.DELIVERED
NEVER_OPENED, ATTEMPT = "never_opened", "attempt "
LOST = "opening.lost"  # in the audit log: that of a job's attempt, as a person said


@dataclass(frozen=True)
class Look:
    """What one look found; `rows` of the audit log and `openings` of the keyholder's were read for it."""

    findings: tuple[Finding, ...]
    rows: int
    openings: int


@dataclass
class Reconciler:
    """Looks at one installation again and again; remembers how far its short looks have come.

    `pause` seconds lie between two looks: in them what the ledger says is heard here.
    """

    channels: Channels
    keyholder: Keyholder
    pause: float = 10.0
    _turn: int = 0
    _openings: int = 0

    def look(self, *, whole: bool) -> Look:
        """Hold the stores against each other. What is only on its way is gone at the second look.

        Raises LedgerError, KeyholderUnavailable: what cannot be asked is not compared.
        """
        log, rows = self._log(whole=whole)
        read, openings = self._read_openings(whole=whole)
        first = {*log, *openings, *self._files(whole=whole), *self._doors(whole=whole, entries=read)}
        if first:
            time.sleep(self.pause)
            log, rows = self._log(whole=whole)
            again, openings = self._read_openings(whole=whole)
            doors = self._doors(whole=whole, entries=again)
            first &= {*log, *openings, *self._files(whole=whole), *doors}
        self._openings = max([self._openings, *(entry["id"] for entry in read)])
        self._turn += BATCHES_IN_TURN
        return Look(tuple(sorted(first)), rows, len(read))

    # The audit log

    def _log(self, *, whole: bool) -> tuple[list[Finding], int]:
        sizes = AuditBatch.objects.order_by("size").values_list("size", flat=True)
        found = [*check_checkpoint(self.channels.home.ledger)]
        if whole:
            return [*found, *check_rows()], sizes.last() or 0
        count = sizes.count()
        newest = sizes[max(0, count - BATCHES_IN_TURN) :].first() or 0
        self._turn = self._turn if self._turn < count else 0
        stretch = list(sizes[self._turn : self._turn + BATCHES_IN_TURN + 1])
        older = check_rows(after=stretch[0], until=stretch[-1]) if len(stretch) > 1 else ()
        return [*found, *{*check_rows(after=newest), *older}], (sizes.last() or 0) - newest

    # The keyholder's log

    def _read_openings(self, *, whole: bool) -> tuple[list[LogEntry], list[Finding]]:
        """Its rows, and what is wrong with the log itself.

        log_differs   a row was edited, removed, or put in
        log_lost      the log ends before a row that was there: an old store was put back
        """
        after = 0 if whole else self._openings
        entries: list[LogEntry] = []
        while True:
            page = self.keyholder.log_page(after=after, limit=ROWS_AT_ONCE)
            entries += page["entries"]
            if page["bad"] is not None:
                return entries, [Finding("log_differs", f"opening {page['bad']}")]
            if page["last"] < self._openings:
                return entries, [Finding("log_lost", f"opening {self._openings}")]
            if not page["entries"]:
                return entries, []
            after = page["entries"][-1]["id"]

    def _files(self, *, whole: bool) -> list[Finding]:
        """What a recall reads: the log, filed by job. What is new of it is filed here.

        files_differ   a file was edited, removed or put in, or a row that is filed was changed
        """
        try:
            self.keyholder.file_openings()
        except EnvelopeError:
            return [Finding("files_differ", "the newest shelf")]
        bad = self.keyholder.check_files() if whole else ()
        return [Finding("files_differ", f"shelf {one}") for one in bad]

    # Consents and doors

    def _doors(self, *, whole: bool, entries: Sequence[LogEntry]) -> Iterator[Finding]:
        since = None if whole else timezone.now() - RECENT
        for name, channel in self.channels.items():
            place = "" if name == HOME else f" on {name}"
            found = [
                *(
                    Finding(one.code, f"consent {one.consent}")
                    for one in self._consents(name, channel.ledger)
                ),
                *_of_openings(channel.ledger, [one for one in entries if one["channel"] == name]),
                *_of_releases(channel.ledger, name, since),
                *_of_deliveries(channel.ledger, name, since),
                *_of_summaries(channel.ledger, name, since),
            ]
            yield from (Finding(one.code, one.place + place) for one in found)
        yield from _of_uses(since)
        if whole:
            yield from _never_opened(entries)

    def _consents(self, channel: str, ledger: Ledger) -> list[replay.Difference]:
        """Rows, ledger and stored openings of consents, as `manage.py replayledger` compares them."""

        def kept(commitments: Mapping[str, str]) -> Mapping[str, Any]:
            return self.keyholder.kept_openings(commitments=commitments)

        return replay.compare(replay.derive(ledger), kept, channel=channel)


def _of_openings(ledger: Ledger, entries: Sequence[LogEntry]) -> Iterator[Finding]:
    """Every key that was unwrapped has its door on the ledger, and a job or an access that we know.

    opening_without_door   the ledger has no such release or access
    opening_unknown        the job is not in this database: somebody made one up, or removed it here
    regrouping_unknown     chunks were sealed anew, and no act of ours asked for it
    """
    acts = {one["reference"]: one["id"] for one in entries if one["ground"] in INSIDE}
    for some in _some(sorted(acts)):
        for act in set(some) - set(Regrouping.objects.filter(pk__in=some).values_list("pk", flat=True)):
            yield Finding("regrouping_unknown", f"opening {acts[act]}")
    entries = [one for one in entries if one["ground"] not in INSIDE]
    doors = [
        f"access/{one['reference']}"
        if one["attempt"] is None
        else release_key(one["reference"], one["attempt"])
        for one in entries
    ]
    jobs = {one["reference"] for one in entries if one["attempt"] is not None}
    known = {
        id
        for some in _some(sorted(jobs))
        for id in Leg.objects.filter(pk__in=some).values_list("pk", flat=True)
    }
    for entry, value in zip(entries, _values(ledger, doors), strict=True):
        if value is None:
            yield Finding("opening_without_door", f"opening {entry['id']}")
        if entry["reference"] in jobs - known:
            yield Finding("opening_unknown", f"opening {entry['id']}")


def _of_releases(ledger: Ledger, channel: str, since: datetime | None) -> Iterator[Finding]:
    """What the ledger's releases say of attempts.

    release_missing   an attempt says that it was released, and the ledger does not
    release_differs   the release is for another model than the job says: what traces it would go astray
    """
    attempts = Attempt.objects.filter(leg__channel=channel).exclude(release_tx="").order_by("pk")
    attempts = attempts.select_related("leg__job")
    if since is not None:
        attempts = attempts.filter(started_at__gte=since)
    for some in _some(attempts):
        values = _values(ledger, [release_key(one.leg_id, one.number) for one in some])
        for one, value in zip(some, values, strict=True):
            if value is None:
                yield Finding("release_missing", f"attempt {one.pk}")
            elif (load_canonical(value).get("model") or "") != one.leg.job.model:
                yield Finding("release_differs", f"attempt {one.pk}")


def _of_deliveries(ledger: Ledger, channel: str, since: datetime | None) -> Iterator[Finding]:
    """Every result that left was delivered on the ledger, on that patient's consent, and is what was sealed.

    delivery_differs   the ledger's delivery does not name this result for this consent
    output_differs     the sealed bytes are not those whose digest was delivered
    """
    outputs = Output.objects.filter(subject__leg__channel=channel, delivered_at__isnull=False).order_by("pk")
    if since is not None:
        outputs = outputs.filter(delivered_at__gte=since)
    for some in _some(outputs.select_related("subject")):
        values = _values(ledger, [deliver_key(one.subject.leg_id) for one in some])
        for one, value in zip(some, values, strict=True):
            if one.subject.consent not in _named(value).get(one.digest, ()):
                yield Finding("delivery_differs", f"output {one.pk}")
            if sha256(bytes(one.sealed)).hexdigest() != one.digest:
                yield Finding("output_differs", f"output {one.pk}")


def _of_summaries(ledger: Ledger, channel: str, since: datetime | None) -> Iterator[Finding]:
    """The same of what is about many: the ledger delivered it for the consents of all of them."""
    summaries = Summary.objects.filter(leg__channel=channel, delivered_at__isnull=False).order_by("pk")
    if since is not None:
        summaries = summaries.filter(delivered_at__gte=since)
    for some in _some(summaries):
        values = _values(ledger, [deliver_key(one.leg_id) for one in some])
        for one, value in zip(some, values, strict=True):
            about = JobSubject.objects.filter(leg=one.leg_id, state=DELIVERED)
            named = _named(value).get(one.digest)
            if named is None or set(about.values_list("consent", flat=True)) - set(named):
                yield Finding("delivery_differs", f"summary {one.pk}")
            if sha256(bytes(one.sealed)).hexdigest() != one.digest:
                yield Finding("output_differs", f"summary {one.pk}")


def _named(value: bytes | None) -> dict[str, list[str]]:
    """What a delivery on the ledger lets out: consents by output."""
    if value is None:
        return {}
    return {each["output"]: each["consents"] for each in load_canonical(value)["outputs"]}


def _of_uses(since: datetime | None) -> Iterator[Finding]:
    """What the patient sees of uses, and what the log says of them, are the same.

    use_not_logged   a result was delivered, and the log has no row of it
    use_not_shown    the log has a delivery that the database does not show
    use_of_another   the log says that it was another patient's than the database does
    """
    subjects = JobSubject.objects.filter(state=DELIVERED, patient__isnull=False)
    rows = AuditRow.objects.filter(kind="job.delivered")
    if since is not None:
        subjects = subjects.filter(job__settled_at__gte=since)
        rows = rows.filter(recorded_at__gte=since)
    for some in _some(subjects.order_by("pk").values_list("pk", flat=True)):
        logged = AuditRow.objects.filter(kind="job.delivered", step_of__in=some)
        for id in set(some) - set(logged.values_list("step_of", flat=True)):
            yield Finding("use_not_logged", f"subject {id}")
    for page in _some(rows.order_by("id").values_list("step_of", "subject")):
        whose = dict(page)
        shown = JobSubject.objects.filter(pk__in=whose, state=DELIVERED).select_related("patient")
        found = {one.pk: one.patient for one in shown}
        for id, pseudonym in whose.items():
            if id not in found:
                yield Finding("use_not_shown", f"subject {id}")
            elif (patient := found[id]) is not None and patient.pseudonym != pseudonym:
                yield Finding("use_of_another", f"subject {id}")


def _never_opened(entries: Sequence[LogEntry]) -> Iterator[Finding]:
    """never_opened: an attempt delivered results, and the keyholder's log has no opening for it, nor did
    anybody write down that it was lost."""
    opened = {(one["reference"], one["attempt"]) for one in entries if one["ground"] == "release"}
    for line in AuditRow.objects.filter(kind=LOST).values_list("line", flat=True):
        lost = load_canonical(bytes(line))["details"]
        opened.add((lost["job"], lost["attempt"]))
    for some in _some(Attempt.objects.exclude(deliver_tx="").order_by("pk")):
        for one in some:
            if (one.leg_id, one.number) not in opened:
                yield Finding(NEVER_OPENED, f"{ATTEMPT}{one.pk}")


def _values(ledger: Ledger, keys: Sequence[str]) -> list[bytes | None]:
    return [value for some in _some(list(keys)) for value in ledger.evaluate(some)]


def _some(found: Any) -> Iterator[list[Any]]:
    """A query or a list, so many at a time."""
    page: list[Any] = []
    for one in found.iterator(chunk_size=KEYS_AT_ONCE) if hasattr(found, "iterator") else found:
        page.append(one)
        if len(page) == KEYS_AT_ONCE:
            yield page
            page = []
    if page:
        yield page


# What follows from it


def hold(findings: Iterable[Finding], *, by: Actor) -> None:
    """Open an incident for each: releases stop."""
    for one in findings:
        open_incident(code=one.code, place=one.place, by=by, holds=True)


def accept_lost(findings: Iterable[Finding], *, by: Actor) -> list[Finding]:
    """Write down of each `never_opened` that its opening was lost: a store came back from a backup that is
    older, and nothing brings back the rows of its log. The other findings. There is no way back."""
    others = []
    for one in findings:
        if one.code != NEVER_OPENED:
            others.append(one)
            continue
        attempt = Attempt.objects.get(pk=int(one.place.removeprefix(ATTEMPT)))
        with transaction.atomic():
            record(kind=LOST, actor=by, job=attempt.leg_id, attempt=attempt.number)
    return others


def settle_others(findings: Iterable[Finding], *, by: Actor) -> int:
    """After a whole look: settle what held releases and was not found again. The number of them."""
    still = {(one.code, one.place) for one in findings}
    over = [
        incident
        for incident in Incident.objects.filter(holds=True, settled_at=None)
        if (incident.code, incident.place) not in still
    ]
    for incident in over:
        settle_incident(incident=incident, by=by)
    return len(over)

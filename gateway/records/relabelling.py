"""Labels of stored records under newer rules: the keyholder decides them, and no file has to come again.

First, over all patients, it tells by what is noted beside the records which chunks the newer rules can
concern, and withholds those; then it opens them, one patient after the other, and seals their records under
the labels of today. A row that is under older rules is still to be done: an interrupted run goes on.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Length

from gateway.keyholder.client import HeldChunk, Keyholder
from gateway.keyholder.regrouping import CUSTODIAN
from gateway.labels.rules import VERSION
from gateway.records.models import Chunk, LabelChange, Regrouping, ResourceVersion, Unsettled
from gateway.records.settling import ACTOR, confirm, keep, settle, settle_due, untold
from ledger.audit.log import record
from ledger.errors import GatewayError, KeyholderUnavailable

log = logging.getLogger(__name__)

MOST_NOTES = 8 * 1024 * 1024  # of one question to the keyholder
MOST_ROUNDS = 4  # over a patient's chunks that wait for others' labels
# Bytes that the keyholder opens at once, unless one chunk is larger; it needs ten times that memory.
MOST_BLOBS = 1024 * 1024


@dataclass
class Outcome:
    """patients   whose records were under older rules
    looked     chunks of theirs, told apart without opening a record
    opened     of those, chunks that newer rules could concern
    sealed     chunks that stand for those now
    failed     patients of whom something could not be done: it stays withheld, and the next run tries again
    """

    patients: int = 0
    looked: int = 0
    opened: int = 0
    sealed: int = 0
    failed: int = 0


def relabel(
    keyholder: Keyholder,
    *,
    only: str | None = None,
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> Outcome:
    """Bring every stored record under today's rules, or those whose rules are `only`. Repeat it freely.

    `progress` is told the step (`look`, `label`), how many patients it is done with, and of how many.
    Raises KeyholderUnavailable: what is not done stays due, and what was in doubt stays withheld.
    """
    settle_due(keyholder)
    outcome = Outcome()
    whose = _under_older_rules(only)
    outcome.patients = len(whose)
    # 1. Whatever newer rules can concern is withheld, everywhere, before the first record is opened.
    # Resources of no patient come first: what follows from them is in doubt with them.
    followed, failed = False, set()
    for number, patient in enumerate(whose, start=1):
        try:
            look = _look(keyholder, patient, followed=followed)
        except KeyholderUnavailable:
            raise
        except GatewayError as error:
            failed.add(patient)
            log.error("records could not be looked at under newer label rules: %s", error.code)
        else:
            followed = followed or (patient is None and look.followed)
            outcome.looked += look.looked
        progress("look", number, len(whose))
    # 2. Patient by patient, what is in doubt is labelled anew.
    doubted = _under_older_rules(only)
    if failed and followed:  # while those are undone, the next run knows that others may follow from them
        doubted = [one for one in doubted if one is not None]
    for number, patient in enumerate(doubted, start=1):
        try:
            if not _label(keyholder, patient, outcome):
                failed.add(patient)
                log.error("records wait for the labels of what they follow: records_waiting")
        except KeyholderUnavailable:
            raise
        except GatewayError as error:
            failed.add(patient)
            log.error("records could not be labelled anew: %s", error.code)
        progress("label", number, len(doubted))
    outcome.failed = len(failed)
    return outcome


def _under_older_rules(only: str | None) -> list[str | None]:
    """Whose records are: patients' ids, and None of resources of no patient, which come first."""
    rows = (
        ResourceVersion.objects.exclude(rules=VERSION)
        if only is None
        else ResourceVersion.objects.filter(rules=only)
    )
    older = rows.filter(chunk__retired_at=None)
    found = older.values_list("chunk__patient", flat=True).order_by().distinct()
    return sorted(found, key=lambda one: one or "")


def _older(patient: str | None) -> QuerySet[ResourceVersion]:
    """The patient's records under older rules, or those of no patient."""
    return ResourceVersion.objects.exclude(rules=VERSION).filter(
        chunk__patient=patient, chunk__retired_at=None
    )


@dataclass
class _Look:
    """`ranks` of the chunks in doubt, in the order in which they are to be labelled."""

    looked: int = 0
    followed: bool = False
    ranks: dict[str, int] = field(default_factory=dict)


def _look(keyholder: Keyholder, patient: str | None, *, followed: bool = False) -> _Look:
    """Have what is in doubt withheld; the rows of what is not are under today's rules from now on."""
    chunks = Chunk.objects.filter(pk__in=_older(patient).values("chunk")).order_by("pk")
    batches = list(_batches(chunks))
    look = _asked(keyholder, patient, batches, followed=followed)
    if look.followed and not followed and len(batches) > 1:  # said of one batch, it holds for all of them
        look = _asked(keyholder, patient, batches, followed=True)
    for batch in batches:
        clear = [chunk for chunk in batch if chunk not in look.ranks]
        ResourceVersion.objects.filter(chunk__in=clear).exclude(rules=VERSION).update(rules=VERSION)
    return look


def _asked(
    keyholder: Keyholder, patient: str | None, batches: Iterable[Sequence[str]], *, followed: bool
) -> _Look:
    look = _Look()
    for batch in batches:
        doubt = keyholder.survey(
            patient=patient or CUSTODIAN, chunks=_held(batch, blobs=False), followed=followed
        )
        look.looked += len(batch)
        look.followed = look.followed or doubt["followed"]
        look.ranks.update(doubt["ranks"])
    return look


def _batches(chunks: QuerySet[Chunk]) -> Iterator[list[str]]:
    """Their ids, as many together as one question carries the notes of."""
    batch: list[str] = []
    room = MOST_NOTES
    for chunk, size in chunks.annotate(size=Length("notes")).values_list("pk", "size"):
        if batch and size > room:
            yield batch
            batch, room = [], MOST_NOTES
        batch.append(chunk)
        room -= size
    if batch:
        yield batch


@dataclass
class _Sent:
    """As `settling.keep` wants it: every record of these chunks is labelled, but for what is `waiting`."""

    chunks: dict[str, list[ResourceVersion]]
    waiting: list[ResourceVersion] = field(default_factory=list)
    label_changes: list[LabelChange] = field(default_factory=list)

    @cached_property
    def labelled(self) -> dict[str, str]:
        waiting = {row.digest for row in self.waiting}
        rows = (row for rows in self.chunks.values() for row in rows)
        return {row.digest: row.name for row in rows if row.digest not in waiting}


def _label(keyholder: Keyholder, patient: str | None, outcome: Outcome) -> bool:
    """All that is in doubt; whether nothing is any more. What follows others that were still in doubt comes
    again in another round, as long as rounds bring it nearer."""
    left = _older(patient).count()
    for _ in range(MOST_ROUNDS):
        before, waiting = left, set[str]()
        while _label_some(keyholder, patient, outcome, waiting):
            pass
        left = _older(patient).count()
        if not left or left >= before:
            break
    return not left


def _label_some(keyholder: Keyholder, patient: str | None, outcome: Outcome, waiting: set[str]) -> bool:
    """As many chunks as are opened at once, none of those that are `waiting`; whether there were any.

    Adds the chunks in which a record is that waits for the labels of others.
    """
    whose = patient or CUSTODIAN
    # What is due comes first: versions that are no more, a clinician's word, what an earlier run kept.
    if Unsettled.objects.filter(pk=whose).exists():
        settle(whose, keyholder=keyholder)
    confirm(untold(patient).exclude(act=""), keyholder=keyholder)
    ranks = {chunk: rank for chunk, rank in _look(keyholder, patient).ranks.items() if chunk not in waiting}
    chunks = _first(ranks)
    if not chunks:
        return False
    sent = _Sent({one: list(ResourceVersion.objects.filter(chunk=one).order_by("pk")) for one in chunks})
    with transaction.atomic():
        act = Regrouping.objects.create().pk
        record(kind="records.relabelled", actor=ACTOR, act=act, chunks=len(chunks))
    held = _held(chunks, blobs=True)
    found = keyholder.relabel(act=act, patient=whose, chunks=held)
    if found["wanted"]:
        beside = _beside(patient, found["wanted"], without=chunks)
        found = keyholder.relabel(act=act, patient=whose, chunks=held, neighbours=beside)
    waits = {(chunk, number) for chunk, number in found["waiting"]}
    sent.waiting = [sent.chunks[chunk][number] for chunk, number in sorted(waits)]
    with transaction.atomic():
        for row in sent.waiting:
            row.rules = ""
        ResourceVersion.objects.bulk_update(sent.waiting, ["rules"], batch_size=500)
        keep(act, patient, sent, found)
    waiting.update(chunk for chunk, _ in waits if chunk not in found["retired"])
    waiting.update(
        one["chunk"] for one in found["chunks"] if any((chunk, line) in waits for chunk, line in one["lines"])
    )
    confirm(untold(patient).filter(act=act), keyholder=keyholder)
    outcome.opened += len(chunks)
    outcome.sealed += len(found["chunks"])
    return True


def _first(ranks: dict[str, int]) -> list[str]:
    """The next ones by rank, as far as they may be opened together."""
    sizes = dict(Chunk.objects.filter(pk__in=ranks).annotate(size=Length("blob")).values_list("pk", "size"))
    taken: list[str] = []
    room = MOST_BLOBS
    for chunk in sorted(sizes, key=lambda one: (ranks[one], one)):
        if taken and sizes[chunk] > room:
            break
        taken.append(chunk)
        room -= sizes[chunk]
    return taken


def _beside(patient: str | None, wanted: Sequence[str], *, without: Sequence[str]) -> list[HeldChunk]:
    """The chunks in which these resources stand, the patient's own and those of no patient; their notes."""
    found: set[str] = set()
    for first in range(0, len(wanted), 500):
        rows = ResourceVersion.objects.filter(name__in=wanted[first : first + 500], chunk__retired_at=None)
        for whose in {patient, None}:
            found.update(rows.filter(chunk__patient=whose).values_list("chunk", flat=True))
    return _held(sorted(found.difference(without)), blobs=False, named=True)


def _held(chunks: Sequence[str], *, blobs: bool, named: bool = False) -> list[HeldChunk]:
    """These chunks as the keyholder takes them."""
    rows = Chunk.objects.filter(pk__in=chunks)
    if not blobs:
        rows = rows.defer("blob")
    held: list[HeldChunk] = []
    for one in rows:
        sent: HeldChunk = {
            "chunk": one.pk,
            "version": one.version,
            "blob": bytes(one.blob) if blobs else b"",
            "notes": bytes(one.notes),
            "patient": one.patient_id or CUSTODIAN,
        }
        if named:
            versions = ResourceVersion.objects.filter(chunk=one).order_by("pk")
            sent["names"] = list(versions.values_list("name", flat=True))
        held.append(sent)
    return held

"""Labels of stored records under newer rules: the keyholder decides them, and no file has to come again.

First, over all patients, it tells by what is noted beside the records which chunks the newer rules can
concern, and withholds those; then it opens them, one patient after the other, and seals their records under
the labels of today. A row that is under older rules is still to be done: an interrupted run goes on.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Length

from gateway.keyholder.client import HeldChunk, Keyholder
from gateway.keyholder.regrouping import CUSTODIAN
from gateway.labels.rules import VERSION
from gateway.records.held import batches, held, in_parts
from gateway.records.models import Chunk, LabelChange, Regrouping, ResourceVersion, ToPassOn, Unsettled
from gateway.records.settling import (
    ACTOR,
    Conflict,
    confirm,
    keep,
    settle,
    settle_due,
    untold,
    withhold_followers,
)
from ledger.audit.log import record
from ledger.errors import GatewayError, KeyholderUnavailable

log = logging.getLogger(__name__)

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
    # Who could not be looked at may follow something that was found in doubt: the next run looks again.
    doubted = [one for one in _under_older_rules(only) if one not in failed]
    if failed and followed:  # while those are undone, it knows that others may follow from them
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
    pass_on_due(keyholder)
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


def _older(patient: str | None, only: str | None = None) -> QuerySet[ResourceVersion]:
    """The patient's records under older rules, or under these; or those of no patient."""
    of = ResourceVersion.objects.filter(chunk__patient=patient, chunk__retired_at=None)
    return of.exclude(rules=VERSION) if only is None else of.filter(rules=only)


def pass_on(whose: str, *, keyholder: Keyholder) -> None:
    """What follows records of this patient that clinicians labelled is labelled anew, so that their word
    passes along, or no longer does. What cannot be told stays withheld, for `relabel`.

    Repeat it freely. Raises GatewayError where it could not be withheld, KeyholderUnavailable and
    RefusedTransition (`regroup_conflict`): it stays due.
    """
    since = ToPassOn.objects.filter(pk=whose).values_list("since", flat=True).first()
    if since is None or LabelChange.objects.filter(patient=whose, state=LabelChange.State.DUE).exists():
        return  # the word itself comes first
    withhold_followers(whose, keyholder=keyholder)
    try:
        if not _label(keyholder, whose, Outcome(), only=""):
            log.error("records wait for the labels of what they follow: records_waiting")
    except KeyholderUnavailable:
        raise
    except GatewayError as error:
        if error.code == Conflict.code:
            raise
        log.error("a clinician's label did not pass along: %s", error.code)
    ToPassOn.objects.filter(pk=whose, since=since).delete()


def pass_on_due(keyholder: Keyholder) -> None:
    """What waits for it, of every patient. Raises KeyholderUnavailable."""
    for whose in ToPassOn.objects.order_by("since").values_list("pk", flat=True)[:100]:
        try:
            pass_on(whose, keyholder=keyholder)
        except KeyholderUnavailable:
            raise
        except GatewayError as error:  # hers alone: nothing new of her is selected meanwhile
            if error.code == Conflict.code:
                continue  # somebody else was at these records: the next round
            log.error("what follows a clinician's label could not be withheld: %s", error.code)


@dataclass
class _Look:
    """`ranks` of the chunks in doubt, in the order in which they are to be labelled."""

    looked: int = 0
    followed: bool = False
    ranks: dict[str, int] = field(default_factory=dict)


def _look(
    keyholder: Keyholder,
    patient: str | None,
    due: QuerySet[ResourceVersion] | None = None,
    *,
    followed: bool = False,
) -> _Look:
    """Have what is in doubt of what is `due` withheld; the rows of what is not are under today's rules from
    now on."""
    due = _older(patient) if due is None else due
    chunks = Chunk.objects.filter(pk__in=due.values("chunk")).order_by("pk")
    several = list(batches(chunks))
    look = _asked(keyholder, patient, several, followed=followed)
    if look.followed and not followed and len(several) > 1:  # said of one batch, it holds for all of them
        look = _asked(keyholder, patient, several, followed=True)
    for batch in several:
        clear = [chunk for chunk in batch if chunk not in look.ranks]
        due.filter(chunk__in=clear).update(rules=VERSION)
    return look


def _asked(
    keyholder: Keyholder, patient: str | None, several: Iterable[Sequence[str]], *, followed: bool
) -> _Look:
    look = _Look()
    for batch in several:
        doubt = keyholder.survey(
            patient=patient or CUSTODIAN, chunks=held(batch, blobs=False), followed=followed
        )
        look.looked += len(batch)
        look.followed = look.followed or doubt["followed"]
        look.ranks.update(doubt["ranks"])
    return look


@dataclass
class _Sent:
    """As `settling.keep` wants it: every record of these chunks is labelled, but for what is `waiting`."""

    chunks: dict[str, list[ResourceVersion]]
    merged: Sequence[str] = ()
    waiting: list[ResourceVersion] = field(default_factory=list)
    label_changes: list[LabelChange] = field(default_factory=list)
    words: AbstractSet[str] = frozenset()

    @cached_property
    def labelled(self) -> dict[str, str]:
        waiting = {row.digest for row in self.waiting}
        rows = (row for rows in self.chunks.values() for row in rows)
        return {row.digest: row.name for row in rows if row.digest not in waiting}


def _label(keyholder: Keyholder, patient: str | None, outcome: Outcome, *, only: str | None = None) -> bool:
    """All that is in doubt, or `only` what is under these rules; whether nothing of it is any more.

    What follows others that were still in doubt comes again in another round, as long as rounds bring it
    nearer.
    """
    due = _older(patient, only)
    left = due.count()
    for _ in range(MOST_ROUNDS):
        before = left
        _label_once(keyholder, patient, outcome, due)
        left = due.count()
        if not left or left >= before:
            break
    return not left


def _label_once(
    keyholder: Keyholder, patient: str | None, outcome: Outcome, due: QuerySet[ResourceVersion]
) -> None:
    """Each chunk in doubt, as many together as are opened at once. One look tells all of them, unless others
    were made of them by what had to be settled first."""
    ranks: dict[str, int] | None = None
    waiting: set[str] = set()
    while True:
        if _is_settled_first(keyholder, patient) or ranks is None:
            found = _look(keyholder, patient, due).ranks
            ranks = {chunk: rank for chunk, rank in found.items() if chunk not in waiting}
        chunks = _first(ranks)
        if not chunks:
            return
        waiting |= _label_some(keyholder, patient, outcome, chunks)
        for chunk in chunks:
            del ranks[chunk]


def _is_settled_first(keyholder: Keyholder, patient: str | None) -> bool:
    """Whether anything was due: versions that are no more, a clinician's word, what an earlier run kept."""
    whose = patient or CUSTODIAN
    words = LabelChange.objects.filter(patient=patient, state=LabelChange.State.DUE)
    is_due = Unsettled.objects.filter(pk=whose).exists() or words.exists()
    if is_due:
        settle(whose, keyholder=keyholder)
    return confirm(untold(patient).exclude(act=""), keyholder=keyholder) > 0 or is_due


def _label_some(
    keyholder: Keyholder, patient: str | None, outcome: Outcome, chunks: Sequence[str]
) -> set[str]:
    """Have these chunks labelled anew; those in which a record is that waits for the labels of others."""
    whose = patient or CUSTODIAN
    done = LabelChange.objects.filter(patient=patient, state=LabelChange.State.DONE)  # one that is due waits
    words = set(done.values_list("pk", flat=True))
    sent = _Sent(
        {one: list(ResourceVersion.objects.filter(chunk=one).order_by("pk")) for one in chunks}, words=words
    )
    with transaction.atomic():
        act = Regrouping.objects.create().pk
        record(kind="records.relabelled", actor=ACTOR, act=act, chunks=len(chunks))
    sealed = held(chunks, blobs=True)
    found = keyholder.relabel(act=act, patient=whose, chunks=sealed)
    if found["wanted"]:
        beside = _beside(patient, found["wanted"], without=chunks)
        found = keyholder.relabel(act=act, patient=whose, chunks=sealed, neighbours=beside)
    waits = {(chunk, number) for chunk, number in found["waiting"]}
    sent.waiting = [sent.chunks[chunk][number] for chunk, number in sorted(waits)]
    with transaction.atomic():
        for row in sent.waiting:
            row.rules = ""
        ResourceVersion.objects.bulk_update(sent.waiting, ["rules"], batch_size=500)
        keep(act, patient, sent, found)
    confirm(untold(patient).filter(act=act), keyholder=keyholder)
    outcome.opened += len(chunks)
    outcome.sealed += len(found["chunks"])
    return {chunk for chunk, _ in waits if chunk not in found["retired"]} | {
        one["chunk"] for one in found["chunks"] if any((chunk, line) in waits for chunk, line in one["lines"])
    }


def _first(ranks: dict[str, int]) -> list[str]:
    """The next ones by rank, as far as they may be opened together."""
    live = Chunk.objects.filter(pk__in=ranks, retired_at=None)
    sizes = dict(live.annotate(size=Length("blob")).values_list("pk", "size"))
    by_rank = sorted(sizes, key=lambda one: (ranks[one], one))
    return next(in_parts(((chunk, sizes[chunk]) for chunk in by_rank), MOST_BLOBS), [])


def _beside(patient: str | None, wanted: Sequence[str], *, without: Sequence[str]) -> list[HeldChunk]:
    """The chunks in which these resources stand, the patient's own and those of no patient; their notes."""
    found: set[str] = set()
    for first in range(0, len(wanted), 500):
        rows = ResourceVersion.objects.filter(name__in=wanted[first : first + 500], chunk__retired_at=None)
        for whose in {patient, None}:
            found.update(rows.filter(chunk__patient=whose).values_list("chunk", flat=True))
    return held(sorted(found.difference(without)), blobs=False, named=True)

"""Brings a patient's chunks to order: of several versions the newest stays, what was deleted goes, labels are
today's, many small chunks become few. The keyholder seals anew what is touched; nothing is opened to us.

What is to be done can be told from the database at any time, so a crash loses nothing: the relay goes on. A
new chunk is selected, and the old one is not, from one moment on, which is the keyholder's.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, timedelta
from itertools import chain
from typing import Any, Protocol

from django.db import transaction
from django.db.models import Count, QuerySet
from django.db.models.functions import Length
from django.utils import timezone

from consent.models import Patient
from gateway.keyholder.client import ChunkVersion, Keyholder, RegroupedChunks
from gateway.keyholder.regrouping import CUSTODIAN, SMALL_BYTES, Line
from gateway.labels.labelling import FOLLOWS
from gateway.labels.rules import VERSION
from gateway.records import clinical_labels
from gateway.records.due import note_to_pass_on
from gateway.records.held import batches, held
from gateway.records.models import (
    Chunk,
    Deletion,
    Gone,
    LabelChange,
    Moved,
    Regrouping,
    ResourceVersion,
    ToPassOn,
    Unsettled,
)
from ledger.audit.log import Actor, record
from ledger.errors import EnvelopeError, RefusedTransition

log = logging.getLogger(__name__)

ACTOR = Actor.system("command")
MOST_BYTES = 32 * 1024 * 1024  # of blobs in one call, unless one chunk is larger
MOST_CHUNKS = 48  # new small ones of a patient; with more, those of a kind are sealed as one
KEPT = timedelta(hours=2)  # for jobs that hold a retired chunk's key: longer than any release lives

BARE = Chunk.objects.defer("blob", "notes")  # rows, as far as the keyholder is told of them

# digest of a version → labels, basis, the resource's name, and the codes that are noted
Labelled = Mapping[str, tuple[Sequence[str], Sequence[str], str, Sequence[str]]]


class Conflict(RefusedTransition):
    """Somebody else regrouped the same chunks meanwhile."""

    code = "regroup_conflict"


def settle(whose: str, *, keyholder: Keyholder, labelled: Labelled | None = None) -> None:
    """Do all that is due for this patient (or the custodian), and what today's rules say of `labelled`.

    Repeat it freely. Raises GatewayError: what is not done stays due.
    """
    while _settle_some(whose, keyholder, labelled or {}):
        pass


def withhold_followers(whose: str, *, keyholder: Keyholder) -> None:
    """Withhold the patient's records whose labels may follow from others, until they are labelled anew.

    From then on their rows are under no rules. Raises GatewayError.
    """
    live = Chunk.objects.filter(patient=whose, retired_at=None).order_by("pk")
    for batch in batches(live):
        doubt = keyholder.survey(patient=whose, chunks=held(batch, blobs=False), followed=True)
        in_doubt = [chunk for chunk in batch if chunk in doubt["ranks"]]
        ResourceVersion.objects.filter(chunk__in=in_doubt).update(rules="")


def settle_due(keyholder: Keyholder) -> int:
    """What a crash or a staff page left to do; how many were settled. Raises KeyholderUnavailable."""
    done = 0
    words = LabelChange.objects.filter(state=LabelChange.State.DUE).order_by("asked_at")
    due = (
        Unsettled.objects.order_by("since").values_list("pk", flat=True),
        ToPassOn.objects.order_by("since").values_list("pk", flat=True),
        words.values_list("patient", flat=True),
    )
    for whose in dict.fromkeys(chain.from_iterable(some[:100] for some in due)):
        if whose != CUSTODIAN and not Patient.objects.filter(pk=whose).exists():
            Unsettled.objects.filter(pk=whose).delete()
            ToPassOn.objects.filter(pk=whose).delete()
            continue
        try:
            settle(whose, keyholder=keyholder)
            done += 1
        except (RefusedTransition, EnvelopeError) as error:
            log.error("records could not be regrouped: %s", error.code)
    Chunk.objects.filter(retired_at__lt=timezone.now() - KEPT, confirmed_at__isnull=False).delete()
    return done


def confirm(chunks: Iterable[Chunk], *, keyholder: Keyholder) -> int:
    """Tell the keyholder of these rows, each regrouping's together; how many rows were told of.

    Raises KeyholderUnavailable, RefusedTransition (`chunk_unknown`).
    """
    by_act: dict[tuple[str, str], list[Chunk]] = defaultdict(list)
    for one in chunks:
        by_act[one.act, (one.patient_id or CUSTODIAN) if one.act else ""].append(one)
    for (act, whose), found in by_act.items():
        new = _versions(one for one in found if one.retired_at is None)
        if act:
            old = _versions(one for one in found if one.retired_at is not None)
            keyholder.replace_chunks(patient=whose, confirm=new, retire=old)
        else:
            keyholder.confirm_chunks(chunks=new)
        Chunk.objects.filter(pk__in=[one.pk for one in found]).update(confirmed_at=timezone.now())
    return sum(map(len, by_act.values()))


def _settle_some(whose: str, keyholder: Keyholder, labelled: Labelled) -> bool:
    """One call of the keyholder; whether there may be more to do."""
    patient = None if whose == CUSTODIAN else whose
    # 1. What there is, before it is looked at what is due of it: whatever comes later waits for its own turn.
    since = Unsettled.objects.filter(pk=whose).values_list("since", flat=True).first()
    seen = dict(untold(patient).values_list("pk", "act"))
    # 2. What may follow from a clinician's word is withheld before anything new is selected.
    if ToPassOn.objects.filter(pk=whose).exists() or clinical_labels.is_passing_on_due(whose):
        withhold_followers(whose, keyholder=keyholder)
    # 3. What an earlier round kept and could not tell of comes first.
    confirm(untold(patient).filter(act__in=set(seen.values()) - {""}), keyholder=keyholder)
    # 4. What is due, by the rows of versions; as much as one call carries.
    due = _Due(patient, labelled)
    if set(untold(patient).values_list("pk", flat=True)) - seen.keys():
        return True  # it came meanwhile, and may have to be withheld
    if not due.is_empty:
        # 5. Written down before it is asked for.
        with transaction.atomic():
            act = Regrouping.objects.create().pk
            record(kind="records.regrouped", actor=ACTOR, act=act, chunks=len(due.chunks))
        found = keyholder.regroup(
            act=act, patient=whose, chunks=held(list(due.chunks), blobs=True), changes=due.changes
        )
        # 6. Kept in one transaction; only then may the keyholder select the new and forget the old.
        with transaction.atomic():
            keep(act, patient, due, found)
        confirm(untold(patient).filter(act=act), keyholder=keyholder)
    if due.is_partial:
        return True
    confirm(untold(patient).filter(pk__in=list(seen), act=""), keyholder=keyholder)
    if since is not None:
        Unsettled.objects.filter(pk=whose, since=since).delete()
    return False


class _Due:
    """What is to be done for one patient, as far as one call carries it.

    chunks    those that are sent, by id
    changes   as keyholder/regrouping.Changes reads them
    """

    def __init__(self, patient: str | None, labelled: Labelled) -> None:
        self.versions = ResourceVersion.objects.filter(chunk__patient_id=patient)
        self.sizes: dict[str, int] = dict(
            Chunk.objects.filter(patient_id=patient, retired_at=None)
            .annotate(size=Length("blob"))
            .values_list("pk", "size")
        )
        stay = Chunk.objects.filter(patient_id=patient, retired_at=None, stays_small=True)
        self._stay_small = set(stay.values_list("pk", flat=True))
        self.chunks: dict[str, list[ResourceVersion]] = {}
        self.changes: dict[str, list[Any]] = defaultdict(list)
        self.label_changes: list[LabelChange] = []
        self.words = clinical_labels.said_of(patient)
        self.labelled: dict[str, str] = {}  # digest → name
        self.merged: list[str] = []
        self.is_partial = False
        self._room = MOST_BYTES
        self._numbers: dict[int, int] = {}
        self._clinicians(patient)
        self._same()
        self._deleted()
        self._rules(patient, labelled)
        self._small()

    @property
    def is_empty(self) -> bool:
        return not self.changes

    def _take(self, chunks: Iterable[str]) -> bool:
        """Have these chunks sent along, if there is room."""
        new = {one for one in chunks if one not in self.chunks}
        size = sum(self.sizes.get(one, 0) for one in new)
        if self.chunks and size > self._room:
            self.is_partial = True
            return False
        self._room -= size
        for one in sorted(new):
            rows = list(ResourceVersion.objects.filter(chunk=one).order_by("pk"))
            self.chunks[one] = rows
            self._numbers.update((row.pk, number) for number, row in enumerate(rows))
        return True

    def _line(self, row: ResourceVersion) -> Line:
        return row.chunk_id, self._numbers[row.pk]

    def _same(self) -> None:
        twice = (
            self.versions.exclude(name="").values("name").annotate(n=Count("pk")).filter(n__gt=1)
        ).values_list("name", flat=True)
        for name in list(twice[:5000]):
            rows = list(self.versions.filter(name=name).order_by("pk"))
            if self._take(one.chunk_id for one in rows):
                self.changes["same"].append([self._line(one) for one in rows])

    def _deleted(self) -> None:
        named = self.versions.filter(name__in=Deletion.objects.values("name"))
        at = dict(Deletion.objects.filter(name__in=named.values("name")).values_list("name", "at"))
        for row in named.order_by("pk")[:5000]:
            if self._take([row.chunk_id]):
                until = at[row.name].astimezone(UTC).isoformat()
                self.changes["drop"].append([self._line(row), until])

    def _rules(self, patient: str | None, labelled: Labelled) -> None:
        wanted = list(labelled)
        if patient is not None and wanted and clinical_labels.passing_on([patient]):
            # What follows others is left to the keyholder: who read the file knew of no clinician's label.
            wanted = [one for one in wanted if FOLLOWS not in labelled[one][3]]
        for first in range(0, len(wanted), 500):
            some = self.versions.filter(digest__in=wanted[first : first + 500]).exclude(rules=VERSION)
            for row in some.order_by("pk"):
                if self._take([row.chunk_id]):
                    labels, basis, name, codes = labelled[row.digest]
                    said = [self._line(row), list(labels), list(basis), VERSION, list(codes)]
                    self.changes["label"].append(said)
                    self.labelled[row.digest] = name

    def _clinicians(self, patient: str | None) -> None:
        if patient is None:
            return
        for change in LabelChange.objects.filter(patient=patient, state=LabelChange.State.DUE):
            rows = list(self.versions.filter(name=change.name).order_by("pk"))
            if self._take(one.chunk_id for one in rows):
                code = clinical_labels.told(change).label
                self.changes[change.act] += [[self._line(one), code, change.pk] for one in rows]
                self.label_changes.append(change)

    def _small(self) -> None:
        small = [one for one, size in self.sizes.items() if size <= SMALL_BYTES]
        if len(set(small) - self._stay_small) > MOST_CHUNKS and self._take(small):
            self.changes["merge"] = self.merged = small


class Asked(Protocol):
    """What the keyholder was asked to seal anew: rows of the chunks that it got, in the order of their lines;
    by digest the names of those whose labels are now of today's rules; clinicians' words that it carries out,
    and the ids of all that it knew of (`said_of`); and which chunks were to be sealed as one where there are
    many of their kind."""

    chunks: dict[str, list[ResourceVersion]]
    label_changes: list[LabelChange]

    @property
    def words(self) -> AbstractSet[str]: ...

    @property
    def labelled(self) -> Mapping[str, str]: ...

    @property
    def merged(self) -> Sequence[str]: ...


def keep(act: str, patient: str | None, due: Asked, found: RegroupedChunks) -> None:
    """The new chunks with their versions' rows, the old ones retired, what is gone written down.

    Within the caller's transaction; `confirm` what is `untold` once it is committed. Raises Conflict.
    """
    now = timezone.now()
    if patient is not None:
        # A word that came since stands in headers of which these chunks know nothing. `ask` holds this lock.
        Patient.objects.select_for_update(of=("self",)).filter(pk=patient).first()
        if clinical_labels.said_of(patient) - due.words:
            raise Conflict("A clinician labelled records meanwhile. Try again.")
    live = Chunk.objects.filter(pk__in=found["retired"], patient_id=patient, retired_at=None)
    if live.update(retired_at=now, confirmed_at=None, act=act) != len(found["retired"]):
        raise Conflict("The same records were regrouped by someone else meanwhile. Try again.")
    # What came with a newer version is selected in the moment in which the older one is not any more.
    Chunk.objects.filter(pk__in=due.chunks, confirmed_at=None, act="").update(act=act)
    for chunk, notes in found["notes"].items():
        Chunk.objects.filter(pk=chunk, retired_at=None).update(notes=notes)
    named = [row for rows in due.chunks.values() for row in rows if row.digest in due.labelled]
    for row in named:
        row.rules, row.name = VERSION, due.labelled[row.digest]
    ResourceVersion.objects.bulk_update(named, ["rules", "name"], batch_size=500)
    old = {chunk: due.chunks[chunk] for chunk in found["retired"]}
    ResourceVersion.objects.filter(chunk__in=old).delete()
    stayed: set[str] = set()
    for one in found["chunks"]:
        made = Chunk.objects.create(
            pk=one["chunk"],
            patient_id=patient,
            version=one["version"],
            blob=one["blob"],
            notes=one["notes"],
            act=act,
        )
        rows = [old[source][number] for source, number in one["lines"] if number < len(old[source])]
        stayed.update(row.digest for row in rows)
        ResourceVersion.objects.bulk_create(
            (
                ResourceVersion(
                    digest=row.digest,
                    chunk=made,
                    name=row.name,
                    version=row.version,
                    rules=row.rules,
                )
                for row in rows
            ),
            batch_size=500,
        )
        Moved.objects.bulk_create(
            Moved(patient_id=patient, old=source, new=made.pk)
            for source in sorted({source for source, _ in one["lines"]})
        )
    gone = [row for rows in old.values() for row in rows if row.digest not in stayed]
    Gone.objects.bulk_create(
        (
            Gone(
                digest=row.digest,
                patient_id=patient,
                name=row.name,
                version=row.version,
                chunk=row.chunk_id,
            )
            for row in gone
        ),
        ignore_conflicts=True,
        batch_size=500,
    )
    note_to_pass_on({one.patient_id for one in due.label_changes if clinical_labels.may_be_followed(one)})
    clinical_labels.done(due.label_changes, at=now)
    if due.merged:  # what is left small is too few of its kind: it waits until as many others have come
        new = [one["chunk"] for one in found["chunks"]]
        Chunk.objects.filter(pk__in=[*due.merged, *new], retired_at=None).update(stays_small=True)


def untold(patient: str | None) -> QuerySet[Chunk]:
    return BARE.filter(patient_id=patient, confirmed_at=None).order_by("created_at")


def _versions(chunks: Iterable[Chunk]) -> list[ChunkVersion]:
    return [{"chunk": one.pk, "version": one.version} for one in chunks]

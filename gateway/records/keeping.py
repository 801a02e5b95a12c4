"""What one file brought, kept in one transaction; then the keyholder is told that it may be selected.

What a crash leaves untold, `confirm_pending` tells.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator

from django.db import DatabaseError, connection, transaction
from django.db.models import Count
from django.db.models.functions import Length
from django.utils import timezone

from consent.models import Patient
from gateway.keyholder.client import Keyholder
from gateway.keyholder.regrouping import CUSTODIAN, SMALL_BYTES, resource_name
from gateway.records import clinical_labels, quarantine, settling
from gateway.records.arriving import Arriving
from gateway.records.due import note_to_pass_on, note_unsettled
from gateway.records.models import (
    Chunk,
    Deletion,
    LabelChange,
    Quarantined,
    ResourceVersion,
    ToPassOn,
    Unsettled,
)
from gateway.records.relabelling import pass_on, pass_on_due
from gateway.records.sealing import SealedChunk, Spool
from gateway.records.settling import BARE, confirm, settle, settle_due
from gateway.statements import AT_ONCE, in_batches, insert
from ledger.errors import GatewayError, RefusedTransition

log = logging.getLogger(__name__)

# Of sealed chunks that are kept with one statement: their bytes, and the versions in them.
_BYTES, _VERSIONS = 4 * 1024 * 1024, 5_000
# Keyed digests fall anywhere in their index: with SQLite's 2 MB each row would write and read its pages anew.
_CACHE_KIB = 64 * 1024


def keep(arriving: Arriving, noted: Callable[[int], object], *, file: str) -> None:
    """One transaction for patients, chunks and what was set aside; then the keyholder is told.

    `noted` is called in it, with the number of chunks; `file` is the digest that what was set aside goes by.
    """
    run, report, new = arriving.run, arriving.report, arriving.new
    aside = quarantine.sealed(run.keyholder, file, arriving.aside)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    with transaction.atomic():
        Patient.objects.bulk_create(new.values(), batch_size=AT_ONCE)
        chunks = [one for some in _in_parts(arriving.spool) for one in _keep_chunks(some)]
        Quarantined.objects.bulk_create(aside, batch_size=AT_ONCE)
        _keep_deletions(arriving)
        patients = {patient for _, patient in chunks}
        _note_passing_on(arriving, patients)
        _note_crowded(arriving, patients - arriving.unsettled)
        note_unsettled(arriving.unsettled)
        noted(len(chunks))
    run.patients.update((record_id, (one.pk, one.channel)) for record_id, one in new.items())
    report.state = "taken"
    report.chunks, report.patients = len(chunks), len(new)
    try:
        _settle(arriving, chunks)
    except (GatewayError, DatabaseError):
        report.confirmed = False  # the file is safe; the relay goes on later


Sealed = tuple[SealedChunk, bytes, bytes]


def _in_parts(spool: Spool) -> Iterator[list[Sealed]]:
    part: list[Sealed] = []
    size = versions = 0
    for one in spool:
        chunk, blob, notes = one
        part.append(one)
        size, versions = size + len(blob) + len(notes), versions + len(chunk.digests)
        if size > _BYTES or versions > _VERSIONS:
            yield part
            part, size, versions = [], 0, 0
    if part:
        yield part


def _keep_chunks(sealed: list[Sealed]) -> list[tuple[str, str]]:
    """Chunk and patient of each."""
    Chunk.objects.bulk_create(
        Chunk(pk=one.id, patient_id=None if one.patient == CUSTODIAN else one.patient, blob=blob, notes=notes)
        for one, blob, notes in sealed
    )
    insert(
        ResourceVersion,
        ("digest", "chunk", "name", "version", "rules"),
        [
            (digest, one.id, name, version, one.rules)
            for one, _, _ in sealed
            for digest, name, version in zip(one.digests, one.names, one.versions, strict=True)
        ],
    )
    return [(one.id, one.patient) for one, _, _ in sealed]


def _keep_deletions(arriving: Arriving) -> None:
    key, now = arriving.run.custodian_key if arriving.deleted else b"", timezone.now()
    names = (resource_name(key, one) for one in arriving.deleted)
    # FHIR R4, transaction: what a Bundle stores comes after what it deletes.
    for some in in_batches(name for name in names if name not in arriving.seen):
        Deletion.objects.bulk_create(
            [Deletion(name=name, at=now) for name in dict.fromkeys(some)],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["at"],
        )
        whose = ResourceVersion.objects.filter(name__in=some).values_list("chunk__patient", flat=True)
        arriving.unsettled.update(one or CUSTODIAN for one in whose.distinct())
    for some in in_batches(arriving.again):
        Deletion.objects.filter(name__in=some).delete()


def _note_passing_on(arriving: Arriving, patients: set[str]) -> None:
    """Those whose new records may follow from what a clinician labelled: these are withheld first."""
    for some in in_batches(sorted(patients)):
        arriving.passing_on |= clinical_labels.passing_on(some)
    arriving.unsettled |= arriving.passing_on
    note_to_pass_on(arriving.passing_on)


def _note_crowded(arriving: Arriving, patients: set[str]) -> None:
    """Those with so many new small chunks that some are to be sealed as one."""
    for some in in_batches(sorted(patients)):
        live = Chunk.objects.filter(patient__in=some, retired_at=None, stays_small=False)
        small = live.annotate(size=Length("blob")).filter(size__lte=SMALL_BYTES).values("patient")
        crowded = small.annotate(count=Count("pk")).filter(count__gt=settling.MOST_CHUNKS)
        arriving.unsettled.update(crowded.values_list("patient", flat=True))


def _settle(arriving: Arriving, chunks: list[tuple[str, str]]) -> None:
    """Have what is new selected: at once, or where older records are touched after a regrouping."""
    keyholder = arriving.run.keyholder
    late = _labelled_meanwhile({patient for _, patient in chunks} - arriving.passing_on)
    arriving.passing_on |= late
    arriving.unsettled |= late
    settled = (chunk for chunk, patient in chunks if patient not in arriving.unsettled)
    for some in in_batches(settled):
        confirm(BARE.filter(pk__in=some, act=""), keyholder=keyholder)
    for patient in sorted(arriving.unsettled):
        settle(patient, keyholder=keyholder)
    arriving.labelled.seek(0)
    for line in arriving.labelled:
        patient, labelled = json.loads(line)
        settle(patient, keyholder=keyholder, labelled=labelled)
    for patient in sorted(arriving.passing_on):
        pass_on(patient, keyholder=keyholder)


def confirm_pending(keyholder: Keyholder) -> int:
    """Tell the keyholder of chunks that were kept and not yet told of; how many it took.

    Of those whose records are to be regrouped first, `settle_due` tells. Raises KeyholderUnavailable. A chunk
    that it does not know stays unconfirmed, and is never selected.
    """
    settle_due(keyholder)
    pass_on_due(keyholder)
    pending = BARE.filter(confirmed_at=None).exclude(patient__in=Unsettled.objects.values("whose"))
    pending = pending.exclude(patient__in=ToPassOn.objects.values("whose"))
    due = LabelChange.objects.filter(state=LabelChange.State.DUE)
    pending = pending.exclude(patient__in=due.values("patient"))
    acts = pending.exclude(act="").order_by("act").values_list("act", flat=True).distinct()[:AT_ONCE]
    told = sum(_confirm_logged(BARE.filter(confirmed_at=None, act=act), keyholder) for act in acts)
    some = list(pending.filter(act="").order_by("created_at")[:AT_ONCE])
    late = _labelled_meanwhile({one.patient_id for one in some if one.patient_id is not None})
    some = [one for one in some if one.patient_id not in late]  # theirs are withheld in the next round
    try:
        return told + confirm(some, keyholder=keyholder)
    except RefusedTransition:
        return told + sum(_confirm_logged([one], keyholder) for one in some)


def _labelled_meanwhile(patients: Iterable[str]) -> set[str]:
    """Those to whom a clinician's label passes along, though nobody knew it when their records were kept:
    whoever says one from now on finds those records and has them withheld."""
    found: set[str] = set()
    for some in in_batches(sorted(patients)):
        found |= clinical_labels.passing_on(some)
    with transaction.atomic():
        note_to_pass_on(found)
    return found


def _confirm_logged(chunks: Iterable[Chunk], keyholder: Keyholder) -> int:
    try:
        return confirm(chunks, keyholder=keyholder)
    except RefusedTransition:
        log.error("The keyholder has no header of a chunk in the database: its records cannot be opened.")
        return 0

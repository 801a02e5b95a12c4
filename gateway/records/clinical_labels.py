"""A clinician's word on how sensitive a record is: added, it counts at once; lifted, when a second agrees.

Rows here say who and when; which record, which label and why is encrypted under a key that the installation's
secret gives. The label itself stands in the sealed notes of the chunk, and so outlives rules and versions.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from consent.explanation import SENSITIVE
from consent.installation_keys import key_for
from consent.models import Patient, random_id
from gateway.keyholder.client import ChunkVersion, Keyholder
from gateway.keyholder.envelope import seal, unseal
from gateway.labels.rules import FOLLOWED
from gateway.records.due import note_unsettled
from gateway.records.held import batches, held
from gateway.records.models import Chunk, LabelChange, ResourceVersion
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput, RefusedTransition

RELAY = Actor.system("relay")
MOST_REASON = 500
_RESOURCE = re.compile(r"[A-Z][A-Za-z]{1,40}/[A-Za-z0-9\-.]{1,64}")

Act = LabelChange.Act
State = LabelChange.State


@dataclass(frozen=True)
class Told:
    """`resource` is `Type/id` as its source names it, `label` a sensitivity of v3-ActCode."""

    resource: str
    label: str
    reason: str


def ask(
    *,
    patient: Patient,
    act: str,
    resource: str,
    label: str,
    reason: str,
    by: AbstractBaseUser,
    keyholder: Keyholder,
) -> LabelChange:
    """Add a sensitivity to one resource of the patient, at once; or ask that one be lifted.

    A label that is added counts for the next opening: all of the resource's chunk carries it until the relay
    has sealed the resource by itself, and what may follow from it is withheld until it is labelled anew.

    Raises InvalidInput (`label_resource`, `label_unknown`, `label_reason`), RefusedTransition
    (`resource_unknown`, `label_asked`), KeyholderUnavailable.
    """
    resource, reason = resource.strip(), reason.strip()
    if not _RESOURCE.fullmatch(resource):
        raise InvalidInput(_("A record is named by its type and id: Condition/123."), code="label_resource")
    if label not in SENSITIVE or act not in Act.values:
        raise InvalidInput(_("Choose one of the labels."), code="label_unknown")
    if not 0 < len(reason) <= MOST_REASON:
        raise InvalidInput(_("Say why, in 500 characters at most."), code="label_reason")
    name = keyholder.resource_name(resource=resource)
    with transaction.atomic():
        Patient.objects.select_for_update(of=("self",)).get(pk=patient.pk)
        versions = ResourceVersion.objects.filter(name=name, chunk__patient=patient)
        if not versions.exists():
            raise RefusedTransition(_("This patient has no such record here."), code="resource_unknown")
        open_ones = LabelChange.objects.filter(patient=patient, name=name, state__in=LabelChange.OPEN)
        if any(told(one).label == label for one in open_ones):
            raise RefusedTransition(_("This was asked for already."), code="label_asked")
        change = _row(patient, act, name, Told(resource, label, reason), by)
        change.save()
        if change.state == State.DUE:
            note_unsettled([patient.pk])
        record(
            kind="labels.asked",
            actor=Actor.staff(by.pk),
            subject=patient.pseudonym,
            change=change.pk,
            code=change.act,
        )
    if change.state == State.DUE:
        _restrict(
            patient, Chunk.objects.filter(pk__in=versions.values("chunk"), retired_at=None), label, keyholder
        )
    return change


def _restrict(patient: Patient, chunks: Iterable[Chunk], label: str, keyholder: Keyholder) -> None:
    """All of these chunks carry the label, and what may follow from them is withheld."""
    of: ChunkVersion | None = None
    for one in chunks:
        of = {"chunk": one.pk, "version": one.version}
        keyholder.restrict_chunk(patient=patient.pk, **of, label=label)
    if of is not None:
        for batch in batches(Chunk.objects.filter(patient=patient, retired_at=None).order_by("pk")):
            keyholder.withhold_followers(patient=patient.pk, of=of, chunks=held(batch, blobs=False))


@transaction.atomic
def agree(*, change: LabelChange, by: AbstractBaseUser) -> None:
    """The second person agrees that the label be lifted. Raises RefusedTransition (`label_settled`,
    `second_person`)."""
    found = _open(change)
    if found.by_id == by.pk:
        raise RefusedTransition(_("Somebody else has to agree."), code="second_person")
    found.state, found.second_id = State.DUE, by.pk
    found.save(update_fields=["state", "second"])
    note_unsettled([found.patient_id])
    record(kind="labels.agreed", actor=Actor.staff(by.pk), subject=found.patient.pseudonym, change=found.pk)


@transaction.atomic
def refuse(*, change: LabelChange, by: AbstractBaseUser) -> None:
    """The label stays; whoever asked may take it back so. Raises RefusedTransition (`label_settled`)."""
    found = _open(change)
    found.state, found.second_id, found.settled_at = State.REFUSED, by.pk, timezone.now()
    found.save(update_fields=["state", "second", "settled_at"])
    record(kind="labels.refused", actor=Actor.staff(by.pk), subject=found.patient.pseudonym, change=found.pk)


def done(changes: Iterable[LabelChange], *, at: datetime) -> None:
    """The records are sealed so. Within the transaction that keeps them."""
    for one in changes:
        LabelChange.objects.filter(pk=one.pk).update(state=State.DONE, settled_at=at)
        record(
            kind="labels.changed",
            actor=RELAY,
            subject=one.patient.pseudonym,
            change=one.pk,
            code=one.act,
        )


def may_be_followed(change: LabelChange) -> bool:
    """Whether others' labels may follow from those of the record that it names. Raises EnvelopeError."""
    return told(change).resource.partition("/")[0] in FOLLOWED


def said_of(patient: str | None) -> set[str]:
    """The words on this patient's records that count: their ids, of those that are due and those that are
    carried out."""
    said = LabelChange.objects.filter(patient=patient, state__in=(State.DUE, State.DONE))
    return set(said.values_list("pk", flat=True))


def is_passing_on_due(whose: str) -> bool:
    """Whether a word on such a record of this patient is to be carried out."""
    return any(map(may_be_followed, LabelChange.objects.filter(patient=whose, state=State.DUE)))


def passing_on(patients: Iterable[str]) -> set[str]:
    """Those of the patients, 500 at most, to whose records clinicians gave a label that passes along."""
    added = LabelChange.objects.filter(patient__in=patients, act=Act.ADD, state__in=(State.DUE, State.DONE))
    return {one.patient_id for one in added if may_be_followed(one)}


def told(change: LabelChange) -> Told:
    """Raises EnvelopeError where the row was tampered with, or the installation's secret has changed."""
    return Told(**json.loads(unseal(_key(), bytes(change.sealed), _aad(change))))


def _row(patient: Patient, act: str, name: str, said: Told, by: AbstractBaseUser) -> LabelChange:
    change = LabelChange(
        id=random_id(),
        patient=patient,
        name=name,
        act=act,
        by_id=by.pk,
        state=State.DUE if act == Act.ADD else State.ASKED,
    )
    change.sealed = seal(_key(), json.dumps(asdict(said)).encode(), _aad(change))
    return change


def _open(change: LabelChange) -> LabelChange:
    found = LabelChange.objects.select_for_update(of=("self",)).select_related("patient").get(pk=change.pk)
    if found.state != State.ASKED:
        raise RefusedTransition(_("This is decided already."), code="label_settled")
    return found


def _aad(change: LabelChange) -> bytes:
    return f"label change {change.pk} {change.patient_id} {change.act}".encode()


def _key() -> bytes:
    return key_for(b"labels of clinicians")

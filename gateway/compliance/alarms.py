"""Alarms: looks at a patient's records by members of staff that somebody else should judge.

The sealed log is read once (watching.py), so no look is missed and none is judged twice. A look is an
emergency access, a reading under one, or a reading of a result. A rule accuses nobody: what it finds is a row
with an owner.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from gateway.accounts.models import User
from gateway.analysis.models import JobSubject
from gateway.compliance.models import SHORTEST, Alarm, Look
from gateway.compliance.watching import ALARMS, read_on
from gateway.emergency.models import Emergency
from ledger.audit.log import Actor, record
from ledger.audit.models import AuditRow
from ledger.errors import InvalidInput, RefusedTransition

LOOKS = ("access.emergency", "emergency.read", "result.read")
NIGHT_BEGINS, NIGHT_ENDS = 22, 6  # hours of the hospital's time zone
HOUR, MANY = timedelta(hours=1), 20  # patients of one person within an hour
KEPT = timedelta(days=1)
RELAY = Actor.system("relay")

Kind = Alarm.Kind


def judge(look: Look, patients_within_the_hour: int) -> list[Kind]:
    """The rules that this look meets. The count is of patients that its person saw, this one included."""
    hour = timezone.localtime(look.at).hour
    name = _surname(look.by.get_full_name())
    met = {
        Kind.NIGHT: hour >= NIGHT_BEGINS or hour < NIGHT_ENDS,
        Kind.OWN: look.patient.user_id == look.by.pk,
        Kind.SURNAME: name != "" and name == _surname(look.patient.name),
        Kind.VOLUME: patients_within_the_hour == MANY,
        Kind.WELL_KNOWN: look.patient.well_known,
    }
    return [kind for kind, is_met in met.items() if is_met]


def _surname(name: str) -> str:
    return name.rsplit(maxsplit=1)[-1].casefold() if name.split() else ""


def watch() -> int:
    """Read on from where the last round ended, and open what the rules find; how many alarms."""
    return read_on(ALARMS, LOOKS, _judge)


def _judge(rows: Sequence[AuditRow]) -> int:
    opened = sum(_look(leaf, look) for leaf, look in _looks(rows))
    Look.objects.filter(at__lt=timezone.now() - KEPT).delete()
    return opened


def _looks(rows: Sequence[AuditRow]) -> Iterator[tuple[int, Look]]:
    """The looks that these rows tell of: by a member of staff whom we know, at a patient whom we know."""
    if not rows:
        return
    staff = {Actor.staff(user.pk).id: user for user in User.objects.filter(is_staff=True)}
    keys = [row.step_of for row in rows]
    emergencies = Emergency.objects.select_related("patient").in_bulk(keys)
    subjects = JobSubject.objects.select_related("patient").in_bulk(keys)
    for row in rows:
        actor = json.loads(bytes(row.line))["actor"]
        by = staff.get(actor["id"]) if actor["kind"] == "staff" else None
        about = emergencies.get(row.step_of) or subjects.get(row.step_of)
        if by is not None and about is not None and about.patient is not None and row.leaf is not None:
            yield row.leaf, Look(by=by, patient=about.patient, at=row.recorded_at)


def _look(leaf: int, look: Look) -> int:
    look.save()
    recent = Look.objects.filter(by=look.by, at__gt=look.at - HOUR, at__lte=look.at)
    count = recent.values("patient").distinct().count()
    return sum(_open(kind, leaf, look) for kind in judge(look, count))


def _open(kind: Kind, leaf: int, look: Look) -> bool:
    """One alarm of a kind for each person, patient and day."""
    day = timezone.localtime(look.at).date()
    _alarm, is_new = Alarm.objects.get_or_create(
        kind=kind, by=look.by, patient=look.patient, day=day, defaults={"seen_at": look.at, "leaf": leaf}
    )
    if is_new:
        record(kind="alarm.opened", actor=RELAY, subject=look.patient.pseudonym, code=str(kind), leaf=leaf)
    return is_new


def take(*, alarm: Alarm, by: User) -> None:
    """It is this person's to judge. Raises RefusedTransition (`own_alarm`, `alarm_settled`)."""
    _may_judge(alarm, by)
    Alarm.objects.filter(pk=alarm.pk, settled_at=None).update(owner=by)


@transaction.atomic
def settle(*, alarm: Alarm, by: User, outcome: str, reason: str) -> None:
    """Say what was found. Raises InvalidInput, and what `take` raises."""
    if outcome not in Alarm.Outcome.values or len(reason.strip()) < SHORTEST:
        raise InvalidInput(_("Say what you found, in 15 characters or more."), code="alarm_reason")
    alarm = Alarm.objects.select_for_update().select_related("patient").get(pk=alarm.pk)
    _may_judge(alarm, by)
    alarm.settled_at, alarm.settled_by = timezone.now(), by
    alarm.outcome, alarm.reason, alarm.owner = outcome, reason.strip(), by
    alarm.save()
    record(
        kind="alarm.settled",
        actor=Actor.staff(by.pk),
        subject=alarm.patient.pseudonym,
        code=str(alarm.kind),
        leaf=alarm.leaf,
        outcome=outcome,
    )


def _may_judge(alarm: Alarm, by: User) -> None:
    if by.pk in (alarm.by_id, alarm.patient.user_id):
        raise RefusedTransition(_("Somebody else has to judge this."), code="own_alarm")
    if alarm.settled_at is not None:
        raise RefusedTransition(_("This was judged already."), code="alarm_settled")

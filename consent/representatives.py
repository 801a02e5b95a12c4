"""Who acts for a patient: registered by the clinic, accepted by the person, ended; and what that covers.

The authority is worked out at each act, from the row and the day: a session, a page that was left open, or
a job that did not run cannot make it longer.
"""

import secrets
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django.utils.translation import gettext as _

from consent import news
from consent.explanation import KINDS, SENSITIVE
from consent.models import News, Patient, Representative, Scan
from consent.patients import INVITATION_LASTS, digest_of
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput, RefusedTransition

Role, Scope, EndedBy = Representative.Role, Representative.Scope, Representative.EndedBy

# Whom the patient may send away herself. A parent of a child, and a guardian, only the clinic.
PATIENT_MAY_END = frozenset({Role.ATTORNEY})

TOLD_LATE = timedelta(days=60)  # who came of age longer ago reads it on her pages
TOLD_AT_ONCE = 500  # for each call of tell_birthdays


@transaction.atomic
def register(
    *,
    patient: Patient,
    name: str,
    role: str,
    scope: str,
    evidence: Scan,
    by: AbstractBaseUser,
    kinds: Sequence[str] = (),
    sensitive: Sequence[str] = (),
    starts: date | None = None,
    ends: date | None = None,
) -> tuple[Representative, str]:
    """A new representative, and the code that only this person gets. `by` has looked at the paper.

    `kinds` and `sensitive` are what they may say yes to; nothing needs them but the scope `answer`.
    Raises InvalidInput, RefusedTransition (`own_authority`).
    """
    if patient.user_id == by.pk:
        raise RefusedTransition(_("Somebody else has to register who acts for you."), code="own_authority")
    made = Representative(
        patient=patient,
        name=name.strip(),
        role=role,
        scope=scope,
        kinds=sorted(set(kinds)),
        sensitive=sorted(set(sensitive)),
        evidence=evidence,
        checked_by_id=by.pk,
        starts=starts or timezone.localdate(),
        ends=ends,
    )
    _check(made)
    code = _new_code(made, Actor.staff(by.pk))
    news.tell(patient=patient, kind=News.Kind.ACTS_FOR, about=made.pk)
    return made, code


@transaction.atomic
def invite_again(*, representative: Representative, by: Actor) -> str:
    """A new code for who has not accepted yet; the old one stops working. Raises RefusedTransition."""
    locked = _locked(representative)
    if locked.accepted_at is not None or locked.ended_at is not None:
        raise RefusedTransition(
            _("This person has accepted already, or acts no more."), code="invitation_used"
        )
    return _new_code(locked, by)


def find_invitation(code: str) -> Representative:
    """Whom this code invites. Raises RefusedTransition; unknown, used and expired look the same."""
    found = (
        Representative.objects.filter(
            invitation_digest=digest_of(code),
            invitation_expires__gt=timezone.now(),
            accepted_at=None,
            ended_at=None,
        )
        .select_related("patient")
        .first()
    )
    if not code or found is None:
        raise RefusedTransition(
            _("This invitation does not work. Ask the clinic for a new one."), code="invitation_invalid"
        )
    return found


@transaction.atomic
def accept(*, code: str, user: AbstractBaseUser) -> Representative:
    """The person takes it on, with an account of their own; the code is used up.

    Raises RefusedTransition (`invitation_invalid`, `own_authority`: the patient, or who looked at the paper).
    """
    found = find_invitation(code)
    if user.pk in (found.patient.user_id, found.checked_by_id):
        raise RefusedTransition(_("This invitation is for somebody else."), code="own_authority")
    if found.patient.representatives.filter(user_id=user.pk, ended_at=None).exists():
        raise RefusedTransition(_("You act for this person already."), code="acts_already")
    taken = Representative.objects.filter(pk=found.pk, accepted_at=None, ended_at=None).update(
        user_id=user.pk, accepted_at=timezone.now(), invitation_digest="", invitation_expires=None
    )
    if not taken:
        raise RefusedTransition(
            _("This invitation does not work. Ask the clinic for a new one."), code="invitation_invalid"
        )
    found.refresh_from_db()
    _record("representative.accepted", found, Actor.representative(found.pseudonym))
    return found


def end_by_clinic(*, representative: Representative, by: AbstractBaseUser) -> None:
    """Raises RefusedTransition (`ended_already`, `own_authority`)."""
    if representative.patient.user_id == by.pk:
        raise RefusedTransition(_("Somebody else has to end this for you."), code="own_authority")
    _end(representative, EndedBy.CLINIC, Actor.staff(by.pk))


def end_by_patient(*, representative: Representative, patient: Patient) -> None:
    """Raises RefusedTransition (`ended_already`, `not_yours`, `clinic_ends`)."""
    if representative.patient_id != patient.pk:
        raise RefusedTransition(_("This is another person's."), code="not_yours")
    if representative.role not in PATIENT_MAY_END:
        raise RefusedTransition(
            _("Only the clinic can end this. Call us, and tell us why."), code="clinic_ends"
        )
    _end(representative, EndedBy.PATIENT, Actor.patient(patient.pseudonym))


def lay_down(*, representative: Representative, user: AbstractBaseUser) -> None:
    """The representative acts no more. Raises RefusedTransition (`ended_already`, `not_yours`)."""
    if representative.user_id != user.pk:
        raise RefusedTransition(_("This is another person's."), code="not_yours")
    _end(representative, EndedBy.REPRESENTATIVE, Actor.representative(representative.pseudonym))


@transaction.atomic
def _end(representative: Representative, ended_by: str, actor: Actor) -> None:
    """What they gave stays as it is: the patient, or whoever else may, stops it."""
    locked = _locked(representative)
    if locked.ended_at is not None:
        raise RefusedTransition(_("This person does not act any more."), code="ended_already")
    locked.ended_at, locked.ended_by = timezone.now(), ended_by
    locked.invitation_digest, locked.invitation_expires = "", None
    locked.save(update_fields=["ended_at", "ended_by", "invitation_digest", "invitation_expires"])
    if ended_by != EndedBy.PATIENT:
        news.tell(patient=locked.patient_id, kind=News.Kind.ACTS_NO_MORE, about=locked.pk)
    _record("representative.ended", locked, actor, code=str(ended_by))
    representative.ended_at, representative.ended_by = locked.ended_at, locked.ended_by


@transaction.atomic
def enter(*, representative: Representative) -> None:
    """From now on this session acts for the patient; written down once. Raises RefusedTransition."""
    check(representative, representative.patient, Scope.SEE)
    _record("representative.entered", representative, Actor.representative(representative.pseudonym))


def check(
    representative: Representative | None,
    patient: Patient,
    act: str,
    *,
    kinds: Sequence[str] = (),
    sensitive: Sequence[str] = (),
    asked: Sequence[str] = (),
) -> None:
    """That this person may do `act` for this patient now, and decide about all of `kinds` and `sensitive`,
    and about some of `asked`, where it is given; None: the patient herself, who may.

    The row is read again. Raises RefusedTransition (`not_yours`, `authority_over`, `out_of_scope`).
    """
    if representative is None:
        return
    now = Representative.objects.select_related("patient").get(pk=representative.pk)
    if now.patient_id != patient.pk:
        raise RefusedTransition(_("This is another person's."), code="not_yours")
    if not now.stands():
        raise RefusedTransition(_("You do not act for this person any more."), code="authority_over")
    beyond = set(kinds) - set(now.kinds) or set(sensitive) - set(now.sensitive)
    if not now.may(act) or beyond or (asked and not set(asked) & set(now.kinds)):
        raise RefusedTransition(_("You may not decide this for this person."), code="out_of_scope")


def tell_of_age(*, patient: Patient) -> None:
    """She has read that she decides alone from now on."""
    for one in patient.representatives.filter(told_at=None).select_related("patient"):
        if one.came_of_age():
            Representative.objects.filter(pk=one.pk, told_at=None).update(told_at=timezone.now())


def tell_birthdays(*, today: date | None = None) -> int:
    """News, once, to whoever came of age lately and was decided for until then. How many were told."""
    today = today or timezone.localdate()
    told = 0
    for one in _of_age_lately(today):
        if not one.came_of_age(today):
            continue
        with transaction.atomic():
            patient = Patient.objects.select_for_update().get(pk=one.patient_id)
            if not news.was_told(patient=patient, kind=News.Kind.OF_AGE, about=""):
                news.tell(patient=patient, kind=News.Kind.OF_AGE)
                told += 1
    return told


def _of_age_lately(today: date) -> list[Representative]:
    """Who acts for somebody with such a birthday in the last TOLD_LATE, and with no news of it yet."""
    # A day more than needed, for who was born on 29 February: `came_of_age` decides.
    born = date(today.year - settings.AGE_OF_MAJORITY, today.month, 1) + timedelta(days=today.day)
    was_told = News.objects.filter(kind=News.Kind.OF_AGE, patient=OuterRef("patient"))
    return list(
        Representative.objects.filter(
            ~Exists(was_told),
            accepted_at__isnull=False,
            patient__user__isnull=False,
            patient__birth_date__range=(born - TOLD_LATE, born),
        ).select_related("patient")[:TOLD_AT_ONCE]
    )


def _check(made: Representative) -> None:
    """That this authority can be: InvalidInput says why not."""
    of_age, first = made.patient.of_age_on, max(made.starts, timezone.localdate())
    if not made.name or len(made.name) > 200:
        raise InvalidInput(_("Give the name of the person."), code="name")
    if made.role not in Role.values or made.scope not in Scope.values:
        raise InvalidInput(_("Say who the person is to the patient, and what they may do."), code="role")
    if made.evidence.patient_id != made.patient_id:
        raise InvalidInput(_("This paper belongs to another patient."), code="scan_of_another")
    if set(made.kinds) - KINDS.keys() or set(made.sensitive) - SENSITIVE.keys():
        raise InvalidInput(_("Choose from the kinds of record that we know."), code="kinds")
    if (made.scope == Scope.ANSWER) != bool(made.kinds) or (made.sensitive and not made.kinds):
        raise InvalidInput(
            _("Choose kinds of record for who may say yes, and for nobody else."), code="kinds"
        )
    if made.ends is not None and made.ends < first:
        raise InvalidInput(_("The last day is not before the first, and not over yet."), code="dates")
    if of_age is None:
        raise InvalidInput(_("Write down the patient's date of birth first."), code="birth_date")
    if made.role == Role.PARENT and first >= of_age:
        raise InvalidInput(_("A parent decides for a minor only."), code="of_age")
    if made.role == Role.ATTORNEY and made.starts < of_age:
        raise InvalidInput(_("A minor cannot give a power of attorney."), code="minor")


def _new_code(representative: Representative, by: Actor) -> str:
    code = secrets.token_urlsafe(16)
    representative.invitation_digest = digest_of(code)
    representative.invitation_expires = timezone.now() + INVITATION_LASTS
    representative.save()
    _record("representative.registered", representative, by, scan=representative.evidence.digest)
    return code


def _locked(representative: Representative) -> Representative:
    return (
        Representative.objects.select_for_update(of=("self",))
        .select_related("patient", "evidence")
        .get(pk=representative.pk)
    )


def _record(kind: str, representative: Representative, actor: Actor, **details: Any) -> None:
    record(
        kind=kind,
        actor=actor,
        subject=representative.patient.pseudonym,
        representative=representative.pseudonym,
        role=representative.role,
        scope=representative.scope,
        **details,
    )

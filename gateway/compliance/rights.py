"""Reviews of access rights: who may do what, looked at by somebody else, and confirmed or taken away.

A review is due for each member of staff once the days of ACCESS_REVIEW_DAYS have passed since the last one,
or since the account was made, and at once where the rights are no longer those that were confirmed.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from gateway.accounts.models import User
from gateway.accounts.roles import ROLES
from gateway.compliance.models import SHORTEST, RightsReview
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput, RefusedTransition

RELAY = Actor.system("relay")
SUPERUSER = "superuser"

Outcome = RightsReview.Outcome


def rights_of(user: User) -> list[str]:
    """The roles of a member of staff, sorted, and `superuser`; of whoever may not sign in there, none."""
    if not (user.is_active and user.is_staff):
        return []
    groups = {group.name for group in user.groups.all()} & ROLES.keys()
    return sorted(groups | ({SUPERUSER} if user.is_superuser else set()))


def staff() -> Iterable[User]:
    """Every member of staff who may do something, by email."""
    found = User.objects.filter(is_staff=True, is_active=True).prefetch_related("groups").order_by("email")
    return [user for user in found if rights_of(user)]


def last_reviews(users: Iterable[User]) -> dict[int, RightsReview]:
    """The newest review of each, open or not."""
    found = (
        RightsReview.objects.filter(of__in=list(users)).select_related("owner").order_by("opened_at", "pk")
    )
    return {review.of_id: review for review in found}


def due_on(user: User, last: RightsReview | None) -> datetime:
    """From when on this person's rights want a look."""
    days = timedelta(days=settings.ACCESS_REVIEW_DAYS)
    if last is None or last.settled_at is None:
        return user.date_joined + days if last is None else last.opened_at
    return last.settled_at if last.roles != rights_of(user) else last.settled_at + days


@transaction.atomic
def open_due() -> int:
    """Open what is due and not open yet; the relay calls this. How many."""
    people, now, opened = list(staff()), timezone.now(), 0
    last = last_reviews(people)
    for user in people:
        known = last.get(user.pk)
        if (known is not None and known.settled_at is None) or due_on(user, known) > now:
            continue
        RightsReview.objects.create(of=user, roles=rights_of(user))
        _record("rights.review_opened", RELAY, user, rights_of(user))
        opened += 1
    return opened


def take(*, review: RightsReview, by: User) -> None:
    """It is this person's to decide. Raises RefusedTransition (`own_rights`, `review_settled`)."""
    _may_decide(review, by)
    RightsReview.objects.filter(pk=review.pk, settled_at=None).update(owner=by)


@transaction.atomic
def settle(*, review: RightsReview, by: User, outcome: str, reason: str) -> None:
    """Confirm the rights as they stand now, or take all of them away, at once.

    Raises InvalidInput (`rights_reason`), RefusedTransition (`own_rights`, `review_settled`;
    `last_superuser`: somebody has to be left who can give rights).
    """
    if outcome not in Outcome.values or len(reason.strip()) < SHORTEST:
        raise InvalidInput(_("Say why, in 15 characters or more."), code="rights_reason")
    review = RightsReview.objects.select_for_update(of=("self",)).select_related("of").get(pk=review.pk)
    _may_decide(review, by)
    user = User.objects.select_for_update().get(pk=review.of_id)
    review.roles = rights_of(user)
    if outcome == Outcome.TAKEN_AWAY:
        _take_away(user)
    review.settled_at, review.settled_by, review.owner = timezone.now(), by, by
    review.outcome, review.reason = outcome, reason.strip()
    review.save()
    _record(f"rights.{outcome}", Actor.staff(by.pk), user, review.roles)


def _take_away(user: User) -> None:
    others = User.objects.filter(is_superuser=True, is_staff=True, is_active=True).exclude(pk=user.pk)
    if user.is_superuser and not others.exists():
        raise RefusedTransition(
            _("Nobody else could give rights. Make another superuser first."), code="last_superuser"
        )
    user.groups.remove(*Group.objects.filter(name__in=ROLES))
    user.is_superuser = False
    user.save(update_fields=["is_superuser"])


def _may_decide(review: RightsReview, by: User) -> None:
    if by.pk == review.of_id:
        raise RefusedTransition(_("Somebody else has to look at your rights."), code="own_rights")
    if review.settled_at is not None:
        raise RefusedTransition(_("This was decided already."), code="review_settled")


def _record(kind: str, by: Actor, user: User, roles: list[str]) -> None:
    record(kind=kind, actor=by, person=Actor.staff(user.pk).id, roles=roles)

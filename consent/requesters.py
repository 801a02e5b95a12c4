"""AI providers as the hospital knows them: registered, changed, suspended. Each act leaves an audit row."""

from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from consent.explanation import PURPOSES
from consent.models import Requester
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput, RefusedTransition


@transaction.atomic
def register(*, name: str, contact: str, purposes: Sequence[str], by: Actor) -> Requester:
    """A new provider, and the purposes (v3-ActReason codes) that were agreed with it. Raises InvalidInput."""
    _check(name, purposes)
    if Requester.objects.filter(name__iexact=name.strip()).exists():
        raise InvalidInput(_("There is a provider of this name already."), code="name_taken")
    made = Requester.objects.create(
        name=name.strip(), contact=contact.strip(), purposes=sorted(set(purposes))
    )
    record(kind="requester.registered", actor=by, requester=str(made.pk))
    return made


@transaction.atomic
def change(*, requester: Requester, contact: str, purposes: Sequence[str], by: Actor) -> None:
    """Whom to write to, and what was agreed. The name stays: patients have read it. Raises InvalidInput."""
    _check(requester.name, purposes)
    requester.contact, requester.purposes = contact.strip(), sorted(set(purposes))
    requester.save(update_fields=["contact", "purposes"])
    record(kind="requester.changed", actor=by, requester=str(requester.pk))


@transaction.atomic
def suspend(*, requester: Requester, by: Actor) -> None:
    """From now on no question or job of its is taken, and no result is opened to it.

    Raises RefusedTransition (`suspended`).
    """
    if not Requester.objects.filter(pk=requester.pk, suspended_at=None).update(suspended_at=timezone.now()):
        raise RefusedTransition(_("This provider is suspended already."), code="suspended")
    record(kind="requester.suspended", actor=by, requester=str(requester.pk))
    requester.refresh_from_db()


@transaction.atomic
def resume(*, requester: Requester, by: Actor) -> None:
    """Its questions and jobs are taken again; its models stay as they are. Raises RefusedTransition."""
    if not Requester.objects.filter(pk=requester.pk, suspended_at__isnull=False).update(suspended_at=None):
        raise RefusedTransition(_("This provider is not suspended."), code="not_suspended")
    record(kind="requester.resumed", actor=by, requester=str(requester.pk))
    requester.refresh_from_db()


def _check(name: str, purposes: Sequence[str]) -> None:
    if not 0 < len(name.strip()) <= 200:
        raise InvalidInput(_("Give the provider's name."), code="name")
    if set(purposes) - PURPOSES.keys():
        raise InvalidInput(_("Choose purposes from the list."), code="purpose")

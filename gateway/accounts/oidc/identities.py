"""Whose account a provider's `sub` is: linked by an invitation, or by the person, and by nothing else.

An email, a name, or any other claim never leads to an account, and no sub makes one by itself.
"""

from allauth.account.utils import setup_user_email
from django.db import IntegrityError, transaction
from django.http import HttpRequest

from consent import invitations
from consent.models import Patient, Representative
from gateway.accounts.models import ProviderIdentity, User
from gateway.accounts.oidc.providers import Provider
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput, RefusedTransition


def find(provider: Provider, subject: str) -> ProviderIdentity | None:
    return (
        ProviderIdentity.objects.select_related("user")
        .filter(issuer=provider.issuer, subject=subject)
        .first()
    )


def of(user: User, provider: Provider) -> ProviderIdentity | None:
    return ProviderIdentity.objects.filter(issuer=provider.issuer, user=user).first()


def link(*, user: User, provider: Provider, subject: str, how: str) -> None:
    """From now on `subject` signs in to this account. `how`: "invitation" or "settings".

    Raises RefusedTransition (`identity_taken`): it is another account's, or this account has one there.
    """
    try:
        with transaction.atomic():
            ProviderIdentity.objects.create(user=user, issuer=provider.issuer, subject=subject)
            _record("identity.linked", user, provider, code=how)
    except IntegrityError:
        raise RefusedTransition("This sign-in belongs to another account.", code="identity_taken") from None


@transaction.atomic
def unlink(*, user: User, provider: Provider) -> None:
    """The provider signs nobody in to this account any more; a second time changes nothing.

    Raises RefusedTransition (`identity_last`) where it is the only way in.
    """
    if not user.has_usable_password() and user.identities.exclude(issuer=provider.issuer).count() == 0:
        raise RefusedTransition("Choose a password first.", code="identity_last")
    gone, _ = ProviderIdentity.objects.filter(user=user, issuer=provider.issuer).delete()
    if gone:
        _record("identity.unlinked", user, provider)


@transaction.atomic
def sign_up(request: HttpRequest, *, code: str, email: str, provider: Provider, subject: str) -> User:
    """The account of somebody who was invited, without a password, linked to `subject`; the invitation is
    used up. `email` is where we write to, and no more.

    Raises RefusedTransition, InvalidInput (`email_taken`): nothing is made.
    """
    if User.objects.filter(email__iexact=email).exists():
        raise InvalidInput("This email has an account here already.", code="email_taken")
    invitations.find(code)
    from allauth.account.adapter import get_adapter

    user = User(email=email)
    get_adapter().populate_username(request, user)
    user.set_unusable_password()
    user.save()
    setup_user_email(request, user, [])
    invitations.accept(code=code, user=user)
    link(user=user, provider=provider, subject=subject, how="invitation")
    return user


@transaction.atomic
def record_sign_in(user: User, slug: str) -> None:
    """This person came in by the provider `slug`."""
    actor, subject = audited_as(user)
    record(kind="identity.signed_in", actor=actor, subject=subject, provider=slug)


def _record(kind: str, user: User, provider: Provider, code: str | None = None) -> None:
    actor, subject = audited_as(user)
    record(kind=kind, actor=actor, subject=subject, provider=provider.slug, code=code)


def audited_as(user: User) -> tuple[Actor, str]:
    """An account as the audit log names it, and the patient concerned: its own records come first."""
    patient = Patient.objects.filter(user=user).first()
    if patient is not None:
        return Actor.patient(patient.pseudonym), patient.pseudonym
    row = (
        None if user.is_staff else Representative.objects.filter(user=user).select_related("patient").first()
    )
    if row is not None:
        return Actor.representative(row.pseudonym), row.patient.pseudonym
    return Actor.staff(user.pk), ""

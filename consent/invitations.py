"""A code from the clinic's letter: it makes somebody a patient here, or lets them act for one."""

from django.contrib.auth.models import AbstractBaseUser

from consent import patients, representatives
from consent.models import Patient, Representative
from ledger.errors import RefusedTransition


def find(code: str) -> Patient | Representative:
    """What this code invites to. Raises RefusedTransition; unknown, used and expired look the same."""
    try:
        return patients.find_invitation(code)
    except RefusedTransition:
        return representatives.find_invitation(code)


def accept(*, code: str, user: AbstractBaseUser) -> Patient | Representative:
    """Ties it to the account; the code is used up. Raises RefusedTransition."""
    if isinstance(find(code), Representative):
        return representatives.accept(code=code, user=user)
    return patients.accept_invitation(code=code, user=user)

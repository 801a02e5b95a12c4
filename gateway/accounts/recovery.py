"""A new password for somebody whom no letter reaches: the clinic checks who they are and hands them a link.

It is the link that a letter would have brought: it works once, for three days, and takes no passkey, app or
spare code away (docs/adr/0011-the-patient-signs.md).
"""

from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils.translation import gettext as _

from consent import news
from consent.models import News, Patient
from consent.patients import PROOFS
from gateway.accounts.models import User
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput, RefusedTransition


@transaction.atomic
def new_password_link(*, patient: Patient, by: User, method: str) -> str:
    """The link, for the patient's hand alone; she is told of it at once. `method` is one of PROOFS.

    Nobody gives it to themselves, and for who works here the administrator looks after the account. Raises
    InvalidInput, RefusedTransition (`own_proof`, `no_account`, `staff_account`).
    """
    if method not in PROOFS:
        raise InvalidInput(_("Say how the person was identified."), code="proof_method")
    user = patient.user
    if user is None or not user.is_active:
        raise RefusedTransition(_("This person has no account yet: invite them."), code="no_account")
    if user.pk == by.pk:
        raise RefusedTransition(_("Somebody else has to check who you are."), code="own_proof")
    if user.is_staff:
        raise RefusedTransition(
            _("An administrator looks after accounts of the staff."), code="staff_account"
        )
    record(kind="password.link_given", actor=Actor.staff(by.pk), subject=patient.pseudonym, method=method)
    news.tell(patient=patient, kind=News.Kind.WAY_BACK)
    key = default_token_generator.make_token(user)
    page = reverse("account_reset_password_from_key", args=[user_pk_to_url_str(user), key])
    return settings.PUBLIC_URL.rstrip("/") + page

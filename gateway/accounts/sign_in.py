"""What is written down when somebody signs in."""

from typing import Any

from django.db import transaction

from gateway.accounts.models import User
from ledger.audit.log import Actor, record


def record_staff_sign_in(sender: type, user: User, **kwargs: Any) -> None:
    """Receiver of user_logged_in: members of staff leave a row in the audit log."""
    if user.is_staff:
        with transaction.atomic():
            record(kind="staff.signed_in", actor=Actor.staff(user.pk))

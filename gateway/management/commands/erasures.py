"""`manage.py erasures`: whom this database knows as erased, for `python -m gateway.keyholder.backup restore`.

One line for each patient: the SHA-256 of an id that names nobody any more, and when (seconds since 1970).
"""

from hashlib import sha256
from typing import Any

from django.core.management.base import BaseCommand

from consent.models import Erasure


class Command(BaseCommand):
    help = "Print who was erased, as a restored store of the keyholder is to forget them again."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        for done in Erasure.objects.filter(state=Erasure.State.DONE).order_by("settled_at"):
            assert done.settled_at is not None
            name = sha256(done.key.encode()).hexdigest()
            self.stdout.write(f"{name} {int(done.settled_at.timestamp())}")

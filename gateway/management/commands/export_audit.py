"""`manage.py export_audit OUT`: a part of the audit log, or all of it, with its proofs."""

from argparse import ArgumentParser
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_date, parse_datetime
from tqdm import tqdm

from consent.models import Patient
from gateway.compliance import attesting
from ledger.audit.export import Selection, export
from ledger.audit.log import ID, Actor
from ledger.audit.tree import TreeDamaged
from ledger.client import connect, public_keys
from ledger.errors import GatewayError


class Command(BaseCommand):
    help = "Write an export of the audit log that anyone can verify offline (ledger/verify.py)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("out", type=Path, help="a folder to make, or a .zip")
        parser.add_argument(
            "--from", dest="since", help="from this day or time on (UTC unless it says a zone)"
        )
        parser.add_argument("--until", help="before this day or time")
        parser.add_argument("--subject", help="only rows about this person: a pseudonym of the log")
        parser.add_argument("--patient", help="only rows about this patient: the patient's id here")
        parser.add_argument(
            "--compare", type=int, metavar="SIZE", help="show consistency with the checkpoint of this size"
        )
        parser.add_argument(
            "--timeout", type=float, default=60.0, help="seconds to wait for the ledger (default 60)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        subject = _subject(options["subject"], options["patient"])
        selection = Selection(
            since=_time(options["since"]),
            until=_time(options["until"]),
            about=("subject", subject) if subject else None,
        )
        try:
            ledger = connect(settings.LEDGER_URL, identity="gateway")
            with tqdm(desc="rows", unit=" rows", unit_scale=True) as bar:
                made = export(
                    options["out"],
                    selection=selection,
                    ledger=ledger,
                    ledger_keys=public_keys(settings.LEDGER_URL),
                    actor=Actor.system("command"),
                    compare_with=options["compare"],
                    vouching=attesting.vouching(),
                    attest=attesting.attest,
                    timeout=options["timeout"],
                    progress=lambda count: _forward(bar, count),
                )
            ledger.close()
        except GatewayError as error:
            raise CommandError(
                f"{error.message} ({error.code})\n"
                f"The ledger is {settings.LEDGER_URL}; GATEWAY_HOME names the installation."
            ) from None
        except TreeDamaged as error:
            raise CommandError(f"{error} Run manage.py fsck. (audit_damaged)") from None
        self.stdout.write(
            f"{made.rows} rows in {options['out']}, covered by the ledger's checkpoint of {made.size} rows.\n"
            f"Verify: python -m ledger.verify {options['out']} --trust {_whom()}"
        )


def _whom() -> str:
    """What a verifier is told to trust; whoever verifies should have it from elsewhere."""
    url = urlsplit(settings.LEDGER_URL)
    if url.scheme == "embedded":
        return str(Path(url.path) / "ledger.pub")
    return "FOLDER (a PEM file of root certificates for each organisation)"


def _forward(bar: "tqdm[Any]", count: int) -> None:
    bar.update(count)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found: datetime | date | None = parse_datetime(text) if len(text) > 10 else parse_date(text)
    except ValueError:
        found = None
    if found is None:
        raise CommandError("A time is written 2026-05-31 or 2026-05-31T08:00:00Z.")
    if not isinstance(found, datetime):
        found = datetime(found.year, found.month, found.day)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _subject(subject: str | None, patient: str | None) -> str | None:
    if subject and patient:
        raise CommandError("Give --subject or --patient, not both.")
    if patient:
        found = Patient.objects.filter(pk=patient).first()
        if found is None:
            raise CommandError("There is no patient of this id.")
        return found.pseudonym
    if subject and not ID(subject):
        raise CommandError("A pseudonym is 64 lower-case hex digits.")
    return subject or None

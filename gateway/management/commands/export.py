"""`manage.py export KIND`: an export for a patient, an auditor or a court, made here and now, as a bundle."""

import json
from argparse import ArgumentParser
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from consent.models import Consent, Patient, Requester
from gateway.compliance import services
from gateway.compliance.kinds import KINDS
from gateway.compliance.models import Export
from ledger.audit.log import Actor
from ledger.errors import GatewayError

BY = Actor.system("command")


class Command(BaseCommand):
    help = "Make an export that anyone can verify offline: " + ", ".join(KINDS)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
        parser.add_argument("--patient", help="the patient's id here, or record number")
        parser.add_argument("--consent", help="the choice's id")
        parser.add_argument("--client", help="the AI provider's id")
        parser.add_argument("--model", help="the AI model's digest")
        parser.add_argument("--from", dest="since", type=_day, help="first day (2026-05-31)")
        parser.add_argument("--to", dest="until", type=_day, help="last day, included")
        parser.add_argument("--out", type=Path, help="the .zip to write (default KIND-XXXXXXXX.zip)")
        parser.add_argument("--language", default=settings.LANGUAGE_CODE, choices=dict(settings.LANGUAGES))
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--timeout", type=float, default=60.0, help="seconds to wait for the ledger (default 60)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["out"] and options["out"].exists():
            raise CommandError("There is already something under this name; choose another. (export_exists)")
        try:
            made, out = self._make(options)
        except GatewayError as error:
            raise CommandError(f"{error.message} ({error.code})") from None
        told = {
            "export": made.pk,
            "file": str(out),
            "kind": made.kind,
            "rows": made.rows,
            "sha256": made.digest,
            "size": made.size,
        }
        if options["json"]:
            self.stdout.write(json.dumps(told))
            return
        self.stdout.write(
            f"{out}: {made.rows} rows of the log, {made.size} bytes.\n"
            f"Verify: python -m ledger.verify {out} --trust WHOM"
        )

    def _make(self, options: dict[str, Any]) -> tuple[Export, Path]:
        asked = services.ask(
            kind=options["kind"],
            by=BY,
            language=options["language"],
            patient=_patient(options["patient"]),
            consent=_consent(options["consent"]),
            requester=_requester(options["client"]),
            model=options["model"] or "",
            since=options["since"],
            until=options["until"],
            background=False,
        )
        with tqdm(desc="rows", unit=" rows", unit_scale=True, disable=options["json"]) as bar:

            def forward(export: Export) -> None:
                bar.total = export.rows
                bar.update(export.written - bar.n)

            made = services.make(asked.pk, progress=forward, timeout=options["timeout"])
        if made is None or made.state != Export.State.READY:
            code = made.error_code if made else "export_taken"
            raise CommandError(f"The export could not be made. ({code})")
        out = options["out"] or Path(f"{made.kind}-{made.pk[:8]}.zip")
        with out.open("xb") as file:
            out.chmod(0o600)
            file.writelines(services.read(export=made, by=BY))
        services.delete(export=made, by=BY)
        return made, out


def _day(text: str) -> date:
    return date.fromisoformat(text)


def _patient(text: str | None) -> Patient | None:
    if not text:
        return None
    found = Patient.objects.filter(pk=text).first() or Patient.objects.filter(record_id=text).first()
    if found is None:
        raise CommandError("There is no patient of this id or record number.")
    return found


def _consent(text: str | None) -> Consent | None:
    found = Consent.objects.filter(pk=text).first() if text else None
    if text and found is None:
        raise CommandError("There is no choice of this id.")
    return found


def _requester(text: str | None) -> Requester | None:
    if not text:
        return None
    try:
        found = Requester.objects.filter(pk=UUID(text)).first()
    except ValueError:
        found = None
    if found is None:
        raise CommandError("There is no AI provider of this id.")
    return found

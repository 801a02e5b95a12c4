"""`manage.py trace`: from a record to every job, model and result that used it, and back from each of these.

Exit status: 0 traced, 1 the stores differ (`--check`) or nothing here has this id, 2 the keyholder or the
ledger cannot be asked.
"""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from consent.models import Patient
from gateway.compliance import trace
from gateway.compliance.reconcile import Reconciler
from gateway.compliance.trace import Traced
from gateway.keyholder.client import Keyholder
from ledger.channels import Channels, named
from ledger.errors import GatewayError, InvalidInput

PAUSE = 3.0
MOST_JSON = 16 * 1024 * 1024
BEGINNINGS: Mapping[str, Callable[[str, Keyholder], Iterator[Traced]]] = {
    "record": trace.of_record,
    "packet": trace.of_packet,
    "patient": lambda text, keyholder: trace.of_patient(_patient(text), keyholder),
    "job": trace.of_job,
    "model": trace.of_model,
    "output": trace.of_output,
    "client": lambda text, keyholder: trace.of_requester(_uuid(text), keyholder),
}


class Command(BaseCommand):
    help = "Trace a record to every job, model version and result that used it, or any of these back."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("beginning", choices=BEGINNINGS, help="what to trace")
        parser.add_argument(
            "id",
            help="-, for a record: it is read from standard input, so that no list of processes shows it: "
            "Condition/123, Condition/123/_history/2 or the resource's own JSON. Else a sealed packet's id; "
            "a patient's id or record number; a job's id; the digest of a model or of a sealed result; an AI "
            "provider's id",
        )
        parser.add_argument(
            "--json", action="store_true", help="a line of JSON for each use, and one that sums them up"
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="first hold the stores against each other; exit 1 where they differ",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
        try:
            if options["check"]:
                self._check(keyholder)
            self._trace(options, keyholder)
        except InvalidInput as error:
            raise CommandError(f"{error.message} ({error.code})") from None
        except GatewayError as error:
            self.stderr.write(f"trace: {error.message} ({error.code})")
            raise SystemExit(2) from None
        finally:
            keyholder.close()

    def _check(self, keyholder: Keyholder) -> None:
        channels = Channels.open(named(settings.LEDGER_URL, settings.LEDGER_CHANNELS), identity="gateway")
        try:
            findings = Reconciler(channels, keyholder, pause=PAUSE).look(whole=True).findings
        finally:
            channels.close()
        for one in findings:
            self.stderr.write(f"{one.code}: {one.place}")
        if findings:
            raise SystemExit(1)

    def _trace(self, options: dict[str, Any], keyholder: Keyholder) -> None:
        id = options["id"]
        of_record = options["beginning"] == "record"
        totals = trace.Totals(of_record=of_record)
        if of_record:
            if id != "-":
                raise InvalidInput(
                    "Give the record on standard input: trace record -", code="record_reference"
                )
            id = sys.stdin.read(MOST_JSON)
        for use in BEGINNINGS[options["beginning"]](id, keyholder):
            totals.add(use)
            self.stdout.write(_line(use) if options["json"] else _row(use))
        told = totals.as_json()
        named_otherwise = options["beginning"] in ("record", "patient")  # whose names were read above
        if not (told["uses"] or named_otherwise or trace.KNOWN[options["beginning"]](id)):
            raise InvalidInput(
                "Nothing here has this id. Of a result that was deleted unjudged the ledger alone knows.",
                code="trace_unknown",
            )
        if options["json"]:
            self.stdout.write(json.dumps({"summary": told}, sort_keys=True))
            return
        self.stdout.write(
            f"{told['uses']} uses of {told['records']} sealed packets of {told['patients']} patients, in "
            f"{told['jobs']} jobs: {told['results']} results, by {len(told['models'])} model versions."
        )
        if of_record:
            self.stdout.write(
                f"{told['held']} of these uses opened a packet that held the record; the others may have."
            )
        if options["beginning"] in trace.AS_FILED:
            self.stdout.write(
                "What was opened is as it was filed once its rows held; --check derives it again."
            )


def _line(use: Traced) -> str:
    return json.dumps(use.as_json(), sort_keys=True)


def _row(use: Traced) -> str:
    by = f"model {use.model[:12]}" if use.model else use.kind
    result = f"result {use.output[:12]}, read {use.read}" if use.output else use.state
    held = {"yes": "  held it", "maybe": "  may have held it", "": ""}[use.held]
    return f"{use.at:%Y-%m-%d %H:%M}  {by:18}  {use.key[:12]}  {len(use.records)} packets{held}  {result}"


def _patient(text: str) -> Patient:
    found = Patient.objects.filter(pk=text).first() or Patient.objects.filter(record_id=text).first()
    if found is None:
        raise InvalidInput("There is no patient of this id or record number.", code="unknown_patient")
    return found


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput("This is no id of an AI provider.", code="unknown_client") from None

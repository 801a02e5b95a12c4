"""`manage.py models`: the AI models of the catalogue, their inputs, units, ranges and digests."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from gateway.analysis.catalogue import MODELS
from gateway.analysis.catalogue.model import Input
from gateway.analysis.catalogue.summary import Summary


class Command(BaseCommand):
    help = "List the AI models with their inputs, units, ranges and digests. Needs no database."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON array with the whole cards")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["json"]:
            told = [{**model.describe(), "digest": model.digest()} for model in MODELS]
            self.stdout.write(json.dumps(told, indent=2, ensure_ascii=False))
            return
        for model in MODELS:
            self.stdout.write(f"{model.name} {model.version}: {model.card['title']}")
            self.stdout.write(f"  digest {model.digest()}")
            gives = "counts by band and mean of scores" if isinstance(model, Summary) else "score"
            self.stdout.write(f"  {gives} in {model.unit}; {model.card['paper']}")
            for each in model.inputs:
                self.stdout.write(f"  {each.name:20} {_range(each):28} {each.what}")


def _range(each: Input) -> str:
    if each.kind == "flag":
        return "true or false"
    if each.kind == "code":
        return ", ".join(each.choices)
    return f"{each.low}-{each.high} {each.unit}"

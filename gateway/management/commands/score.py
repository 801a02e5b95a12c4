"""`manage.py score MODEL < inputs.ndjson`: named inputs in, a score or reasons out, line by line."""

import json
import sys
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.analysis.catalogue import find
from gateway.analysis.catalogue.model import Score
from gateway.analysis.catalogue.summary import Spread, Summary
from ledger.errors import InvalidInput

LONGEST_LINE = 64 * 1024  # bytes; a line is a few named inputs


class Command(BaseCommand):
    help = (
        "Score lines of named inputs from standard input, one JSON object a line, as in "
        '{"age": 61, "sex": "female", ...}. `manage.py models` names the inputs. Needs no database.'
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", help="name, name@version or digest; see `manage.py models`")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            model = find(options["model"])
        except InvalidInput as error:
            raise CommandError(error.message) from None
        malformed, scores = 0, []
        for number, line in enumerate(_lines(sys.stdin.buffer), start=1):
            if line is not None and not line.strip():
                continue
            try:
                score = model.score(_inputs(line))
            except InvalidInput as error:
                malformed += 1
                self.stdout.write(json.dumps({"line": number, "error": error.code, "message": error.message}))
                continue
            scores.append(score.value)
            if not isinstance(model, Summary):
                self.stdout.write(json.dumps(_told(score)))
        if isinstance(model, Summary):
            self.stdout.write(json.dumps(_spread(model, model.summarise(scores))))
        if malformed:
            raise CommandError(f"{malformed} malformed {'line' if malformed == 1 else 'lines'}.")


def _spread(model: Summary, spread: Spread) -> dict[str, Any]:
    """Of all the lines together: a model that summarises says nothing of one."""
    return {
        "people": spread.people,
        "scored": spread.scored,
        "bands": dict(zip([band.says for band in model.bands], spread.bands, strict=True)),
        "mean": None if spread.mean is None else float(spread.mean),
        "unit": model.unit,
    }


def _told(score: Score) -> dict[str, Any]:
    value = None if score.value is None else float(score.value)
    return {"score": value, "unit": score.unit, "reasons": list(score.reasons)}


def _lines(stream: BinaryIO) -> Any:
    """Lines of at most LONGEST_LINE bytes; None stands for a longer one, which is passed over unread."""
    while line := stream.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(LONGEST_LINE)
        yield None


def _inputs(line: bytes | None) -> dict[str, Any]:
    """One JSON object, strictly: no duplicate key, no NaN, no number of absurd length."""
    if line is None:
        raise InvalidInput("The line is too long.", code="line_too_long")
    try:
        given = json.loads(line.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except InvalidInput:
        raise
    except (ValueError, RecursionError):
        raise InvalidInput("The line is not a JSON object.", code="not_json") from None
    if not isinstance(given, dict):
        raise InvalidInput("The line is not a JSON object.", code="not_json")
    return given


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidInput("A name stands twice in the line.", code="duplicate_key")
    return found


def _no_constant(_: str) -> Any:
    raise InvalidInput("NaN and Infinity are not JSON.", code="not_json")

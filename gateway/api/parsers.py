"""Reading a request's body: strict JSON, bounded, no duplicate keys."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from ledger.contract.canonical import loads
from ledger.contract.errors import Refused

MAX_BODY = 1 << 20


class StrictJSONParser(BaseParser):
    """JSON as RFC 8259 with what it leaves open closed: one value for each key, no NaN, bounded depth."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = stream.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise ParseError("The body is larger than 1 MiB.")
        try:
            value = loads(body)
        except Refused as error:
            raise ParseError(error.message) from None
        if b"\\u0000" in body and _has_nul(value):
            raise ParseError("A text in the body has a NUL character (U+0000). Leave it out.")
        return value


def _has_nul(value: Any) -> bool:
    """PostgreSQL keeps no NUL in a text; gateway/nul.py refuses it in everything else that is sent."""
    if isinstance(value, dict):
        return any(_has_nul(each) for pair in value.items() for each in pair)
    return any(map(_has_nul, value)) if isinstance(value, list) else isinstance(value, str) and "\0" in value

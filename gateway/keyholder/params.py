"""What a call to the keyholder brings: each parameter is taken with its check, and none is ever quoted."""

import re
from collections.abc import Callable
from typing import Any

from ledger.client import HOME
from ledger.contract.state import Json
from ledger.errors import InvalidInput
from ledger.rpc import from_b64

_HEX64 = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"(?:[0-9a-f]{2}){1,1024}")


class Params:
    """The parameters of a call, each taken with its check. Raises InvalidInput; never quotes a value."""

    def __init__(self, values: Json) -> None:
        self._values = values

    def _take(self, name: str, is_right: Callable[[Any], bool]) -> Any:
        value = self._values.get(name)
        if not is_right(value):
            raise InvalidInput(f"The field {name} is missing or malformed.")
        return value

    def id(self, name: str) -> str:
        return str(self._take(name, is_id))

    def optional_id(self, name: str) -> str | None:
        return None if self._values.get(name) is None else self.id(name)

    def number(self, name: str, *, least: int = 0) -> int:
        return int(self._take(name, lambda value: type(value) is int and least <= value < 2**53))

    def channel(self) -> str:
        """Absent means home."""
        return self.text("channel") if "channel" in self._values else HOME

    def text(self, name: str) -> str:
        return str(self._take(name, lambda value: isinstance(value, str) and 0 < len(value) <= 64))

    def long_text(self, name: str) -> str:
        return str(self._take(name, lambda value: isinstance(value, str) and 0 < len(value) <= 256))

    def texts(self, name: str) -> list[str]:
        return list(
            self._take(name, lambda value: isinstance(value, list) and all(isinstance(x, str) for x in value))
        )

    def texts_by_id(self, name: str) -> dict[str, str]:
        values = self.json(name)
        if not all(is_id(id) and isinstance(text, str) for id, text in values.items()):
            raise InvalidInput(f"The field {name} is missing or malformed.")
        return values

    def ids(self, name: str) -> list[str]:
        return list(self._take(name, lambda value: isinstance(value, list) and all(map(is_id, value))))

    def json(self, name: str) -> Json:
        return dict(self._take(name, lambda value: isinstance(value, dict)))

    def optional_json(self, name: str) -> Json | None:
        return None if self._values.get(name) is None else self.json(name)

    def flag(self, name: str) -> bool:
        """Absent means false."""
        return (
            bool(self._take(name, lambda value: isinstance(value, bool))) if name in self._values else False
        )

    def hex(self, name: str) -> str:
        """Bytes of any length up to 1024, in hex."""
        return str(
            self._take(name, lambda value: isinstance(value, str) and _HEX.fullmatch(value) is not None)
        )

    def each(self, name: str) -> list["Params"]:
        rows = self._take(
            name, lambda value: isinstance(value, list) and all(isinstance(row, dict) for row in value)
        )
        return [Params(row) for row in rows]

    def blob(self, name: str) -> bytes:
        return from_b64(self._values.get(f"{name}_b64"))


def is_id(value: Any) -> bool:
    return isinstance(value, str) and _HEX64.fullmatch(value) is not None

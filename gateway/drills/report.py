"""What a drill found: observations, and promises that were kept or broken."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One step: what was done, what was seen. `kept` None is an observation, else a promise's fate."""

    step: str
    seen: str
    kept: bool | None


@dataclass
class Report:
    """Rows in the order in which they happened. `say` hears each, and the steps between."""

    drill: str
    ledger: str
    say: Callable[[str], None] = lambda _: None
    rows: list[Row] = field(default_factory=list)

    def saw(self, step: str, seen: object) -> None:
        """Write down what happened; nothing was promised about it."""
        self._add(Row(step, str(seen), None))

    def promise(self, step: str, kept: bool, seen: object = "") -> None:
        """Write down a promise and whether it held."""
        self._add(Row(step, str(seen), bool(kept)))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        self.say(f"{row.step}: {row.seen}" + ("  BROKEN" if row.kept is False else ""))

    @property
    def is_kept(self) -> bool:
        """Whether anything was promised, and all of it held."""
        promised = [row.kept for row in self.rows if row.kept is not None]
        return bool(promised) and all(promised)

    def as_json(self) -> dict[str, Any]:
        rows = [{"step": row.step, "seen": row.seen, "kept": row.kept} for row in self.rows]
        return {"drill": self.drill, "ledger": self.ledger, "kept": self.is_kept, "rows": rows}

    def as_table(self) -> str:
        lines = [("What happened", "Seen", "Promise")]
        lines += [
            (row.step, row.seen, {None: "", True: "kept", False: "BROKEN"}[row.kept]) for row in self.rows
        ]
        widths = [max(len(line[column]) for line in lines) for column in range(2)]
        lines.insert(1, ("-" * widths[0], "-" * widths[1], "-------"))
        return "\n".join(
            f"{one.ljust(widths[0])}  {two.ljust(widths[1])}  {three}" for one, two, three in lines
        )

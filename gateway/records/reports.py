"""What became of the files that were taken in: counts, and what was wrong by file, line and element."""

from collections import Counter
from dataclasses import dataclass, field

from gateway.records.intake import Refusal

MAX_REFUSALS = 1000  # of one file that are listed; all are counted


@dataclass
class FileReport:
    """What became of one file: `taken`, `checked` (dry run), `repeated` (taken before), `refused`, or
    `failed` (it was not its fault).

    by_type   resources read, by type (of a file that was not refused)
    sealed    resources sealed now; the others were here in the same version
    labelled  of those, how many were labelled anew because the rules have changed
    deleted   resources that the source asked to delete
    aside     faulty resources that a lenient run set aside; `refused` says what is wrong with them
    """

    path: str
    state: str = "failed"
    by_type: Counter[str] = field(default_factory=Counter)
    withheld: int = 0
    sealed: int = 0
    labelled: int = 0
    deleted: int = 0
    chunks: int = 0
    patients: int = 0
    confirmed: bool = True
    aside: int = 0
    refused: list[Refusal] = field(default_factory=list)
    refusals: int = 0

    def add(self, part: "FileReport") -> None:
        """What became of one section of the file."""
        for name in ("withheld", "sealed", "labelled", "deleted", "chunks", "patients", "aside"):
            setattr(self, name, getattr(self, name) + getattr(part, name))
        self.by_type += part.by_type
        self.confirmed = self.confirmed and part.confirmed
        self.tell(*part.refused)
        self.refusals += part.refusals - len(part.refused)

    def refuse(self, *found: Refusal) -> None:
        self.state = "refused"
        self.tell(*found)

    def tell(self, *found: Refusal) -> None:
        self.refusals += len(found)
        self.refused += found[: max(0, MAX_REFUSALS - len(self.refused))]


@dataclass
class Report:
    """What became of all files."""

    files: list[FileReport] = field(default_factory=list)

    @property
    def by_type(self) -> Counter[str]:
        return sum((one.by_type for one in self.files if one.state in ("taken", "checked")), Counter())

    @property
    def resources(self) -> int:
        return self.by_type.total()

    @property
    def sealed(self) -> int:
        return sum(one.sealed for one in self.files if one.state == "taken")

    @property
    def refused(self) -> list[Refusal]:
        return [found for one in self.files for found in one.refused]

    @property
    def refusals(self) -> int:
        return sum(one.refusals for one in self.files)

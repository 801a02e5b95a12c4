"""What differs between two versions of the label rules: which records are to be labelled anew, and which not.

Each version's tables are kept in `history/`, as `manage.py labels --json` printed them. No Django here.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gateway.labels.rules import ALIASES, COVERED, ICD_10, METHOD, RULES, STATEMENTS, VERSION

HISTORY = Path(__file__).resolve().parent / "history"


@dataclass(frozen=True)
class Difference:
    """What today's rules say otherwise than older ones.

    codes     those that put on other sensitivities now, or none any more, as `labelling.noted` writes them
    prefixes  the same of ICD-10, each with all that begins with it
    types     those that are labelled in another way
    all       it cannot be told, or concerns whatever there is
    """

    codes: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    types: frozenset[str] = frozenset()
    all: bool = False

    def concerns(self, kind: str, codes: Collection[str] | None) -> bool:
        """Whether a resource of this type with these codes may have other labels now.

        `codes` are None of a record whose codes were not noted: any changed code concerns it.
        """
        if self.all or kind in self.types:
            return True
        if codes is None:
            return bool(self.codes or self.prefixes)
        return any(one in self.codes or one.startswith(self.prefixes) for one in codes)


def tables() -> dict[str, Any]:
    """Today's rules whole, as JSON: what `history/` keeps of each version."""
    return {
        "version": VERSION,
        "method": METHOD,
        "covered": COVERED,
        "aliases": ALIASES,
        "rules": [{**vars(rule), "codes": rule.codes.split()} for rule in RULES],
        "types": {kind: str(STATEMENTS[kind]) for kind in sorted(STATEMENTS)},
    }


@cache
def difference(older: str) -> Difference:
    """Between the rules of version `older` and today's. Of a version that is not kept: all."""
    if older == VERSION:
        return Difference()
    try:
        # A name that is no version of ours leads to no file; it is compared, never joined.
        path = next(one for one in HISTORY.glob("*.json") if one.stem == older)
    except StopIteration:
        return Difference(all=True)
    return between(json.loads(path.read_text()), tables())


def between(older: dict[str, Any], newer: dict[str, Any]) -> Difference:
    """Of two tables as `tables` gives them."""
    if any(older.get(name) != newer.get(name) for name in ("method", "covered", "aliases")):
        return Difference(all=True)
    before, now = _sensitivities(older), _sensitivities(newer)
    changed = {code for code in before.keys() | now.keys() if before.get(code) != now.get(code)}
    icd = COVERED[ICD_10] + "|"
    kinds = older["types"].keys() | newer["types"].keys()
    types = {one for one in kinds if older["types"].get(one) != newer["types"].get(one)}
    if types:  # one of them may be contained in whatever follows references
        types |= {kind for kind, one in STATEMENTS.items() if one.follows or one.must}
    return Difference(
        codes=frozenset(one for one in changed if not one.startswith(icd)),
        prefixes=tuple(sorted(one for one in changed if one.startswith(icd))),
        types=frozenset(types),
    )


def _sensitivities(table: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        f"{table['covered'][rule['system']]}|{code}": tuple(sorted(rule["sensitivity"]))
        for rule in table["rules"]
        for code in rule["codes"]
    }

"""What a risk model is: named inputs in, a score or reasons out. No Django, no database, no network.

A model never guesses: what is missing, out of range or in an unknown unit gives no number, and a
stable reason says why.
"""

import hashlib
import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from gateway.analysis.catalogue.evidence import Evidence
from ledger.errors import InvalidInput

Value = Decimal | str | bool

# The modules of the catalogue that read the records: part of every model's digest.
SHARED = ("codes", "evidence", "findings", "model", "units")


@dataclass(frozen=True)
class Input:
    """One named input. A number, in UCUM `unit`, lies in `low <= x <= high`; a code is one of `choices`."""

    name: str
    what: str
    kind: str = "number"  # "number", "code" or "flag"
    unit: str = ""
    low: Decimal | None = None
    high: Decimal | None = None
    choices: tuple[str, ...] = ()

    def check(self, given: object) -> tuple[Value | None, str | None]:
        """`(value, None)`, or `(None, reason)` with `<name>.missing`, `.malformed` or `.out_of_range`."""
        if given is None:
            return None, f"{self.name}.missing"
        value: Value | None = None
        if self.kind == "flag":
            value = given if isinstance(given, bool) else None
        elif self.kind == "code":
            value = given if isinstance(given, str) else None
        else:
            value = as_decimal(given)
        if value is None:
            return None, f"{self.name}.malformed"
        return (value, None) if self._is_in_range(value) else (None, f"{self.name}.out_of_range")

    def _is_in_range(self, value: Value) -> bool:
        if isinstance(value, bool):
            return True
        if isinstance(value, str):
            return value in self.choices
        return self.low is not None and self.high is not None and self.low <= value <= self.high

    def describe(self) -> dict[str, Any]:
        """The input as the card shows it: strings only, so that the card has one canonical form."""
        told: dict[str, Any] = {"name": self.name, "kind": self.kind, "what": self.what}
        if self.kind == "number":
            told |= {"unit": self.unit, "low": str(self.low), "high": str(self.high)}
        if self.kind == "code":
            told["choices"] = list(self.choices)
        return told


@dataclass(frozen=True)
class Score:
    """`value` in UCUM `unit`, or None with the reasons why there is none (sorted, stable codes)."""

    value: Decimal | None
    unit: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Feature:
    """One input as found in the records: its value or a reason, and the resources it came from."""

    value: Value | None
    sources: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Features:
    """All inputs by name. `exclusions` are reasons why the model must not be used on this person at all."""

    inputs: Mapping[str, Feature]
    exclusions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every resource that gave an input or an exclusion, once, sorted."""
        given = [source for feature in self.inputs.values() for source in feature.sources]
        given += [source for sources in self.exclusions.values() for source in sources]
        return tuple(sorted(set(given)))


@dataclass(frozen=True)
class Alert:
    """A result that a clinician should look at soon: one at `at` or above; with `below`, one below `at`.

    severity  FHIR DetectedIssue.severity: high, moderate or low
    source    where the threshold is published
    """

    at: Decimal
    severity: str
    says: str
    source: str
    below: bool = False

    def is_raised(self, value: Decimal) -> bool:
        return value < self.at if self.below else value >= self.at

    def describe(self) -> dict[str, str]:
        return {
            "at": str(self.at),
            "severity": self.severity,
            "side": "below" if self.below else "at_or_above",
            "says": self.says,
            "source": self.source,
        }


class Model(ABC):
    """One version of one model. `card` holds strings, lists and objects, among them `title` and `outcome`.

    `reads` are the FHIR types that it looks at: nothing else is asked for, opened or parsed.
    """

    name: str
    version: str
    unit: str
    reads: frozenset[str]
    inputs: Sequence[Input]
    card: Mapping[str, Any]
    # What the number is, as `(system, code)`, for a model whose result is a measure and no probability.
    measure: tuple[str, str] | None = None
    # Other models' modules of the catalogue that it computes with: part of its digest too.
    rests_on: tuple[str, ...] = ()
    # Results to look at soon, the gravest first.
    alerts: tuple[Alert, ...] = ()

    # Names of files beside its module that it computes with: part of its digest too.
    files: Sequence[str] = ()
    _held: Mapping[str, bytes] = {}

    def hold_files(self) -> None:
        """From now on its files are what they are now: what was digested is what runs, whatever becomes of
        the disk. Raises InvalidInput (`model_file`)."""
        self._held = {name: self.file(name) for name in self.files}

    def file(self, name: str) -> bytes:
        """One of its files. Raises InvalidInput (`model_file`)."""
        if name in self._held:
            return self._held[name]
        module = sys.modules[type(self).__module__].__file__ or ""
        try:
            return (Path(module).parent / name).read_bytes()
        except OSError:
            raise InvalidInput("A file of this model cannot be read.", code="model_file") from None

    def check(self) -> None:
        """What can be told of its files before it is approved, without running them. Raises InvalidInput."""
        for name in self.files:
            self.file(name)

    @abstractmethod
    def compute(self, values: Mapping[str, Any]) -> Decimal:
        """The score of inputs that are all present and in range."""

    @abstractmethod
    def features(self, evidence: Evidence, *, index_date: date) -> Features:
        """The inputs as the records give them, up to and including `index_date`."""

    def score(self, given: Mapping[str, object]) -> Score:
        """Check every input, then compute. Raises for no value, however odd.

        A name that the model does not have gives the reason `unknown_input`: what was meant is not known.
        """
        values: dict[str, Value] = {}
        reasons: list[str] = []
        known = {each.name for each in self.inputs}
        if set(given) - known:
            reasons.append("unknown_input")
        for each in self.inputs:
            value, reason = each.check(given.get(each.name))
            if reason is not None:
                reasons.append(reason)
            elif value is not None:
                values[each.name] = value
        if reasons:
            return Score(None, self.unit, tuple(sorted(reasons)))
        return Score(self.compute(values), self.unit)

    def assess(self, found: Features) -> Score:
        """The score of features: an exclusion or a reason found in the records comes before any number."""
        reasons = set(found.exclusions)
        reasons |= {feature.reason for feature in found.inputs.values() if feature.reason is not None}
        if not reasons:
            return self.score({name: feature.value for name, feature in found.inputs.items()})
        known = {name: feature.value for name, feature in found.inputs.items() if feature.reason is None}
        for each in self.inputs:
            if each.name in known:
                _, reason = each.check(known[each.name])
                reasons |= {reason} if reason else set()
        return Score(None, self.unit, tuple(sorted(reasons)))

    def alert(self, score: Score) -> Alert | None:
        """The gravest alert that the score raises."""
        return next(
            (one for one in self.alerts if score.value is not None and one.is_raised(score.value)), None
        )

    def describe(self) -> dict[str, Any]:
        """The whole card, canonical: what is registered and shown."""
        alerts = {"alerts": [each.describe() for each in self.alerts]} if self.alerts else {}
        return {
            **self.card,
            **alerts,
            "inputs": [each.describe() for each in self.inputs],
            "name": self.name,
            "reads": sorted(self.reads),
            "unit": self.unit,
            "version": self.version,
        }

    def digest(self) -> str:
        """SHA-256 (hex) over the sources that compute and the canonical card: what runs, by its bytes.

        The sources are this model's module, those that it rests on, the modules of the catalogue that read
        the records, and its files; each has its name and length before it, so that no byte can move over.
        """
        hashed = hashlib.sha256()
        package = __name__.rpartition(".")[0]
        modules = [type(self).__module__, *(f"{package}.{part}" for part in (*self.rests_on, *SHARED))]
        parts = [(module, _source(module)) for module in modules]
        parts += [(name, self.file(name)) for name in self.files]
        card = json.dumps(self.describe(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        for name, data in [*parts, ("card", card.encode())]:
            hashed.update(f"{name} {len(data)}\n".encode() + data)
        return hashed.hexdigest()


def _source(module: str) -> bytes:
    if module not in sys.modules:
        __import__(module)
    path = sys.modules[module].__file__
    if path is None:
        raise RuntimeError("A model must have a source file: its digest is over its bytes.")
    return Path(path).read_bytes()


def as_decimal(given: object) -> Decimal | None:
    """A finite number, exactly as written: a float goes by its shortest text, a bool or a string is none."""
    if isinstance(given, bool) or not isinstance(given, int | float | Decimal):
        return None
    if isinstance(given, float) and not math.isfinite(given):
        return None
    try:
        number = Decimal(repr(given)) if isinstance(given, float) else Decimal(given)
    except (InvalidOperation, ValueError):
        return None
    # A number of absurd length or exponent is no measurement, and costs time to compare.
    if not number.is_finite() or len(number.as_tuple().digits) > 30 or abs(number.adjusted()) > 30:
        return None
    return number

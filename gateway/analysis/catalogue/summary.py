"""How the scores of many are spread: of another model of the catalogue, the counts by band and the mean.

Nothing of one person leaves: the keyholder lets a summary out for FEWEST people or more, of all of whom the
consents hold, of none who is in another one of that delivery, and not where an earlier one to the same
client was about nearly the same people. What is told is rounded down besides, so that nobody stands out in a
small band. What several summaries together may give away all the same, LIMITS says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from gateway.analysis.catalogue.evidence import Evidence
from gateway.analysis.catalogue.model import Features, Model
from gateway.analysis.catalogue.pce import PooledCohortEquations

FEWEST = 11  # as the keyholder's FEWEST_IN_AGGREGATE
FEWEST_FOR_MEAN = 100  # one score, of 0 to 100, moves the mean of so many by one at most

LIMITS = [
    f"Every count is a lower bound, a multiple of {FEWEST}; what is less shows as 0. Bands do not add up.",
    f"The mean is of those who have a number, rounded to a whole one; of fewer than {FEWEST_FOR_MEAN} there"
    " is none.",
    f"Where an earlier summary was about all but fewer than {FEWEST} of the same people, or about the same"
    " people on the same day, none leaves. Two are compared at a time: who combines several may learn more.",
    "Those whose records give no number are among the people, and in no band: the bands may not be typical.",
]


@dataclass(frozen=True)
class Band:
    """Scores from `low` on and below `high` (None: and all above)."""

    says: str
    low: Decimal
    high: Decimal | None

    def has(self, value: Decimal) -> bool:
        return self.low <= value and (self.high is None or value < self.high)


@dataclass(frozen=True)
class Spread:
    """people, scored and `bands` (in their order) are lower bounds; `mean` is in the model's unit."""

    people: int
    scored: int
    bands: tuple[int, ...]
    mean: Decimal | None


class Summary(Model):
    """Of the scores of `of`, over a cohort. It scores one person as that model does, and tells of nobody."""

    def __init__(self, of: Model, bands: Sequence[Band], *, source: str) -> None:
        self.of, self.bands = of, tuple(bands)
        self.name, self.version, self.unit = f"{of.name}-cohort", of.version, of.unit
        self.reads, self.inputs = of.reads, of.inputs
        self.rests_on = (type(of).__module__.rpartition(".")[2], *of.rests_on)
        self.card = {
            **of.card,
            "title": f"How many people of a group have which score. {of.card['title']}",
            "intended_use": "Research, planning and quality: numbers about a group, and about nobody in it.",
            "bands": [band.says for band in bands],
            "bands_source": source,
            "limits": [*LIMITS, *of.card["limits"]],
        }

    def compute(self, values: Mapping[str, Any]) -> Decimal:
        return self.of.compute(values)

    def features(self, evidence: Evidence, *, index_date: date) -> Features:
        return self.of.features(evidence, index_date=index_date)

    def summarise(self, scores: Sequence[Decimal | None]) -> Spread:
        """Of one score for each person, None where there is no number."""
        values = [one for one in scores if one is not None]
        mean = None
        if len(values) >= FEWEST_FOR_MEAN:
            mean = (sum(values, Decimal(0)) / len(values)).quantize(Decimal(1), ROUND_HALF_EVEN)
        return Spread(
            people=at_least(len(scores)),
            scored=at_least(len(values)),
            bands=tuple(at_least(sum(map(band.has, values))) for band in self.bands),
            mean=mean,
        )


def at_least(number: int) -> int:
    """The greatest multiple of FEWEST that is no more."""
    return number - number % FEWEST


class PooledCohortSummary(Summary):
    """The bands of the guideline of 2019 (Arnett DK et al., doi:10.1161/CIR.0000000000000678)."""

    def __init__(self) -> None:
        low, borderline, high = Decimal(5), Decimal("7.5"), Decimal(20)
        super().__init__(
            PooledCohortEquations(),
            [
                Band("low: under 5 %", Decimal(0), low),
                Band("borderline: 5 to under 7.5 %", low, borderline),
                Band("intermediate: 7.5 to under 20 %", borderline, high),
                Band("high: 20 % or more", high, None),
            ],
            source="Arnett 2019, doi:10.1161/CIR.0000000000000678",
        )

"""The minimum-data check: what the model says that it reads, beside what the question asks for."""

from dataclasses import dataclass

from consent.explanation import KINDS, SENSITIVE, reading_grade
from consent.kinds import name_of
from consent.models import ConsentRequest
from gateway.analysis.models import AIModel

HARDEST = 6.0  # reading grade on layers 1 and 2


@dataclass(frozen=True)
class Minimum:
    """FHIR types and sensitivity codes by their plain names. `model` is None where none is approved."""

    model: AIModel | None
    needed: list[str]
    beyond: list[str]
    missing: list[str]
    sensitive: list[str]
    copy: bool = False  # a copy of records is asked for: there is no model, and no minimum to compare with

    @property
    def is_more(self) -> bool:
        """Something is asked for that the model does not say it needs. No model declares sensitive kinds."""
        return bool(self.beyond or self.sensitive or self.copy)


def check(asked: ConsentRequest) -> Minimum:
    model = AIModel.objects.filter(
        digest=asked.model, provider=asked.requester_id, state=AIModel.State.APPROVED
    ).first()
    reads = set(model.card.get("reads", ())) if model else set()
    kinds = set(asked.kinds)
    return Minimum(
        model=model,
        needed=_names(kinds & reads),
        beyond=_names(kinds - reads),
        missing=_names((reads - kinds) & KINDS.keys()),
        sensitive=[str(SENSITIVE[code].name) for code in asked.sensitive],
        copy=asked.action == ConsentRequest.Action.DISCLOSE,
    )


def grade(asked: ConsentRequest) -> float:
    """How hard the requester's own words are to read, to one place (English formula)."""
    return round(reading_grade("\n".join((asked.what_for, asked.who_sees, asked.what_can_go_wrong))), 1)


def _names(kinds: set[str]) -> list[str]:
    return sorted(str(name_of(kind)) for kind in kinds)

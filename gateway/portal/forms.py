"""The portal's forms: what to share and for how long, and one teach-back question."""

from collections.abc import MutableMapping
from datetime import date
from typing import Any, cast

from django import forms
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as translated
from django.utils.translation import gettext_lazy as _

from consent.explanation import KINDS, SENSITIVE
from consent.models import Consent, ConsentRequest
from consent.state import LONGEST_ONCE, end_of
from consent.teach_back import Item

Duration = Consent.Duration
SOONER = "sooner"  # until a day that the patient chooses
DAY_PARTS = ("day", "month", "year")


class ChoiceForm(forms.Form):
    """Nothing is ticked to begin with. Sensitive kinds are asked about on their own.

    `cleaned_data` is what `services.grant` takes: kinds, sensitive, duration, until.
    """

    kinds = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Tick one or more kinds of record, or choose No")},
    )
    sensitive = forms.MultipleChoiceField(widget=forms.CheckboxSelectMultiple, required=False)
    duration = forms.ChoiceField(
        widget=forms.RadioSelect, error_messages={"required": _("Choose how long they can use them")}
    )
    day = forms.CharField(required=False, max_length=4)
    month = forms.CharField(required=False, max_length=4)
    year = forms.CharField(required=False, max_length=6)

    def __init__(
        self, data: Any = None, *, question: ConsentRequest, initial: MutableMapping[str, Any] | None = None
    ) -> None:
        super().__init__(data, initial=initial)
        self.question = question
        self._choices("kinds", [(kind, KINDS[kind].name) for kind in question.kinds if kind in KINDS])
        self._choices(
            "sensitive", [(code, SENSITIVE[code].name) for code in question.sensitive if code in SENSITIVE]
        )
        self._choices("duration", [*durations(question), (SOONER, _("Until a day that you choose"))])

    def _choices(self, name: str, choices: list[tuple[str, Any]]) -> None:
        cast(forms.ChoiceField, self.fields[name]).choices = choices

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        parts = [cleaned.pop(part, "") for part in DAY_PARTS]
        cleaned["until"] = None
        if cleaned.get("duration") == SOONER:
            cleaned["duration"] = Duration.UNTIL.value
            cleaned["until"] = self._chosen_day(*parts)
        return cleaned

    def _chosen_day(self, day: str, month: str, year: str) -> date | None:
        last = self.question.share_until
        is_number = all(part.isdecimal() for part in (day, month, year))
        try:
            found = date(int(year), int(month), int(day))
        except ValueError:
            text = translated("There is no such day. Look at the month and the year")
            self.add_error("day", text if is_number else translated("Enter a day, such as 27 3 2027"))
            return None
        if not timezone.localdate() <= found <= last:
            text = translated("The day must be from today to %(date)s")
            self.add_error("day", text % {"date": date_format(last, "DATE_FORMAT")})
            return None
        return found


def initial_of(chosen: MutableMapping[str, Any]) -> dict[str, Any]:
    """What `ChoiceForm` shows for what was ticked before (`Progress.choice`)."""
    until = chosen.get("until")
    if until is None:
        return dict(chosen)
    return {**chosen, "duration": SOONER, "day": until.day, "month": until.month, "year": until.year}


class TeachBackForm(forms.Form):
    """One question, and the answers to it."""

    answer = forms.ChoiceField(
        widget=forms.RadioSelect, error_messages={"required": _("Choose one of the answers")}
    )

    def __init__(self, data: Any = None, *, item: Item) -> None:
        super().__init__(data)
        cast(forms.ChoiceField, self.fields["answer"]).choices = list(item.answers.items())


def durations(question: ConsentRequest) -> list[tuple[str, Any]]:
    """What can be chosen; 90 days only where the question lasts longer than that."""
    now = timezone.now()
    until = date_format(question.share_until, "DATE_FORMAT")
    offered: list[tuple[str, Any]] = [(Duration.ONCE, _("One time only"))]
    if end_of(Duration.NINETY_DAYS, request=question, now=now) < end_of(
        Duration.UNTIL, request=question, now=now
    ):
        offered.append((Duration.NINETY_DAYS, _("For %(days)d days") % {"days": LONGEST_ONCE.days}))
    offered.append((Duration.UNTIL, _("Until %(date)s") % {"date": until}))
    return offered


def length_of(question: ConsentRequest, choice: MutableMapping[str, Any]) -> Any:
    """For how long, in words, for what was chosen (`Progress.choice`)."""
    if choice["until"]:
        return _("Until %(date)s") % {"date": date_format(choice["until"], "DATE_FORMAT")}
    return dict(durations(question)).get(choice["duration"])

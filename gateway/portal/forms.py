"""The one form of the portal: what to share, and for how long."""

from collections.abc import MutableMapping
from typing import Any, cast

from django import forms
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from consent.explanation import KINDS, SENSITIVE
from consent.models import Consent, ConsentRequest
from consent.state import LONGEST_ONCE, end_of

Duration = Consent.Duration


class ChoiceForm(forms.Form):
    """Nothing is ticked to begin with. Sensitive kinds are asked about on their own."""

    kinds = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Tick one or more kinds of record, or choose No")},
    )
    sensitive = forms.MultipleChoiceField(widget=forms.CheckboxSelectMultiple, required=False)
    duration = forms.ChoiceField(
        widget=forms.RadioSelect, error_messages={"required": _("Choose how long they can use them")}
    )

    def __init__(
        self, data: Any = None, *, question: ConsentRequest, initial: MutableMapping[str, Any] | None = None
    ) -> None:
        super().__init__(data, initial=initial)
        self._choices("kinds", [(kind, KINDS[kind].name) for kind in question.kinds if kind in KINDS])
        self._choices(
            "sensitive", [(code, SENSITIVE[code].name) for code in question.sensitive if code in SENSITIVE]
        )
        self._choices("duration", durations(question))

    def _choices(self, name: str, choices: list[tuple[str, Any]]) -> None:
        cast(forms.ChoiceField, self.fields[name]).choices = choices


def durations(question: ConsentRequest) -> list[tuple[str, Any]]:
    """What can be chosen; 90 days only where the question lasts longer than that."""
    from django.utils import timezone

    until = date_format(question.share_until, "j F Y")
    offered: list[tuple[str, Any]] = [(Duration.ONCE, _("One time only"))]
    if end_of(Duration.NINETY_DAYS, request=question, now=timezone.now()) < end_of(
        Duration.UNTIL, request=question, now=timezone.now()
    ):
        offered.append((Duration.NINETY_DAYS, _("For %(days)d days") % {"days": LONGEST_ONCE.days}))
    offered.append((Duration.UNTIL, _("Until %(date)s") % {"date": until}))
    return offered

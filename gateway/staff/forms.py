"""The forms of an answer on paper or by phone: one question a page, each kind of record for itself."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from consent.answers import Authority, GivenBy
from consent.explanation import KINDS, SENSITIVE
from consent.models import ConsentRequest
from gateway.emergency.services import REASONS, SHORTEST
from gateway.portal.forms import durations

YES_NO = [("yes", _("Yes")), ("no", _("No"))]


class WhoForm(forms.Form):
    """Two identifiers, so that no answer is written down for somebody of the same name."""

    record_id = forms.CharField(max_length=64, label=_("Record number"))
    birth_date = forms.DateField(
        label=_("Date of birth"), help_text=_("Year, month, day: 1960-12-31."), input_formats=["%Y-%m-%d"]
    )


class QuestionForm(forms.Form):
    """`questions` are those that wait for this patient."""

    question = forms.ChoiceField(widget=forms.RadioSelect, label=_("Which question did they answer?"))

    def __init__(self, *args: Any, questions: list[ConsentRequest], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["question"]
        field.choices = [(each.id, f"{each.requester.name}: {each.what_for}") for each in questions]


class HowForm(forms.Form):
    given_by = forms.ChoiceField(
        widget=forms.RadioSelect,
        label=_("How did they answer?"),
        choices=[(GivenBy.PAPER, _("On paper")), (GivenBy.PHONE, _("By phone"))],
    )


class AuthorityForm(forms.Form):
    authority = forms.ChoiceField(
        widget=forms.RadioSelect,
        label=_("Who answered?"),
        choices=[
            (Authority.PATIENT, _("The patient")),
            (Authority.PARENT, _("A parent of the patient, who is a minor")),
            (Authority.GUARDIAN, _("A guardian whom a court named")),
            (Authority.ATTORNEY, _("Somebody with a power of attorney")),
        ],
    )
    evidence = forms.BooleanField(
        required=False, label=_("I have seen the paper that says so (not needed for the patient)")
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("authority") not in (None, Authority.PATIENT) and not cleaned.get("evidence"):
            self.add_error("evidence", _("Look at the paper that says so first"))
        return cleaned


class DecisionForm(forms.Form):
    """Yes or no to each kind; nothing is chosen to begin with. All no is a refusal."""

    def __init__(self, *args: Any, question: ConsentRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.question = question
        self.names = {f"kind_{kind}": ("kinds", kind, KINDS[kind].name) for kind in question.kinds}
        self.names |= {
            f"sensitive_{code}": ("sensitive", code, SENSITIVE[code].name) for code in question.sensitive
        }
        for name, (_group, _code, label) in self.names.items():
            self.fields[name] = forms.ChoiceField(widget=forms.RadioSelect, choices=YES_NO, label=str(label))
        self.fields["duration"] = forms.ChoiceField(
            widget=forms.RadioSelect,
            choices=durations(question),
            required=False,
            label=_("How long? (for a yes)"),
        )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.errors:
            return cleaned
        given: dict[str, list[str]] = {"kinds": [], "sensitive": []}
        for name, (group, code, _label) in self.names.items():
            if cleaned[name] == "yes":
                given[group].append(code)
        if given["sensitive"] and not given["kinds"]:
            raise forms.ValidationError(_("A yes to private records needs a yes to one kind of record"))
        if given["kinds"] and self.question.signature_required:
            raise forms.ValidationError(
                _("Only a yes that the patient signs with a passkey counts here. You can write down a no.")
            )
        if given["kinds"] and not cleaned["duration"]:
            self.add_error("duration", _("Choose how long"))
        return {**given, "duration": cleaned.get("duration", "") if given["kinds"] else ""}


class ScanForm(forms.Form):
    scan = forms.FileField(
        label=_("Scan of the signed paper"),
        help_text=_("PDF, JPEG or PNG, at most 5 MB."),
        widget=forms.FileInput(attrs={"accept": ".pdf,.jpg,.jpeg,.png"}),
    )


class ReadBackForm(forms.Form):
    read_back = forms.BooleanField(label=_("I read this out, and the person said that it is right"))


def in_words(label: Any, hint: Any) -> forms.CharField:
    """A reason that somebody gives for what they did or judged."""
    return forms.CharField(
        widget=forms.Textarea, min_length=SHORTEST, max_length=1000, label=label, help_text=hint
    )


class WhyForm(forms.Form):
    """Why a record is opened without the patient's yes."""

    reason = forms.ChoiceField(
        widget=forms.RadioSelect, choices=lambda: list(REASONS.items()), label=_("What is the reason?")
    )
    explanation = in_words(_("What happened?"), _("At least 15 characters. The patient reads this."))


class OutcomeForm(forms.Form):
    """What a second person says of it."""

    outcome = forms.ChoiceField(
        widget=forms.RadioSelect,
        choices=[("justified", _("Justified")), ("not_justified", _("Not justified"))],
        label=_("Was it justified?"),
    )
    reason = in_words(_("Why?"), _("At least 15 characters. The patient reads this."))


class FoundForm(forms.Form):
    """What a second person found when they looked into an alarm."""

    outcome = forms.ChoiceField(
        widget=forms.RadioSelect,
        choices=[("explained", _("Explained")), ("misuse", _("Misuse"))],
        label=_("What did you find?"),
    )
    reason = in_words(_("Why?"), _("At least 15 characters."))


class WithdrawForm(forms.Form):
    given_by = forms.ChoiceField(choices=[(GivenBy.PAPER, ""), (GivenBy.PHONE, "")])

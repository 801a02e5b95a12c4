"""Patients, requesters and questions in the admin site. What changes state goes through a service."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _

from consent import notices, referrals, services
from consent.channels import known_channels
from consent.models import Consent, ConsentRequest, Notice, Patient, Requester
from consent.patients import PROOFS
from ledger.admin import KeptAdmin, ReadOnlyAdmin, show_once
from ledger.audit.log import Actor
from ledger.errors import GatewayError


class PatientForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new patient is invited; one who is here can be identified and linked to their record, once."""

    identified = forms.ChoiceField(
        choices=[("", "---------"), *((method, method.replace("_", " ")) for method in sorted(PROOFS))],
        required=False,
        help_text="How you checked who this person is.",
    )

    channel = forms.ChoiceField(
        choices=lambda: [(name, name) for name in known_channels()],
        initial=lambda: settings.PATIENT_CHANNEL,
        help_text="The ledger that all consents of this person will be on. It cannot be changed later.",
    )

    class Meta:
        model = Patient
        fields = ("name", "birth_date", "record_id")
        help_texts = {"record_id": "The id of the FHIR Patient resource. It cannot be changed later."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not settings.LEDGER_CHANNELS:  # there is nothing to choose
            self.fields.pop("channel", None)


class ReferralForm(forms.Form):
    """Who may ask with the code."""

    requester = forms.ModelChoiceField(Requester.objects.order_by("name"), label="AI provider")


@admin.register(Patient)
class PatientAdmin(KeptAdmin):
    form = PatientForm
    list_display = ("name", "birth_date", "user", "proofed_at")
    list_select_related = ("user",)
    # No search here: it would put a name into a URL. The staff site finds patients by POST.
    actions = ("send_new_invitation",)

    def get_fields(self, request: Any, obj: Any = None) -> Any:
        several = ("channel",) if settings.LEDGER_CHANNELS else ()
        if obj is None:
            return ("name", "birth_date", *several)
        return ("name", "birth_date", "record_id", "identified", "proofed_at", *several)

    def get_readonly_fields(self, request: Any, obj: Any = None) -> Any:
        return ("proofed_at",) if obj is None else ("proofed_at", "channel")

    def save_model(self, request: Any, obj: Patient, form: Any, change: bool) -> None:
        by = Actor.staff(request.user.pk)
        if not change:
            invited, code = services.invite(
                name=obj.name,
                birth_date=obj.birth_date,
                by=by,
                channel=form.cleaned_data.get("channel"),
            )
            obj.__dict__.update(invited.__dict__)
            request.invitations = {obj.name: _link(code)}
            return
        record_id, method = obj.record_id, form.cleaned_data.get("identified")
        obj.record_id = Patient.objects.values_list("record_id", flat=True).get(pk=obj.pk)
        obj.save(update_fields=["name", "birth_date"])
        try:
            if record_id and record_id != obj.record_id:
                services.link_record(patient=obj, record_id=record_id, by=by)
            if method:
                services.proof_identity(patient=obj, by=request.user, method=method)
        except GatewayError as error:
            messages.error(request, error.message)

    def response_add(self, request: Any, obj: Patient, post_url_continue: str | None = None) -> HttpResponse:
        return self._show(request, request.invitations)

    @admin.action(description="Invite again: a new code, the old one stops working", permissions=["change"])
    def send_new_invitation(self, request: Any, queryset: QuerySet[Patient]) -> HttpResponse:
        links, problems = {}, []
        for patient in queryset[:20]:
            try:
                code = services.invite_again(patient=patient, by=Actor.staff(request.user.pk))
            except GatewayError as error:
                problems.append(f"{patient}: {error.message}")
            else:
                links[f"{patient} ({patient.pk[:8]})" if patient.name in links else patient.name] = _link(
                    code
                )
        return self._show(request, links, problems)

    def _show(self, request: Any, links: dict[str, str], problems: list[str] | None = None) -> HttpResponse:
        """The one time that anybody sees the codes."""
        return show_once(
            self,
            request,
            title=_("Invitation"),
            advice=_("Give this link to the patient and to nobody else."),
            shown=links,
            problems=problems or [],
        )

    def get_urls(self) -> Any:
        referral = self.admin_site.admin_view(self.referral)
        return [path("<str:id>/referral/", referral, name="consent_patient_referral"), *super().get_urls()]

    def referral(self, request: Any, id: str) -> HttpResponse:
        """A referral code for this patient and one AI provider, by whoever may change the patient."""
        patient = self.get_object(request, id)
        if patient is None:
            raise Http404
        if not self.has_change_permission(request, patient):
            raise PermissionDenied
        form = ReferralForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            requester = form.cleaned_data["requester"]
            try:
                code = referrals.issue(patient=patient, requester=requester, by=Actor.staff(request.user.pk))
            except GatewayError as error:
                form.add_error(None, error.message)
            else:
                return show_once(
                    self,
                    request,
                    title=_("Referral code"),
                    advice=_("Give this code to the patient, who passes it on to the AI provider."),
                    shown={requester.name: code},
                )
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Give a referral code"),
            "patient": patient,
            "form": form,
            "days": referrals.DAYS,
        }
        return TemplateResponse(request, "admin/consent/patient/referral.html", context)


def _link(code: str) -> str:
    return settings.PUBLIC_URL.rstrip("/") + reverse("invitation", args=[code])


@admin.register(Requester)
class RequesterAdmin(KeptAdmin):
    list_display = ("name", "contact", "created_at")
    search_fields = ("name",)
    readonly_fields = ("reference",)


@admin.register(Notice)
class NoticeAdmin(KeptAdmin):
    """A new text is a new version; one that was published never changes."""

    list_display = ("slug", "version", "language", "title", "digest")
    fields = ("slug", "language", "title", "text")

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return False

    def save_model(self, request: Any, obj: Notice, form: Any, change: bool) -> None:
        published = notices.publish(slug=obj.slug, language=obj.language, title=obj.title, text=obj.text)
        obj.__dict__.update(published.__dict__)


@admin.register(ConsentRequest)
class ConsentRequestAdmin(ReadOnlyAdmin):
    list_display = ("requester", "purpose", "state", "answer_by", "created_at")
    list_filter = ("state", "purpose")
    list_select_related = ("requester",)
    search_fields = ("=id",)


@admin.register(Consent)
class ConsentAdmin(ReadOnlyAdmin):
    list_display = ("status", "ledger_state", "duration", "decided_at", "expires_at", "stopped_at")
    list_filter = ("status", "ledger_state")
    search_fields = ("=id",)

"""Patients, requesters and questions in the admin site. What changes state goes through a service."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.urls import reverse
from django.utils.translation import gettext as _

from consent import notices, services
from consent.models import Consent, ConsentRequest, Notice, Patient, Requester
from consent.patients import PROOFS
from ledger.admin import KeptAdmin, ReadOnlyAdmin
from ledger.audit.log import Actor
from ledger.errors import GatewayError


class PatientForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new patient is invited; one who is here can be identified and linked to their record, once."""

    identified = forms.ChoiceField(
        choices=[("", "---------"), *((method, method.replace("_", " ")) for method in sorted(PROOFS))],
        required=False,
        help_text="How you checked who this person is.",
    )

    class Meta:
        model = Patient
        fields = ("name", "birth_date", "record_id")
        help_texts = {"record_id": "The id of the FHIR Patient resource. It cannot be changed later."}


@admin.register(Patient)
class PatientAdmin(KeptAdmin):
    form = PatientForm
    list_display = ("name", "birth_date", "user", "proofed_at")
    list_select_related = ("user",)
    search_fields = ("name", "=record_id")
    actions = ("send_new_invitation",)

    def get_fields(self, request: Any, obj: Any = None) -> Any:
        return (
            ("name", "birth_date")
            if obj is None
            else ("name", "birth_date", "record_id", "identified", "proofed_at")
        )

    def get_readonly_fields(self, request: Any, obj: Any = None) -> Any:
        return ("proofed_at",)

    def save_model(self, request: Any, obj: Patient, form: Any, change: bool) -> None:
        by = Actor.staff(request.user.pk)
        if not change:
            invited, code = services.invite(name=obj.name, birth_date=obj.birth_date, by=by)
            obj.__dict__.update(invited.__dict__)
            self._show(request, code)
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

    @admin.action(description="Invite again: a new code, the old one stops working", permissions=["change"])
    def send_new_invitation(self, request: Any, queryset: QuerySet[Patient]) -> None:
        for patient in queryset[:20]:
            try:
                self._show(request, services.invite_again(patient=patient, by=Actor.staff(request.user.pk)))
            except GatewayError as error:
                messages.error(request, error.message)

    def _show(self, request: Any, code: str) -> None:
        """The one time that anybody sees the code."""
        link = settings.PUBLIC_URL.rstrip("/") + reverse("invitation", args=[code])
        messages.success(
            request, _("Give this link to the patient and to nobody else: %(link)s") % {"link": link}
        )


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

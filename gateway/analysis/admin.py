"""AI models and jobs in the admin site: models go through the services, jobs are only looked at."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet

from gateway.analysis import catalogue, services
from gateway.analysis.models import AIModel, Job
from ledger.admin import KeptAdmin, ReadOnlyAdmin
from ledger.audit.log import Actor
from ledger.errors import GatewayError


class AIModelForm(forms.ModelForm):  # type: ignore[type-arg]
    """Which model of the catalogue, for which provider; its digest and card follow from it."""

    model = forms.ChoiceField(
        choices=lambda: [(model.name, f"{model.name} {model.version}") for model in catalogue.MODELS]
    )

    class Meta:
        model = AIModel
        fields = ("provider",)


@admin.register(AIModel)
class AIModelAdmin(KeptAdmin):
    form = AIModelForm
    list_display = ("name", "version", "provider", "state", "digest")
    list_select_related = ("provider",)
    actions = ("suspend",)

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request)

    def save_model(self, request: Any, obj: AIModel, form: Any, change: bool) -> None:
        model = catalogue.find(form.cleaned_data["model"])
        try:
            row = services.register_model(model=model, provider=obj.provider, by=Actor.staff(request.user.pk))
            obj.__dict__.update(row.__dict__)
        except GatewayError as error:
            obj.pk = model.digest()
            messages.error(request, error.message)

    @admin.action(description="Suspend: no job with it is taken from now on", permissions=["change"])
    def suspend(self, request: Any, queryset: QuerySet[AIModel]) -> None:
        for model in queryset.select_related("provider"):
            try:
                services.suspend_model(model=model, by=Actor.staff(request.user.pk))
            except GatewayError as error:
                messages.error(request, error.message)


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = ("id", "requester", "state", "error_code", "created_at", "settled_at")
    list_filter = ("state",)
    list_select_related = ("requester",)

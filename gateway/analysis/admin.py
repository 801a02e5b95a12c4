"""AI models and jobs in the admin site: models can be suspended, jobs are only looked at."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet

from gateway.analysis import services
from gateway.analysis.models import AIModel, Job
from gateway.wording import sentence
from ledger.admin import KeptAdmin, ReadOnlyAdmin
from ledger.audit.log import Actor
from ledger.errors import GatewayError


@admin.register(AIModel)
class AIModelAdmin(KeptAdmin):
    list_display = ("name", "version", "provider", "state", "digest")
    list_select_related = ("provider",)
    actions = ("suspend",)

    def has_add_permission(self, request: Any) -> bool:
        return False  # two people approve one: on the staff site

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request)

    @admin.action(description="Suspend: no job with it is taken from now on", permissions=["change"])
    def suspend(self, request: Any, queryset: QuerySet[AIModel]) -> None:
        for model in queryset.select_related("provider"):
            try:
                services.suspend_model(model=model, by=Actor.staff(request.user.pk))
            except GatewayError as error:
                messages.error(request, sentence(error))


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = ("id", "requester", "state", "error_code", "created_at", "settled_at")
    list_filter = ("state",)
    list_select_related = ("requester",)

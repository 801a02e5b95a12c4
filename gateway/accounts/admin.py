"""Who signs in, in the admin site."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpResponse

from gateway.accounts import clients
from gateway.accounts.models import AIClient, User
from ledger.admin import KeptAdmin, show_once
from ledger.audit.log import Actor

PEOPLE = UserAdmin  # Django's own: passwords, groups, permissions


@admin.register(User)
class PersonAdmin(PEOPLE):  # type: ignore[type-arg]
    """People sign in by e-mail; the user name is there because Django wants one."""

    ordering = ("email",)
    list_display = ("email", "is_active", "is_staff", "last_login")
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("email", "username", "usable_password", "password1", "password2"),
            },
        ),
    )

    has_delete_permission = KeptAdmin.has_delete_permission


@admin.register(AIClient)
class AIClientAdmin(KeptAdmin):
    """A client is made for a requester, with its OAuth application; it never changes hands."""

    list_display = ("requester", "application")
    list_select_related = ("requester", "application")
    fields = ("requester",)
    actions = ("renew_secret",)

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request)

    def save_model(self, request: Any, obj: AIClient, form: Any, change: bool) -> None:
        made, secret = clients.register(requester=obj.requester, by=Actor.staff(request.user.pk))
        obj.__dict__.update(made.__dict__)
        request.credentials = _credentials(made, secret)

    def response_add(self, request: Any, obj: AIClient, post_url_continue: str | None = None) -> HttpResponse:
        return self._show(request, request.credentials)

    @admin.action(description="New secret: the old one stops working", permissions=["change"])
    def renew_secret(self, request: Any, queryset: QuerySet[AIClient]) -> HttpResponse:
        shown: dict[str, str] = {}
        for client in queryset.select_related("requester", "application")[:20]:
            secret = clients.renew_secret(client=client, by=Actor.staff(request.user.pk))
            shown |= _credentials(client, secret)
        return self._show(request, shown)

    def _show(self, request: Any, shown: dict[str, str]) -> HttpResponse:
        return show_once(
            self,
            request,
            title="Client id and secret",
            advice="Give these to the AI provider, over a channel that nobody else reads.",
            shown=shown,
        )


def _credentials(client: AIClient, secret: str) -> dict[str, str]:
    return {f"{client.requester}: client id {client.application.client_id}, secret": secret}

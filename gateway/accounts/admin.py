"""Who signs in, in the admin site."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from gateway.accounts import clients
from gateway.accounts.models import AIClient, User
from gateway.wording import sentence
from ledger.admin import KeptAdmin
from ledger.audit.log import Actor
from ledger.errors import GatewayError

PEOPLE = UserAdmin  # Django's own: passwords, groups, permissions


@admin.register(User)
class PersonAdmin(PEOPLE):  # type: ignore[type-arg]
    """People sign in by email; the user name is there because Django wants one."""

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


class AIClientForm(forms.ModelForm):  # type: ignore[type-arg]
    """A client's keys, checked as the service checks them, so that the page can say what is wrong."""

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        try:
            clients.check_keys(given.get("jwks"), given.get("jwks_url") or "")
        except GatewayError as error:
            raise forms.ValidationError(sentence(error)) from None
        return given


@admin.register(AIClient)
class AIClientAdmin(KeptAdmin):
    """A client is made for a requester, with its OAuth application; it never changes hands, its keys may."""

    form = AIClientForm
    list_display = ("requester", "client_id", "jwks_url")
    list_select_related = ("requester", "application")

    def get_fields(self, request: Any, obj: AIClient | None = None) -> list[Any]:
        return [*(["client_id"] if obj else []), "requester", "jwks", "jwks_url"]

    def get_readonly_fields(self, request: Any, obj: AIClient | None = None) -> list[str]:
        return ["client_id", "requester"] if obj else []

    @admin.display(description="client id")
    def client_id(self, client: AIClient) -> str:
        return str(client.application.client_id)

    def save_model(self, request: Any, obj: AIClient, form: Any, change: bool) -> None:
        keys: dict[str, Any] = {
            "jwks": obj.jwks,
            "jwks_url": obj.jwks_url,
            "by": Actor.staff(request.user.pk),
        }
        if change:
            clients.change_keys(client=obj, **keys)
        else:
            obj.__dict__.update(clients.register(requester=obj.requester, **keys).__dict__)

"""Who signs in, in the admin site."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from gateway.accounts.models import AIClient, User
from ledger.admin import KeptAdmin, ModelAdmin

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
class AIClientAdmin(ModelAdmin):
    list_display = ("requester", "application")
    list_select_related = ("requester", "application")

"""The ledger's rows in the admin site, for nobody to change, and what the pages of other rooms share."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.template.response import TemplateResponse

from ledger.models import EventCursor, LedgerTransaction

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class KeptAdmin(ModelAdmin):
    """Rows that are never deleted: they are what proofs and histories point to."""

    def has_delete_permission(self, request: Any, obj: object = None) -> bool:
        return False


class ReadOnlyAdmin(KeptAdmin):
    """Rows that only the services write. A superuser has no more than a look at them, either."""

    show_full_result_count = False

    def has_add_permission(self, request: Any) -> bool:
        return False

    def has_change_permission(self, request: Any, obj: object = None) -> bool:
        return False


def show_once(
    page: ModelAdmin,
    request: Any,
    *,
    title: str,
    advice: str,
    shown: Mapping[str, str],
    problems: Sequence[str] = (),
) -> TemplateResponse:
    """The answer to a POST that made secrets: `shown` (what it is → the secret) stands in this answer alone.

    It passes through no session, no cookie and no URL, and the browser is told not to keep it.
    """
    context = {
        **page.admin_site.each_context(request),
        "opts": page.opts,
        "title": title,
        "advice": advice,
        "shown": shown,
        "problems": problems,
    }
    response = TemplateResponse(request, "admin/shown_once.html", context)
    response["Cache-Control"] = "no-store"
    return response


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(ReadOnlyAdmin):
    list_display = ("id", "name", "through", "state", "block", "error_code", "created_at", "settled_at")
    list_filter = ("state", "name")
    search_fields = ("=reference", "=tx_id")
    exclude = ("envelope",)


@admin.register(EventCursor)
class EventCursorAdmin(ReadOnlyAdmin):
    list_display = ("listener", "block", "index")

"""The ledger's rows in the admin site: to be read, by nobody to be changed."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin

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


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(ReadOnlyAdmin):
    list_display = ("id", "name", "through", "state", "block", "error_code", "created_at", "settled_at")
    list_filter = ("state", "name")
    search_fields = ("=reference", "=tx_id")
    exclude = ("envelope",)


@admin.register(EventCursor)
class EventCursorAdmin(ReadOnlyAdmin):
    list_display = ("listener", "block", "index")

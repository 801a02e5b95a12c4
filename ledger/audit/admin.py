"""The audit log in the admin site: to be read, by nobody to be changed."""

from django.contrib import admin

from ledger.admin import ReadOnlyAdmin
from ledger.audit.models import AuditBatch, AuditRow, Incident


@admin.register(AuditRow)
class AuditRowAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "recorded_at", "leaf")
    list_filter = ("kind",)
    search_fields = ("=subject",)
    exclude = ("line",)
    readonly_fields = ("canonical_line",)

    @admin.display(description="line")
    def canonical_line(self, row: AuditRow) -> str:
        return bytes(row.line).decode()


@admin.register(AuditBatch)
class AuditBatchAdmin(ReadOnlyAdmin):
    list_display = ("size", "root", "block", "sealed_at")
    exclude = ("range",)


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    list_display = ("code", "place", "holds", "opened_at", "settled_at")

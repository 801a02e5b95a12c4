"""What Django's admin does not do by itself: nobody's name in a URL, and no hint of what is there."""

from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

# A search is a GET, so its words stand in the URL, in logs and in histories: ids of ours alone may.
SEARCHED = frozenset({"=id", "=reference", "=tx_id", "=digest", "=size"})


def tighten(site: AdminSite) -> None:
    """Once every model is registered, and before the site's addresses are made."""
    for page in site._registry.values():
        searched = tuple(field for field in page.search_fields if field in SEARCHED)
        page.search_fields = searched  # type: ignore[misc]
        _ask_permission_first(page)


def _ask_permission_first(page: "ModelAdmin[Any]") -> None:
    """Django looks a history's object up before it asks, which tells what is there from what is not."""
    shown = page.history_view

    def history_view(request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if not page.has_view_or_change_permission(request):
            raise PermissionDenied
        return shown(request, object_id, extra_context)

    page.history_view = history_view  # type: ignore[method-assign]

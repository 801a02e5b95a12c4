"""What every page knows of a member of staff: the menu, on the staff site and on the pages for everyone."""

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from gateway.staff.visitor import MENU, Entry, may


def menu(request: HttpRequest) -> dict[str, Any]:
    return {"staff_menu": SimpleLazyObject(lambda: menu_of(request))}


def menu_of(request: HttpRequest) -> list[Entry]:
    """What this visitor may see of the staff site; nothing on pages about a patient's own records."""
    is_staff = getattr(getattr(request, "user", None), "is_staff", False)
    if not is_staff or hasattr(request, "visit"):
        return []
    return [entry for entry in MENU if may(request, entry.act)]

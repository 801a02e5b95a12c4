"""What every page knows: the custodian and its phone number."""

from django.conf import settings
from django.http import HttpRequest


def hospital(request: HttpRequest) -> dict[str, dict[str, str]]:
    return {"hospital": {"name": settings.CUSTODIAN, "help_phone": settings.HELP_PHONE}}

"""What every page knows: the custodian, its phone number, who keeps the ledger, which languages and identity
providers there are."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.html import format_html

from gateway.accounts.oidc import providers
from gateway.accounts.preferences import is_large


def whole(phone: str) -> str:
    """A phone number for a page, on one line; in a text from right to left its groups of digits would change
    places."""
    return format_html('<bdi class="gw-whole" dir="ltr">{}</bdi>', phone)


def hospital(request: HttpRequest) -> dict[str, Any]:
    return {
        "hospital": {
            "name": settings.CUSTODIAN,
            "help_phone": whole(settings.HELP_PHONE),
            "providers": providers.configured(),  # those that sign people in
            # On the embedded ledger one organisation holds the only key.
            "shares_ledger": settings.LEDGER_URL.startswith("fabric://"),
        },
        "large_text": is_large(request),
        "languages": settings.LANGUAGES,  # each by its own name, whatever the page is in
    }

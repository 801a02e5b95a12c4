"""What must hold before an installation starts (`manage.py check`, and every command's start)."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register
def production_needs_many(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """In production no single organisation may be able to rewrite the ledger, and no file is the database."""
    if not settings.PRODUCTION:
        return []
    found: list[CheckMessage] = []
    urls = (settings.LEDGER_URL, *settings.LEDGER_CHANNELS.values())
    if any(url.startswith("embedded://") for url in urls):
        found.append(
            Error(
                "The embedded ledger is for one machine: whoever owns the machine could rewrite it.",
                hint="Set LEDGER_URL and LEDGER_CHANNELS to profiles of Fabric channels (docs/fabric.md).",
                id="gateway.E001",
            )
        )
    if settings.DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
        found.append(
            Error(
                "Production needs PostgreSQL.",
                hint="Set DATABASE_URL or DATABASE_URL_FILE.",
                id="gateway.E002",
            )
        )
    if settings.DEBUG:
        found.append(Error("GATEWAY_DEBUG shows records to strangers.", hint="Unset it.", id="gateway.E003"))
    if not settings.STAFF_SECOND_FACTOR:
        found.append(
            Error(
                "Members of staff must sign in with a second factor.",
                hint="Unset GATEWAY_STAFF_SECOND_FACTOR.",
                id="gateway.E004",
            )
        )
    if settings.AUTO_APPROVE:
        found.append(
            Error(
                "Without a review, any question of an AI provider reaches patients unread.",
                hint="Unset GATEWAY_AUTO_APPROVE.",
                id="gateway.E005",
            )
        )
    return found

"""What must hold before an installation starts (`manage.py check`, and every command's start)."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from gateway.accounts.oidc import discovery, providers
from gateway.accounts.oidc.providers import ProviderRefused
from gateway.compliance import attesting
from ledger.errors import InvalidInput


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


@register
def providers_can_be_trusted(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """An identity provider signs people in: what is said of it has to be whole, and its address safe."""
    found: list[CheckMessage] = []
    for each in providers.configured():
        own = f"GATEWAY_OIDC_{each.slug.upper().replace('-', '_')}"
        if not providers.SLUG.fullmatch(each.slug):
            found.append(
                Error(
                    f"{each.slug!r} is no name for an identity provider.",
                    hint="In GATEWAY_OIDC, write small letters, digits and hyphens: hospital=https://…",
                    id="gateway.E010",
                )
            )
        if not providers.is_safe(each.issuer) or "?" in each.issuer:
            found.append(
                Error(
                    f"The issuer of {each.slug} is no https address.",
                    hint="Plain http is taken on loopback alone, and never with GATEWAY_PRODUCTION.",
                    id="gateway.E011",
                )
            )
        if not each.name or not each.client_id or not each.client_secret:
            found.append(
                Error(
                    f"The identity provider {each.slug} lacks a name, a client id or a client secret.",
                    hint=f"Set {own}_NAME, {own}_CLIENT_ID and {own}_CLIENT_SECRET_FILE.",
                    id="gateway.E012",
                )
            )
    if len({each.issuer for each in providers.configured()}) < len(providers.configured()):
        found.append(
            Error(
                "Two identity providers have the same issuer.",
                hint="Name each issuer once in GATEWAY_OIDC.",
                id="gateway.E013",
            )
        )
    return found


@register
def witnesses_can_be_asked(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Else every export would fail on it."""
    try:
        attesting.vouching()
        attesting.witnesses()
    except InvalidInput as error:
        return [
            Error(
                error.message,
                hint="Read docs/compliance.md on GATEWAY_CHECKPOINT_KEY, _NAME and GATEWAY_WITNESSES.",
                id="gateway.E020",
            )
        ]
    return []


@register(deploy=True)
def providers_answer(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """`manage.py check --deploy` reads each provider's document, as the first sign-in would."""
    found: list[CheckMessage] = []
    for each in providers.configured():
        try:
            discovery.endpoints(each)
        except ProviderRefused as error:
            found.append(
                Error(
                    f"{each.slug}: {error.message}",
                    hint="A provider within your own network has to stand in GATEWAY_OUTBOUND_ALLOWED.",
                    id="gateway.E014",
                )
            )
    return found

"""The identity providers of this installation, from the settings (GATEWAY_OIDC)."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from django.conf import settings

from ledger.errors import GatewayError

SLUG = re.compile(r"[a-z][a-z0-9-]{0,39}")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class ProviderRefused(GatewayError):
    """What came from a provider is not believed, or it did not answer as it must. Nobody is signed in."""

    code = "provider_refused"
    status = 400


@dataclass(frozen=True)
class Provider:
    """`acr` are the classes (`acr` of an ID token) that the hospital counts as a second factor."""

    slug: str
    name: str
    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    acr: tuple[str, ...] = ()

    @property
    def callback(self) -> str:
        """Where it sends a browser back to: its own address, so that no answer is taken for another's."""
        return f"{settings.PUBLIC_URL.rstrip('/')}/accounts/provider/{self.slug}/callback/"


def configured() -> list[Provider]:
    return [Provider(**each) for each in settings.OIDC_PROVIDERS]


def find(slug: str) -> Provider | None:
    return next((each for each in configured() if each.slug == slug), None)


def is_safe(address: str) -> bool:
    """Whether a provider's address may be used: https, and outside production plain http on loopback."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        return False
    if not host or parts.username is not None or parts.fragment or not address.isascii():
        return False
    return parts.scheme == "https" or (
        parts.scheme == "http" and host in LOOPBACK and not settings.PRODUCTION
    )

"""AI clients: the OAuth applications with which a requester's programs come.

Each signs in with its own key (SMART Backend Services). We keep public keys, or the address of a set of
them; there is no secret of a client here that could be stolen.
"""

from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from oauth2_provider.models import Application

from consent.models import Requester
from gateway.accounts import key_sets, outbound
from gateway.accounts.models import AIClient
from ledger.audit.log import Actor, record
from ledger.errors import InvalidInput


@transaction.atomic
def register(
    *, requester: Requester, by: Actor, jwks: dict[str, Any] | None = None, jwks_url: str = ""
) -> AIClient:
    """A new client of `requester`, with its public keys: a JWK set, or the https address of one.

    Raises InvalidInput (`key_set`, `address`).
    """
    keys = check_keys(jwks, jwks_url)
    application = Application.objects.create(
        name=requester.name,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
        client_secret="",  # nosec B106 (there is none)
        hash_client_secret=False,
    )
    client = AIClient.objects.create(
        application=application, requester=requester, jwks_url=jwks_url, jwks=keys
    )
    _record("client.registered", client, by)
    return client


@transaction.atomic
def change_keys(
    *, client: AIClient, by: Actor, jwks: dict[str, Any] | None = None, jwks_url: str = ""
) -> None:
    """Other keys in place of those before, whose tokens end now. Raises InvalidInput."""
    client.jwks, client.jwks_url = check_keys(jwks, jwks_url), jwks_url
    client.save(update_fields=["jwks", "jwks_url"])
    client.application.accesstoken_set.all().delete()
    transaction.on_commit(lambda: key_sets.forget(client))
    _record("client.keys_changed", client, by)


def check_keys(jwks: dict[str, Any] | None, jwks_url: str) -> dict[str, Any] | None:
    """The key set to keep, None where it is at an address. Raises InvalidInput (`key_set`, `address`)."""
    if (jwks is None) == (not jwks_url):
        raise InvalidInput(_("Give a key set, or the address of one."), code="key_set")
    if jwks is None:
        outbound.check_address(jwks_url)
        return None
    return key_sets.check(jwks)


def _record(kind: str, client: AIClient, by: Actor) -> None:
    record(kind=kind, actor=by, requester=str(client.requester_id), client=client.application.client_id)

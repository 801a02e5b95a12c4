"""AI clients: the OAuth applications with which a requester's programs come.

Client credentials (RFC 6749 section 4.4), confidential, and a secret of ours that is kept as a hash: whoever
registers a client sees its secret once.
"""

import secrets

from django.db import transaction
from oauth2_provider.models import Application

from consent.models import Requester
from gateway.accounts.models import AIClient
from ledger.audit.log import Actor, record

SECRET_BYTES = 32


@transaction.atomic
def register(*, requester: Requester, by: Actor) -> tuple[AIClient, str]:
    """A new client of `requester`, and its secret (43 characters of base64url)."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    application = Application.objects.create(
        name=requester.name,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
        client_secret=secret,
    )
    client = AIClient.objects.create(application=application, requester=requester)
    _record("client.registered", client, by)
    return client, secret


@transaction.atomic
def renew_secret(*, client: AIClient, by: Actor) -> str:
    """A new secret; the old one gets no token from now on, and tokens that it got end now."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    application = Application.objects.select_for_update().get(pk=client.application_id)
    application.client_secret = secret
    application.save(update_fields=["client_secret"])
    application.accesstoken_set.all().delete()
    _record("client.secret_renewed", client, by)
    return secret


def _record(kind: str, client: AIClient, by: Actor) -> None:
    record(kind=kind, actor=by, requester=str(client.requester_id), client=client.application.client_id)

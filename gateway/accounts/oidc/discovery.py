"""What a provider says of itself (OpenID Connect Discovery 1.0), read from its own address and kept an hour.

Nothing of it widens what is believed: the issuer has to be the configured one, byte by byte.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache

from gateway.accounts import key_sets, outbound
from gateway.accounts.key_sets import ID_TOKENS, Key
from gateway.accounts.oidc.providers import Provider, ProviderRefused, is_safe
from ledger.contract.canonical import loads
from ledger.contract.errors import Refused
from ledger.errors import GatewayError

KEPT_SECONDS = 3600
FAILED_SECONDS = 60  # so long nobody else waits for what has just failed
AUTHENTICATION = ("client_secret_basic", "client_secret_post")


@dataclass(frozen=True)
class Endpoints:
    """`end_session` is "" where it offers none; `names_issuer`: its answers carry `iss` (RFC 9207)."""

    authorization: str
    token: str
    jwks: str
    end_session: str
    authentication: str
    names_issuer: bool


def endpoints(provider: Provider) -> Endpoints:
    """Raises ProviderRefused where it does not answer, or is not what it has to be."""
    name = f"provider-{provider.slug}"
    kept = cache.get(name)
    if kept is None or kept["issuer"] != provider.issuer:
        try:
            kept = {"issuer": provider.issuer, "found": _read(provider)}
        except GatewayError as error:
            cache.set(name, {"issuer": provider.issuer, "why": error.message}, FAILED_SECONDS)
            raise ProviderRefused(error.message) from None
        cache.set(name, kept, KEPT_SECONDS)
    if "why" in kept:
        raise ProviderRefused(kept["why"])
    found: Endpoints = kept["found"]
    return found


def key_of(provider: Provider, kid: str) -> Key | None:
    """Its signing key of this name, or None. Raises ProviderRefused."""
    try:
        return key_sets.key_at(
            endpoints(provider).jwks, kid, name=f"provider-keys-{provider.slug}", algorithms=ID_TOKENS
        )
    except GatewayError as error:
        raise ProviderRefused(error.message) from None


def _read(provider: Provider) -> Endpoints:
    address = f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration"
    answer = outbound.call(address, headers={"Accept": "application/json"})
    if answer.status != 200:
        raise ProviderRefused("The provider's document did not answer with 200.")
    try:
        document = loads(answer.body)
    except Refused:
        document = None
    if not isinstance(document, dict):
        raise ProviderRefused("The provider's document is not JSON.")
    if document.get("issuer") != provider.issuer:
        raise ProviderRefused("The provider's document names another issuer.")
    _supports(document, "response_types_supported", "code", unsaid=("code",))
    _supports(document, "code_challenge_methods_supported", "S256", unsaid=("S256",))
    signs = document.get("id_token_signing_alg_values_supported")
    if not isinstance(signs, list) or not set(key_sets.names(ID_TOKENS)) & {str(each) for each in signs}:
        raise ProviderRefused("The provider signs with no algorithm that is taken here.")
    ways = _list(document, "token_endpoint_auth_methods_supported", unsaid=("client_secret_basic",))
    way = next((each for each in AUTHENTICATION if each in ways), None)
    if way is None:
        raise ProviderRefused("The provider takes no client secret.")
    return Endpoints(
        authorization=_address(document, "authorization_endpoint"),
        token=_address(document, "token_endpoint"),
        jwks=_address(document, "jwks_uri"),
        end_session=_address(document, "end_session_endpoint") if "end_session_endpoint" in document else "",
        authentication=way,
        names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _address(document: Mapping[str, Any], name: str) -> str:
    found = document.get(name)
    if not isinstance(found, str) or not is_safe(found):
        raise ProviderRefused(f"The provider's {name} is no https address.")
    return found


def _list(document: Mapping[str, Any], name: str, unsaid: tuple[str, ...]) -> list[Any]:
    found = document.get(name, list(unsaid))
    return found if isinstance(found, list) else []


def _supports(document: Mapping[str, Any], name: str, wanted: str, unsaid: tuple[str, ...]) -> None:
    if wanted not in _list(document, name, unsaid):
        raise ProviderRefused(f"The provider's {name} lacks {wanted}.")

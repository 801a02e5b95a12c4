"""What is believed of an ID token (OpenID Connect Core 1.0, 3.1.3.7), and what it shows of a person."""

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from gateway.accounts import jwts, key_sets
from gateway.accounts.jwts import time_in
from gateway.accounts.oidc import discovery
from gateway.accounts.oidc.providers import Provider, ProviderRefused

LONGEST = 1 << 15
SKEW_SECONDS = 60
OLDEST_SECONDS = 600  # a token is made for the code that we bring at once
# Headers that would bring a key or a rule of the sender's with them. A thumbprint (x5t) brings neither.
FOREIGN = ("crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc")


@dataclass(frozen=True)
class Shown:
    """Who signed in at the provider, and how: `signed_in_at` is None where it did not say when."""

    subject: str
    signed_in_at: int | None
    second_factor: bool


def verify(text: str, *, provider: Provider, nonce: str, now: int, access_token: str | None = None) -> Shown:
    """Raises ProviderRefused, whose sentence names the check that failed and nothing of the token."""
    try:
        header, claims = jwts.read(text, longest=LONGEST)
    except ValueError:
        raise ProviderRefused("The ID token is not a signed JWT.") from None
    # (1) the signature: a key of the provider's by name, which alone decides the algorithm
    algorithm = _check_signature(text, header, provider)
    # (2) from the provider, for us and nobody else
    if claims.get("iss") != provider.issuer:
        raise ProviderRefused("The ID token is another issuer's.")
    if claims.get("aud") not in (provider.client_id, [provider.client_id]):
        raise ProviderRefused("The ID token is for somebody else, or for others too.")
    if claims.get("azp", provider.client_id) != provider.client_id:
        raise ProviderRefused("The ID token was made for another party.")
    # (3) now, and for this very browser
    _check_times(claims, now)
    said = claims.get("nonce")
    if not isinstance(said, str) or not compare_digest(said.encode(), nonce.encode()):
        raise ProviderRefused("The ID token answers another request.")
    # (4) with this access token, where it says so
    if "at_hash" in claims and claims["at_hash"] != _half_hash(access_token, algorithm):
        raise ProviderRefused("The ID token came with another access token.")
    # (5) about whom
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or not subject.isprintable():
        raise ProviderRefused("The ID token names nobody.")
    return Shown(subject, _signed_in_at(claims, now), _showed_two(claims, provider))


def _check_signature(text: str, header: dict[str, Any], provider: Provider) -> str:
    """The algorithm."""
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in key_sets.names(key_sets.ID_TOKENS):
        raise ProviderRefused("The ID token is signed by no algorithm that is taken here.")
    if any(name in header for name in FOREIGN):
        raise ProviderRefused("The ID token brings a key or a rule of its own.")
    if str(header.get("typ", "JWT")).upper() != "JWT":
        raise ProviderRefused("The token is of another kind.")
    if not isinstance(kid, str) or (key := discovery.key_of(provider, kid)) is None:
        raise ProviderRefused("The ID token names no key of the provider's.")
    if algorithm not in key_sets.signs_with(key, key_sets.ID_TOKENS):
        raise ProviderRefused("The key is of another kind than the ID token says.")
    try:
        jws.deserialize_compact(text, key, algorithms=[algorithm])
    except (JoseError, ValueError):
        raise ProviderRefused("The signature of the ID token does not hold.") from None
    return str(algorithm)


def _check_times(claims: dict[str, Any], now: int) -> None:
    expires, made = time_in(claims, "exp"), time_in(claims, "iat")
    if expires is None or expires <= now - SKEW_SECONDS:
        raise ProviderRefused("The ID token has run out.")
    if made is None or not now - OLDEST_SECONDS <= made <= now + SKEW_SECONDS:
        raise ProviderRefused("The ID token was not made just now.")
    if "nbf" in claims and ((begins := time_in(claims, "nbf")) is None or begins > now + SKEW_SECONDS):
        raise ProviderRefused("The ID token is not good yet.")


def _half_hash(access_token: str | None, algorithm: str) -> str | None:
    """Section 3.1.3.6: the left half of the hash that the signature's algorithm uses."""
    if access_token is None:
        return None
    digest = hashlib.new(f"sha{algorithm[2:]}", access_token.encode()).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _signed_in_at(claims: dict[str, Any], now: int) -> int | None:
    """`auth_time`; a moment that lies ahead shows nothing."""
    told = time_in(claims, "auth_time")
    return None if told is None or told > now + SKEW_SECONDS else told


def _showed_two(claims: dict[str, Any], provider: Provider) -> bool:
    """Whether the provider says that she showed two factors: RFC 8176's `mfa`, or a class that the hospital
    counts as such. Two methods that may be one factor (a password and a PIN) are not two."""
    methods = claims.get("amr")
    return (isinstance(methods, list) and "mfa" in methods) or claims.get("acr") in provider.acr

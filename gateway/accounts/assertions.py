"""Client assertions: how an AI client signs in (SMART Backend Services; RFC 7523, section 3).

A JWT that the client signed with a registered key, for our token address, good for 5 minutes and once.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from gateway.accounts import jwts, key_sets
from gateway.accounts.jwts import time_in
from gateway.accounts.models import AIClient
from ledger.errors import GatewayError

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_SECONDS = 300
SKEW_SECONDS = 10  # clocks differ, and a client that means 5 minutes may send 301 s
LONGEST = 8192
# Headers that would bring a key or a rule of the sender's with them.
FOREIGN = ("crit", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "b64", "zip", "enc")
UNKNOWN = "The client, or the key that kid names, is not registered here."


class AssertionRefused(GatewayError):
    """The client did not show who it is (401)."""

    code = "invalid_client"
    status = 401


@dataclass(frozen=True)
class Assertion:
    """One that holds. `jti_digest` (SHA-256, hex) names it until `expires`."""

    client: AIClient
    jti_digest: str
    expires: datetime


def verify(text: str, *, audience: str, now: int, client_id: str | None = None) -> Assertion:
    """Whose assertion this is. Raises AssertionRefused, whose sentence says what to mend.

    That it was not used before is not checked here: whoever takes it remembers it in the same commit
    (`remember`). `client_id` is what the request says beside the assertion, if it says anything.
    """
    try:
        header, claims = jwts.read(text, longest=LONGEST)
    except ValueError:
        raise AssertionRefused("client_assertion is not a signed JWT of at most 8 KiB.") from None
    # (1) the header: one of two algorithms, a key of ours by name, nothing that the sender brings along
    _check_header(header)
    # (2) the client, by iss and sub; its key, which alone decides the algorithm
    client = _client(header, claims, client_id)
    key = _key(client, header)
    # (3) the signature
    try:
        jws.deserialize_compact(text, key, algorithms=[header["alg"]])
    except (JoseError, ValueError):
        raise AssertionRefused("The signature does not hold.") from None
    # (4) what it is for, how long, and its name
    if claims.get("aud") != audience:
        raise AssertionRefused(f"aud is {audience}, alone and not in a list.")
    expires = _check_times(claims, now)
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 1 <= len(jti) <= 255:
        raise AssertionRefused("jti is 1 to 255 characters, new for each assertion.")
    return Assertion(client, hashlib.sha256(jti.encode()).hexdigest(), datetime.fromtimestamp(expires, UTC))


def _check_header(header: dict[str, Any]) -> None:
    if header.get("alg") not in key_sets.names(key_sets.ASSERTIONS):
        raise AssertionRefused("Sign with RS384 or ES384.")
    if header.get("typ", "JWT") != "JWT":
        raise AssertionRefused("The header's typ is JWT.")
    if brought := [name for name in FOREIGN if name in header]:
        raise AssertionRefused(f"A header {brought[0]} is not taken.")
    if not isinstance(header.get("kid"), str):
        raise AssertionRefused("The header names its key by kid.")


def _client(header: dict[str, Any], claims: dict[str, Any], client_id: str | None) -> AIClient:
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or issuer != claims.get("sub") or client_id not in (None, issuer):
        raise AssertionRefused("iss and sub are both the client id.")
    client = AIClient.objects.select_related("application").filter(application__client_id=issuer).first()
    if client is None:
        raise AssertionRefused(UNKNOWN)
    if "jku" in header and (not client.jwks_url or header["jku"] != client.jwks_url):
        raise AssertionRefused("jku is not the address that is registered.")
    return client


def _key(client: AIClient, header: dict[str, Any]) -> key_sets.Key:
    try:
        key = key_sets.key_of(client, header["kid"])
    except GatewayError as error:
        raise AssertionRefused(f"Your key set cannot be used: {error.message}") from None
    if key is None:
        raise AssertionRefused(UNKNOWN)
    if header["alg"] not in key_sets.signs_with(key, key_sets.ASSERTIONS):
        raise AssertionRefused("The key is of another kind than alg says.")
    return key


def _check_times(claims: dict[str, Any], now: int) -> int:
    """When it runs out."""
    expires = time_in(claims, "exp")
    if expires is None or expires <= now - SKEW_SECONDS:
        raise AssertionRefused("The assertion has run out. Check your clock, or make a new one.")
    if expires > now + LONGEST_SECONDS + SKEW_SECONDS:
        raise AssertionRefused("exp lies more than 5 minutes ahead.")
    for name in ("nbf", "iat"):
        if name in claims and ((begins := time_in(claims, name)) is None or begins > now + SKEW_SECONDS):
            raise AssertionRefused(f"{name} lies ahead. Check your clock.")
    return expires

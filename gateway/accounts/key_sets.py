"""The public keys of AI clients: a JWK set (RFC 7517) that was registered, or one at the client's address.

Only what signs client assertions is a key here: RSA of 2048 bits or more for RS384, P-384 for ES384. A
set at an address is read at most every 30 seconds for a `kid` that is not in it, and kept for 5 minutes at
most: that long a key that was taken out of it is still taken.
"""

import re
import time
from typing import Any

from django.core.cache import cache
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, RSAKey

from gateway.accounts import outbound
from gateway.accounts.models import AIClient
from ledger.contract.canonical import loads
from ledger.contract.errors import Refused
from ledger.errors import GatewayError, InvalidInput

ALGORITHMS = {"RSA": "RS384", "EC": "ES384"}
MOST_KEYS = 20
KEPT_SECONDS = 300
READ_AGAIN_SECONDS = 30
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

Key = RSAKey | ECKey


def check(key_set: object) -> dict[str, Any]:
    """A JWK set with 1 to 20 keys of ours, each with a `kid` of its own. Raises InvalidInput (`key_set`)."""
    found = usable(key_set)
    if not isinstance(key_set, dict) or len(found) != len(key_set.get("keys", [])):
        raise InvalidInput(
            "Every key needs a kid of its own and is an RSA key of 2048 bits or more, or one on P-384.",
            code="key_set",
        )
    return {"keys": [dict(each) for each in key_set["keys"]]}


def usable(key_set: object) -> dict[str, Key]:
    """The keys of a set that may sign an assertion, by `kid`; others are passed over (RFC 7517, 5).

    Raises InvalidInput (`key_set`) for what is no set of keys, names a `kid` twice, or holds a private key.
    """
    keys = key_set.get("keys") if isinstance(key_set, dict) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= MOST_KEYS:
        raise InvalidInput(f'A key set is {{"keys": […]}} with 1 to {MOST_KEYS} keys.', code="key_set")
    found: dict[str, Key] = {}
    for each in keys:
        if not isinstance(each, dict):
            raise InvalidInput("A key is an object (RFC 7517).", code="key_set")
        if PRIVATE & each.keys():
            raise InvalidInput("This key is private. Keep it, and register its public part.", code="key_set")
        if (key := _key(each)) is None:
            continue
        if each["kid"] in found:
            raise InvalidInput("Two keys have the same kid.", code="key_set")
        found[each["kid"]] = key
    return found


def _key(jwk: dict[str, Any]) -> Key | None:
    kind, kid = jwk.get("kty"), jwk.get("kid")
    if kind not in ALGORITHMS or not isinstance(kid, str) or not 1 <= len(kid) <= 200:
        return None
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", ALGORITHMS[kind]) != ALGORITHMS[kind]:
        return None
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = JWKRegistry.import_key(jwk)
        public: Any = key.public_key  # what is not a point of the curve, or no number, fails here
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAKey):
        return key if 2048 <= public.key_size <= 8192 else None
    return key if isinstance(key, ECKey) and key.curve_name == "P-384" else None


def key_of(client: AIClient, kid: str) -> Key | None:
    """The client's key of this name, or None. Raises GatewayError where its address does not answer."""
    if client.jwks is not None:
        return usable(client.jwks).get(kid)
    if not client.jwks_url:
        return None
    now = time.time()
    kept = cache.get(_name(client))
    if kept is not None and kept["url"] == client.jwks_url and now < kept["until"]:
        key = usable(kept["set"]).get(kid)
        if key is not None or now - kept["at"] < READ_AGAIN_SECONDS:
            return key
    failed = cache.get(_failed(client))
    if failed is not None and failed["url"] == client.jwks_url:
        raise outbound.Unreachable(failed["why"])
    try:
        key_set, seconds = _read(client.jwks_url)
        found = usable(key_set)
    except GatewayError as error:
        # Anybody may send an assertion in a client's name: none of them waits for what has just failed.
        cache.set(_failed(client), {"url": client.jwks_url, "why": error.message}, READ_AGAIN_SECONDS)
        raise
    kept = {"url": client.jwks_url, "at": now, "until": now + seconds, "set": key_set}
    cache.set(_name(client), kept, KEPT_SECONDS)
    return found.get(kid)


def forget(client: AIClient) -> None:
    """Read the client's key set anew when it is next needed."""
    cache.delete_many([_name(client), _failed(client)])


def _read(url: str) -> tuple[Any, int]:
    """The key set, and for how many seconds its own server lets it be kept (RFC 9111), at most so long."""
    answer = outbound.call(url, headers={"Accept": "application/jwk-set+json, application/json"})
    if answer.status != 200:
        raise outbound.Unreachable("The address of the key set did not answer with 200.")
    try:
        key_set = loads(answer.body)
    except Refused:
        raise InvalidInput("The key set is not JSON.", code="key_set") from None
    told = answer.headers.get("cache-control", "").lower()
    if "no-store" in told or "no-cache" in told:
        return key_set, 0
    found = re.search(r"max-age=(\d{1,9})", told)
    return key_set, min(KEPT_SECONDS, int(found[1])) if found else KEPT_SECONDS


def _name(client: AIClient) -> str:
    return f"key-set-{client.pk}"


def _failed(client: AIClient) -> str:
    return f"{_name(client)}-failed"

"""The public keys of others: a JWK set (RFC 7517) that was registered, or one at an address of theirs.

Two kinds of key are taken: those with which AI clients sign assertions, and those with which identity
providers sign ID tokens. A set at an address is kept for as long as its server says (SMART: never longer),
and for 1 hour at most: that long a key that was taken out of it is still taken. While it is kept it is read
again for a `kid` that is not in it, once a minute at most.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

from django.core.cache import cache
from django.utils.translation import gettext as _
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, RSAKey

from gateway.accounts import outbound
from gateway.accounts.models import AIClient
from ledger.contract.canonical import loads
from ledger.contract.errors import Refused
from ledger.errors import GatewayError, InvalidInput

Algorithms = Mapping[str, tuple[str, ...]]  # RSA, or the curve -> what such a key may sign with (RFC 7518)

ASSERTIONS: Algorithms = {"RSA": ("RS384",), "P-384": ("ES384",)}
ID_TOKENS: Algorithms = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
}
MOST_KEYS = 20
KEPT_SECONDS = 300  # where its server says nothing
MOST_KEPT_SECONDS = 3600
READ_AGAIN_SECONDS = 60
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

Key = RSAKey | ECKey


def check(key_set: object) -> dict[str, Any]:
    """A JWK set with 1 to 20 keys of ours, each with a `kid` of its own. Raises InvalidInput (`key_set`)."""
    found = usable(key_set)
    if not isinstance(key_set, dict) or len(found) != len(key_set.get("keys", [])):
        raise InvalidInput(
            _("Every key needs a kid of its own and is an RSA key of 2048 bits or more, or one on P-384."),
            code="key_set",
        )
    return {"keys": [dict(each) for each in key_set["keys"]]}


def usable(key_set: object, algorithms: Algorithms = ASSERTIONS) -> dict[str, Key]:
    """The keys of a set that may sign, by `kid`; others are passed over (RFC 7517, 5).

    Raises InvalidInput (`key_set`) for what is no set of keys, names a `kid` twice, or holds a private key.
    """
    keys = key_set.get("keys") if isinstance(key_set, dict) else None
    if not isinstance(keys, list) or not 1 <= len(keys) <= MOST_KEYS:
        raise InvalidInput(
            _('A key set is {"keys": […]} with 1 to %(number)s keys.') % {"number": MOST_KEYS}, code="key_set"
        )
    found: dict[str, Key] = {}
    for each in keys:
        if not isinstance(each, dict):
            raise InvalidInput(_("A key is an object (RFC 7517)."), code="key_set")
        if PRIVATE & each.keys():
            raise InvalidInput(
                _("This key is private. Keep it, and register its public part."), code="key_set"
            )
        if (key := _key(each, algorithms)) is None:
            continue
        if each["kid"] in found:
            raise InvalidInput(_("Two keys have the same kid."), code="key_set")
        found[each["kid"]] = key
    return found


def names(algorithms: Algorithms) -> list[str]:
    return sorted(name for may in algorithms.values() for name in may)


def signs_with(key: Key, algorithms: Algorithms) -> tuple[str, ...]:
    """The algorithms with which this key may sign: those of its kind, or the one that it names itself."""
    may = algorithms.get("RSA" if isinstance(key, RSAKey) else key.curve_name, ())
    own = key.get("alg")
    return may if own is None else tuple(name for name in may if name == own)


def _key(jwk: dict[str, Any], algorithms: Algorithms) -> Key | None:
    kid = jwk.get("kid")
    if jwk.get("kty") not in ("RSA", "EC") or not isinstance(kid, str) or not 1 <= len(kid) <= 200:
        return None
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = JWKRegistry.import_key(jwk)
        public: Any = key.public_key  # what is not a point of the curve, or no number, fails here
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if not isinstance(key, RSAKey | ECKey) or not signs_with(key, algorithms):
        return None
    return key if isinstance(key, ECKey) or 2048 <= public.key_size <= 8192 else None


def key_of(client: AIClient, kid: str) -> Key | None:
    """The client's key of this name, or None. Raises GatewayError where its address does not answer."""
    if client.jwks is not None:
        return usable(client.jwks).get(kid)
    if not client.jwks_url:
        return None
    return key_at(client.jwks_url, kid, name=_name(client), algorithms=ASSERTIONS)


def key_at(url: str, kid: str, *, name: str, algorithms: Algorithms) -> Key | None:
    """The key `kid` of the set at an address, or None. `name` is whose set it is, for keeping it.

    Raises GatewayError where the address does not answer, or not with a key set.
    """
    now = time.time()
    kept = cache.get(name)
    if kept is not None and kept["url"] == url and now < kept["until"]:
        key = usable(kept["set"], algorithms).get(kid)
        if key is not None or now - kept["at"] < READ_AGAIN_SECONDS:
            return key
    failed = cache.get(_failed(name))
    if failed is not None and failed["url"] == url:
        raise outbound.Unreachable(failed["why"])
    try:
        key_set, seconds = _read(url)
        found = usable(key_set, algorithms)
    except GatewayError as error:
        # Anybody may send an assertion in a client's name: none of them waits for what has just failed.
        cache.set(_failed(name), {"url": url, "why": error.message}, READ_AGAIN_SECONDS)
        raise
    cache.set(name, {"url": url, "at": now, "until": now + seconds, "set": key_set}, seconds)
    return found.get(kid)


def forget(client: AIClient) -> None:
    """Read the client's key set anew when it is next needed."""
    cache.delete_many([_name(client), _failed(_name(client))])


def _read(url: str) -> tuple[Any, int]:
    """The key set, and for how many seconds it is kept (RFC 9111, within our bounds)."""
    answer = outbound.call(url, headers={"Accept": "application/jwk-set+json, application/json"})
    if answer.status != 200:
        raise outbound.Unreachable("The address of the key set did not answer with 200.")
    try:
        key_set = loads(answer.body)
    except Refused:
        raise InvalidInput(_("The key set is not JSON."), code="key_set") from None
    return key_set, seconds_to_keep(answer.headers.get("cache-control", "").lower())


def seconds_to_keep(told: str) -> int:
    """How long an answer with this Cache-Control is kept; 0: not beyond the question it was read for."""
    if "no-store" in told or "no-cache" in told:
        return 0
    found = re.search(r"max-age=(\d{1,9})", told)
    wanted = int(found[1]) if found else KEPT_SECONDS
    return min(wanted, MOST_KEPT_SECONDS)


def _name(client: AIClient) -> str:
    return f"key-set-{client.pk}"


def _failed(name: str) -> str:
    return f"{name}-failed"

"""An AI client's side of signing in: keys, key sets and client assertions, right ones and wrong ones."""

import secrets
import time
from typing import Any

from django.test import Client
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

TOKEN_ADDRESS = "http://localhost:8000/oauth/token"
TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
Key = ECKey | RSAKey


def new_key(kid: str = "one", kind: str = "EC") -> Key:
    if kind == "EC":
        return ECKey.generate_key("P-384", {"kid": kid})
    return RSAKey.generate_key(2048, {"kid": kid})


def key_set(*keys: Key) -> dict[str, Any]:
    return {"keys": [dict(key.as_dict(private=False)) for key in keys]}


def claims(client_id: str, **changed: Any) -> dict[str, Any]:
    """What stands in an assertion; a value of None leaves the claim out."""
    said = {
        "iss": client_id,
        "sub": client_id,
        "aud": TOKEN_ADDRESS,
        "exp": int(time.time()) + 240,
        "jti": secrets.token_hex(16),
        **changed,
    }
    return {name: value for name, value in said.items() if value is not None}


def assertion(key: Key, said: dict[str, Any], **header: Any) -> str:
    head = {"alg": "ES384" if isinstance(key, ECKey) else "RS384", "kid": key.kid, "typ": "JWT", **header}
    head = {name: value for name, value in head.items() if value is not None}
    registry = jws.JWSRegistry(algorithms=[head["alg"]], strict_check_header=False)
    return jwt.encode(head, said, key, algorithms=[head["alg"]], registry=registry, default_type=None)


def ask_for_token(signed: str, *, client: Client | None = None, **body: str) -> Any:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": TYPE,
        "client_assertion": signed,
        **body,
    }
    return (client or Client()).post("/oauth/token", form)

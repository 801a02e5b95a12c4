"""What an AI company's program sends to get a token, for whoever plays one here (SMART Backend Services)."""

import json
import secrets
import time
import urllib.parse
import urllib.request
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def token(url: str, *, client_id: str, key: dict[str, Any], **form: str) -> str:
    """An access token of the client, by an assertion signed with its own private JWK. Raises OSError."""
    with urllib.request.urlopen(f"{url}/.well-known/smart-configuration", timeout=30) as answer:  # noqa: S310
        audience = json.load(answer)["token_endpoint"]
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "exp": int(time.time()) + 240,
        "jti": secrets.token_hex(16),
    }
    header = {"alg": "ES384", "kid": key["kid"]}
    signed = jwt.encode(header, claims, ECKey.import_key(key), algorithms=["ES384"])
    sent = {
        "grant_type": "client_credentials",
        "client_assertion_type": TYPE,
        "client_assertion": signed,
        **form,
    }
    body = urllib.parse.urlencode(sent).encode()
    with urllib.request.urlopen(f"{url}/oauth/token", data=body, timeout=30) as answer:  # noqa: S310
        return str(json.load(answer)["access_token"])

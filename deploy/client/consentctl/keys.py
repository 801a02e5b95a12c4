"""A client's own key: made here, kept in a file that nobody else reads, and what is registered of it."""

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, JWKRegistry, RSAKey

ALGORITHMS = {"EC": "ES384", "RSA": "RS384"}
LIFE_SECONDS = 240


@dataclass(frozen=True)
class Key:
    """A private key: P-384 (ES384) or RSA (RS384)."""

    jwk: ECKey | RSAKey

    @classmethod
    def new(cls) -> "Key":
        return cls(ECKey.generate_key("P-384", {"kid": secrets.token_hex(8)}))

    @classmethod
    def read(cls, path: str | Path) -> "Key":
        """From a JWK file. Raises OSError, ValueError."""
        key = JWKRegistry.import_key(json.loads(Path(path).read_text()))
        if not isinstance(key, (ECKey, RSAKey)) or key.kid is None:
            raise ValueError("The key is no EC or RSA key with a kid.")
        return cls(key)

    def write(self, path: str | Path) -> None:
        """Into a new file with mode 0600, as other clients of the standards read it too (`name.jwk`).

        Raises FileExistsError: a key is never written over."""
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as opened:
            json.dump({**self.jwk.as_dict(private=True), **self._used("sign")}, opened)

    def public_set(self) -> dict[str, Any]:
        """The JWK set that the hospital registers."""
        return {"keys": [{**self.jwk.as_dict(private=False), **self._used("verify")}]}

    def _used(self, to: str) -> dict[str, Any]:
        """RFC 7517, 4.3 and 4.4."""
        return {"alg": ALGORITHMS[self.jwk.key_type], "key_ops": [to]}

    def assertion(self, *, client: str, audience: str) -> str:
        """A client assertion for one token (SMART Backend Services)."""
        algorithm = ALGORITHMS[self.jwk.key_type]
        claims = {
            "iss": client,
            "sub": client,
            "aud": audience,
            "exp": int(time.time()) + LIFE_SECONDS,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode({"alg": algorithm, "kid": self.jwk.kid}, claims, self.jwk, algorithms=[algorithm])

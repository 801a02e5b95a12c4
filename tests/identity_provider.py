"""A small OpenID Connect provider on loopback: `python -m tests.identity_provider`, a process of its own.

It prints its port, and then signs in whoever is named on its page, as a hospital's would: authorization code
with PKCE, codes that are good once, ID tokens that are really signed. `POST /twist` (JSON) makes it lie:
`claims`, `header`, `answer` and `document` are laid over what it says (null takes a member away), `sign`
names another way to sign (`none`, `hs256`, `stranger`, `rs256`), and `silent` makes it answer nothing. `{}`
ends it.
"""

import base64
import hashlib
import hmac
import html
import http.client
import http.server
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote_plus, unquote_plus, urlencode, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

CLIENT, SECRET = "gateway", "a client's secret: 100 % & more"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Provider(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.keys: list[Any] = [
            ECKey.generate_key("P-256", {"kid": "one", "use": "sig"}),
            RSAKey.generate_key(2048, {"kid": "two", "use": "sig"}),
        ]
        self.codes: dict[str, dict[str, str]] = {}
        self.twist: dict[str, Any] = {}
        self.key_sets_asked = 0

    def document(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "end_session_endpoint": f"{self.issuer}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256", "RS256"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def id_token(self, asked: dict[str, str], access_token: str) -> str:
        now = int(time.time())
        algorithm = "RS256" if self.twist.get("sign") == "rs256" else "ES256"
        key = self.keys[1 if algorithm == "RS256" else 0]
        claims = {
            "iss": self.issuer,
            "sub": asked["sub"],
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "nonce": asked.get("nonce"),
            "at_hash": b64(hashlib.sha256(access_token.encode()).digest()[:16]),
            "email": "alice@example.org",
            "email_verified": True,
        }
        said = lay_over(claims, self.twist.get("claims", {}))
        header = lay_over({"alg": algorithm, "kid": key.kid}, self.twist.get("header", {}))
        return self.signed(header, said, key)

    def signed(self, header: dict[str, Any], said: dict[str, Any], key: Any) -> str:
        match self.twist.get("sign"):
            case "none":
                return (
                    f"{b64(json.dumps({**header, 'alg': 'none'}).encode())}.{b64(json.dumps(said).encode())}."
                )
            case "hs256":  # the public key, which anybody has, as a shared secret
                head = b64(json.dumps({**header, "alg": "HS256"}).encode())
                body = f"{head}.{b64(json.dumps(said).encode())}"
                mac = hmac.new(key.as_pem(private=False), body.encode(), hashlib.sha256).digest()
                return f"{body}.{b64(mac)}"
            case "stranger":
                key = ECKey.generate_key("P-256", {"kid": key.kid})
        if "crit" in header:  # no library signs that
            return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(said).encode())}.{b64(b'x' * 64)}"
        return str(jws.serialize_compact(header, json.dumps(said), key, algorithms=["ES256", "RS256"]))


def lay_over(found: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**found, **other}.items() if value is not None}


class Handler(http.server.BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = dict(parse_qsl(parts.query))
        if self.server.twist.get("silent"):
            return self.say(503, b"")
        match parts.path:
            case "/.well-known/openid-configuration":
                self.json(200, lay_over(self.server.document(), self.server.twist.get("document", {})))
            case "/jwks":
                self.server.key_sets_asked += 1
                self.json(200, {"keys": [key.as_dict(private=False) for key in self.server.keys]})
            case "/authorize":
                self.page(asked)
            case "/favicon.ico":
                self.say(204, b"")
            case "/logout":
                self.say(200, b"<!DOCTYPE html><title>Hospital</title><h1>Signed out at the hospital</h1>")
            case _:
                self.say(404, b"")
        return None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        match urlsplit(self.path).path:
            case "/twist":
                self.server.twist = json.loads(body)
                self.json(200, {"key_sets_asked": self.server.key_sets_asked})
            case "/authorize":
                self.answer(dict(parse_qsl(body)))
            case "/token":
                self.token(dict(parse_qsl(body)))

    def page(self, asked: dict[str, str]) -> None:
        hidden = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in asked.items()
        )
        self.say(
            200,
            f'<!DOCTYPE html><html lang="en"><title>Hospital</title><h1>Hospital sign-in</h1>'
            f'<form method="post" action="/authorize">{hidden}<label>Name <input name="sub"></label>'
            f"<button>Sign in</button></form></html>".encode(),
        )

    def answer(self, asked: dict[str, str]) -> None:
        """Who is named in `sub` signed in: back with a code."""
        code = secrets.token_urlsafe(16)
        self.server.codes[code] = asked
        said = {"code": code, "state": asked.get("state"), "iss": self.server.issuer}
        query = urlencode(lay_over(said, self.server.twist.get("answer", {})))
        self.send_response(302)
        self.send_header("Location", f"{asked['redirect_uri']}?{query}")
        self.end_headers()

    def token(self, form: dict[str, str]) -> None:
        asked = self.server.codes.pop(form.get("code", ""), None)
        pair = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        if [unquote_plus(part) for part in pair.split(":")] != [CLIENT, SECRET]:
            return self.json(401, {"error": "invalid_client"})
        challenge = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or form.get("redirect_uri") != asked["redirect_uri"]
            or asked.get("code_challenge_method") != "S256"
            or asked.get("code_challenge") != challenge
        ):
            return self.json(400, {"error": "invalid_grant"})
        access = secrets.token_urlsafe(16)
        told = {"access_token": access, "token_type": "Bearer", "expires_in": 300}
        return self.json(200, {**told, "id_token": self.server.id_token(asked, access)})

    def json(self, status: int, said: Any) -> None:
        self.say(status, json.dumps(said).encode(), "application/json")

    def say(self, status: int, body: bytes, kind: str = "text/html; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        return


@dataclass
class Running:
    """A provider that runs, from the other side."""

    port: int

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, slug: str = "hospital", **others: Any) -> dict[str, Any]:
        """As an installation's settings name it."""
        known = {"slug": slug, "name": "Riverside", "issuer": self.issuer}
        return {**known, "client_id": CLIENT, "client_secret": SECRET, "acr": (), **others}

    def twist(self, **how: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._post("/twist", json.dumps(how))[1])
        return answer

    def sign_in(self, address: str, sub: str) -> str:
        """Somebody signs in on the page at `address`; where the browser is sent then."""
        asked = dict(parse_qsl(urlsplit(address).query))
        return self._post("/authorize", urlencode({**asked, "sub": sub}))[0]

    def redeem(self, form: dict[str, str]) -> int:
        """What a thief's program gets for a code: the status."""
        pair = base64.b64encode(f"{CLIENT}:{quote_plus(SECRET)}".encode()).decode()
        return int(self._post("/token", urlencode(form), {"Authorization": f"Basic {pair}"})[2])

    def _post(self, path: str, body: str, headers: dict[str, str] | None = None) -> tuple[str, str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", path, body, headers or {})
        answer = connection.getresponse()
        found = answer.getheader("Location", ""), answer.read().decode(), answer.status
        connection.close()
        return found


@contextmanager
def running() -> Iterator[Running]:
    """One provider as a process of its own, ended afterwards."""
    command = [sys.executable, "-m", "tests.identity_provider"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield Running(int(process.stdout.readline()))
        finally:
            process.kill()


if __name__ == "__main__":
    with Provider() as provider:
        print(provider.server_port, flush=True)
        provider.serve_forever()

"""The way to a provider and back: the authorization code flow with PKCE (RFC 6749, 7636, 9207).

What was begun stands in the session of the browser that began it, under its `state`; it is taken out when
that browser comes back, so it serves once, and serves no other browser.
"""

import hashlib
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

from django.contrib.sessions.backends.base import SessionBase

from gateway.accounts import outbound
from gateway.accounts.oidc import discovery, id_token
from gateway.accounts.oidc.id_token import SKEW_SECONDS, Shown
from gateway.accounts.oidc.providers import Provider, ProviderRefused
from ledger.contract.canonical import loads
from ledger.contract.errors import Refused
from ledger.errors import GatewayError

BEGUN = "sign-ins that began"  # session: state -> Begun
LASTS_SECONDS = 600
AT_ONCE = 5  # windows of one browser

SIGN_IN, LINK, AGAIN = "sign_in", "link", "again"


@dataclass(frozen=True)
class Begun:
    """What this browser set out for. `user` is who was signed in; `next` a path of ours."""

    provider: str
    issuer: str
    act: str
    nonce: str
    verifier: str
    next: str
    user: int | None
    at: int


def begin(session: SessionBase, provider: Provider, *, act: str, next: str = "", user: Any = None) -> str:
    """The provider's address to send this browser to. Raises ProviderRefused."""
    found = discovery.endpoints(provider)
    now = int(time.time())
    state = secrets.token_urlsafe(32)
    begun = Begun(
        provider=provider.slug,
        issuer=provider.issuer,
        act=act,
        nonce=secrets.token_urlsafe(32),
        verifier=secrets.token_urlsafe(48),
        next=next,
        user=user,
        at=now,
    )
    others = [item for item in session.get(BEGUN, {}).items() if item[1]["at"] > now - LASTS_SECONDS]
    session[BEGUN] = {**dict(others[1 - AT_ONCE :]), state: asdict(begun)}
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": provider.callback,
        "scope": "openid",  # who it is, and nothing about them
        "state": state,
        "nonce": begun.nonce,
        "code_challenge": _challenge(begun.verifier),
        "code_challenge_method": "S256",
    }
    if act == AGAIN:
        asked |= {"prompt": "login", "max_age": "0"}
    if provider.acr:
        asked["acr_values"] = " ".join(provider.acr)
    return f"{found.authorization}{'&' if '?' in found.authorization else '?'}{urlencode(asked)}"


def take(session: SessionBase, provider: Provider, state: str) -> Begun:
    """What this browser began under `state`, once. Raises ProviderRefused (`sign_in_over`)."""
    waiting = session.get(BEGUN, {})
    found = waiting.pop(state, None)
    session[BEGUN] = waiting
    if found is None or found["at"] <= time.time() - LASTS_SECONDS:
        raise ProviderRefused("This sign-in was not begun here, or too long ago.", code="sign_in_over")
    begun = Begun(**found)
    if (begun.provider, begun.issuer) != (provider.slug, provider.issuer):
        raise ProviderRefused("This sign-in was begun at another provider.", code="sign_in_over")
    return begun


def finish(provider: Provider, begun: Begun, answer: Mapping[str, str]) -> Shown:
    """Who came back with this answer (the query of the callback). Raises ProviderRefused."""
    found = discovery.endpoints(provider)
    # (1) the answer is this provider's, and no refusal
    if answer.get("iss", "" if found.names_issuer else provider.issuer) != provider.issuer:
        raise ProviderRefused("The answer is another provider's.")
    if "error" in answer or not 1 <= len(answer.get("code", "")) <= 4096:
        raise ProviderRefused("The provider signed nobody in.", code="sign_in_declined")
    # (2) the code, for tokens, with what only this browser's session knows
    tokens = _redeem(provider, found, answer["code"], begun.verifier)
    # (3) the ID token
    now = int(time.time())
    shown = id_token.verify(
        tokens["id_token"],
        provider=provider,
        nonce=begun.nonce,
        now=now,
        access_token=tokens.get("access_token"),
    )
    # (4) where she was to show it again, that she did, after we asked
    if begun.act == AGAIN and (shown.signed_in_at or 0) < begun.at - SKEW_SECONDS:
        raise ProviderRefused("The provider did not ask again who it is.", code="not_shown_again")
    return shown


def _redeem(provider: Provider, found: discovery.Endpoints, code: str, verifier: str) -> dict[str, str]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": provider.callback,
        "code_verifier": verifier,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if found.authentication == "client_secret_basic":  # RFC 6749, 2.3.1: each part is form-encoded first
        pair = f"{quote_plus(provider.client_id)}:{quote_plus(provider.client_secret)}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    else:
        form |= {"client_id": provider.client_id, "client_secret": provider.client_secret}
    try:
        answer = outbound.call(found.token, method="POST", body=urlencode(form).encode(), headers=headers)
        tokens = loads(answer.body)
    except (GatewayError, Refused):
        raise ProviderRefused("The provider did not answer as it must.") from None
    if answer.status != 200 or not isinstance(tokens, dict) or not isinstance(tokens.get("id_token"), str):
        raise ProviderRefused("The provider gave no ID token.")
    return {name: value for name, value in tokens.items() if isinstance(value, str)}


def _challenge(verifier: str) -> str:
    """S256 of RFC 7636."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()

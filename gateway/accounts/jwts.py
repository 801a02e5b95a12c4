"""A signed JWT (RFC 7519, compact) taken apart, strictly. Nothing of it is proved here.

What it has to say stands with those who take it: assertions.py for AI clients, oidc/id_token.py for people.
"""

from typing import Any

from joserfc.util import urlsafe_b64decode

from ledger.contract.canonical import loads
from ledger.contract.errors import Refused


def read(text: str, *, longest: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims. Raises ValueError for what is no JWT of at most `longest` characters."""
    parts = text.split(".")
    if len(text) > longest or len(parts) != 3:
        raise ValueError("not a signed JWT")
    try:
        header, claims = (loads(urlsafe_b64decode(part.encode("ascii"))) for part in parts[:2])
    except Refused:
        raise ValueError("not a signed JWT") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise ValueError("not a signed JWT")
    return header, claims


def time_in(claims: dict[str, Any], name: str) -> int | None:
    """Seconds since 1970 (NumericDate), whole and positive; None for anything else."""
    value = claims.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

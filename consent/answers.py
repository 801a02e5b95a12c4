"""How an answer came: in the portal, on paper or by phone; by whose authority; written down by whom."""

from dataclasses import dataclass
from typing import Any

from consent.models import Consent, Scan
from ledger.audit.log import Actor

GivenBy, Authority = Consent.GivenBy, Consent.Authority


@dataclass(frozen=True)
class How:
    """`staff` is the id of the account that wrote the answer down; None where the patient gave it herself."""

    given_by: str = GivenBy.PORTAL
    authority: str = Authority.PATIENT
    staff: int | None = None
    scan: Scan | None = None

    @property
    def actor(self) -> Actor | None:
        """Who acted, for the audit log; None: the patient."""
        return None if self.staff is None else Actor.staff(self.staff)

    @property
    def fields(self) -> dict[str, Any]:
        """The columns of the readable copy."""
        return {
            "given_by": self.given_by,
            "authority": self.authority,
            "recorded_by_id": self.staff,
            "scan": self.scan,
        }

    @property
    def details(self) -> dict[str, Any]:
        """What the audit row says besides; nothing for an answer in the portal."""
        if self.staff is None:
            return {}
        return {
            "given_by": str(self.given_by),
            "authority": str(self.authority),
            "scan": self.scan.digest if self.scan else None,
        }


IN_PORTAL = How()

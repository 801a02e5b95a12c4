"""How an answer came: in the portal, on paper or by phone; by whose authority; who wrote it down; signed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils import timezone

from consent.models import Consent, Notice, Representative, Scan, random_id
from ledger.audit.log import Actor

GivenBy, Authority = Consent.GivenBy, Consent.Authority


@dataclass(frozen=True)
class How:
    """`staff` is the id of the account that wrote the answer down, `representative` who gave it in the portal
    for the patient; both None where she gave it herself.

    `teach_back` says how often each teach-back question was asked until it was answered right, `notice`
    which text was shown, where it is not the question's own but a translation of it.
    """

    given_by: str = GivenBy.PORTAL
    authority: str = Authority.PATIENT
    staff: int | None = None
    scan: Scan | None = None
    teach_back: Mapping[str, int] = field(default_factory=dict)
    notice: Notice | None = None
    representative: Representative | None = None

    @classmethod
    def by(cls, representative: Representative | None, **about: Any) -> "How":
        """In the portal, by this person; None: by the patient herself. `about` are other fields."""
        authority = Authority.PATIENT if representative is None else representative.role
        return cls(authority=authority, representative=representative, **about)

    @property
    def author(self) -> str:
        """As `Consent.author`."""
        if self.representative is not None:
            return self.representative.pk
        return "" if self.authority == Authority.PATIENT else str(self.authority)

    @property
    def actor(self) -> Actor | None:
        """Who acted, for the audit log; None: the patient."""
        if self.representative is not None:
            return Actor.representative(self.representative.pseudonym)
        return None if self.staff is None else Actor.staff(self.staff)

    @property
    def fields(self) -> dict[str, Any]:
        """The columns of the readable copy."""
        return {
            "given_by": self.given_by,
            "authority": self.authority,
            "recorded_by_id": self.staff,
            "scan": self.scan,
            "teach_back": dict(self.teach_back),
            "notice": self.notice,
            "representative": self.representative,
        }

    @property
    def details(self) -> dict[str, Any]:
        """What the audit row says besides: how well it was understood, by what authority it was given, or how
        it came to be written down.
        """
        if self.staff is None:
            shown = {"notice": self.notice.digest} if self.notice else {}
            return {
                "authority": None if self.representative is None else str(self.authority),
                "teach_back": sum(self.teach_back.values()) or None,
                **shown,
            }
        return {
            "given_by": str(self.given_by),
            "authority": str(self.authority),
            "scan": self.scan.digest if self.scan else None,
        }


IN_PORTAL = How()


@dataclass(frozen=True)
class Drafted:
    """A yes as it stands on the screen: its id and its moment are fixed before she signs it."""

    consent: str = field(default_factory=random_id)
    at: datetime = field(default_factory=lambda: timezone.now().replace(microsecond=0))
    signed: bool = False

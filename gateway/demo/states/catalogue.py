"""The catalogue itself: what a state is, and who is in it. The states stand in the rooms beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consent.models import Consent, ConsentRequest, Patient
from gateway.accounts.models import User
from gateway.analysis.models import Job
from gateway.emergency.models import Emergency
from gateway.records.models import OwnCopy

if TYPE_CHECKING:
    from gateway.demo.states.stage import Stage


@dataclass(frozen=True)
class Person:
    """Somebody in one state. `question` and `consent` are what her pages are about, where there is one."""

    state: str
    what: str
    patient: Patient
    question: ConsentRequest | None = None
    consent: Consent | None = None
    job: Job | None = None
    emergency: Emergency | None = None
    copy: OwnCopy | None = None
    code: str = ""  # an invitation that was not used

    @property
    def user(self) -> User:
        found = self.patient.user
        assert isinstance(found, User)
        return found


Act = Callable[["Stage", Person], Person]


@dataclass(frozen=True)
class State:
    """One entry of the catalogue: who is in it, what there is to see, and how she gets there.

    One that `spoils` edits a store behind everybody's back: reconciliation would find it and hold releases.
    """

    name: str
    what: str
    act: Act
    has_account: bool = True
    spoils: bool = False


STATES: dict[str, State] = {}


def state(name: str, what: str, *, has_account: bool = True, spoils: bool = False) -> Callable[[Act], Act]:
    """Enter `act` into the catalogue; it is called like its function, and its person `name`."""

    def enter(act: Act) -> Act:
        STATES[act.__name__] = State(name, what, act, has_account, spoils)
        return act

    return enter

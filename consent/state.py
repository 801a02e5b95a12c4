"""How a question or an answer stands, for pages: derived here and nowhere else.

The ledger decides what may be opened; this says what the readable copies say, in one word.
"""

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from django.utils import timezone

from consent.models import Consent, ConsentRequest

LONGEST_ONCE = timedelta(days=90)


class State(StrEnum):
    """One word for each state that a page can show."""

    WAITING = "waiting"  # a question that waits for the patient
    TAKEN_BACK = "taken_back"  # the asker took it back while it was open
    NOT_ANSWERED = "not_answered"  # silence is No
    PENDING = "pending"  # yes, and waiting to be sealed
    NOT_SEALED = "not_sealed"  # the ledger refused: nothing is shared
    SHARING = "sharing"
    PARTLY = "partly"  # sharing less than was asked for
    REFUSED = "refused"
    STOPPING = "stopping"  # stopped, and waiting to be sealed
    STOPPED = "stopped"
    EXPIRED = "expired"
    REPLACED = "replaced"
    IN_REVIEW = "in_review"  # a question that no patient has seen yet
    MISTAKE = "mistake"  # staff wrote it down by mistake
    HELD = "held"  # a yes that somebody else who decides said no to: nothing is shared


# What can still be stopped.
OPEN = frozenset({State.PENDING, State.SHARING, State.PARTLY})


def state_of(consent: Consent, now: datetime | None = None) -> State:
    """The state of one answer at `now`. A stop or an end comes first: in doubt, nothing is shared."""
    now = now or timezone.now()
    held = Consent.LedgerState
    over = {
        held.NONE: State.NOT_SEALED,
        held.REFUSED: State.NOT_SEALED,
        held.REVOKED: State.STOPPED,
        held.SUPERSEDED: State.REPLACED,
        held.REVOKING: State.STOPPING,
        held.HELD: State.HELD,
    }
    if consent.invalid_at is not None and consent.ledger_state != held.REVOKING:
        return State.MISTAKE
    if consent.status == Consent.Status.REJECTED:
        return State.REFUSED
    if consent.ledger_state in over:
        return over[held(consent.ledger_state)]
    if consent.expires_at is not None and consent.expires_at <= now:
        return State.EXPIRED
    if consent.ledger_state == held.GRANTING:
        return State.PENDING
    return State.SHARING if gives_all(consent) else State.PARTLY


def state_of_request(request: ConsentRequest) -> State | None:
    """The state of a question; None once it is answered (then ask `state_of` of the answer)."""
    match request.state:
        case ConsentRequest.State.WITHDRAWN:
            return State.TAKEN_BACK
        case ConsentRequest.State.EXPIRED:
            return State.NOT_ANSWERED
        case ConsentRequest.State.PENDING:
            return State.WAITING if timezone.localdate() <= request.answer_by else State.NOT_ANSWERED
        case ConsentRequest.State.REVIEW | ConsentRequest.State.SENT_BACK:
            return State.IN_REVIEW
    return None


def gives_all(consent: Consent) -> bool:
    """Whether everything that was asked for was given. Needs `consent.request`."""
    asked = consent.request
    return set(consent.kinds) >= set(asked.kinds) and set(consent.sensitive) >= set(asked.sensitive)


def end_of(
    duration: Consent.Duration, *, request: ConsentRequest, now: datetime, until: date | None = None
) -> datetime:
    """When a consent given now for `duration` ends: never after the day that the question names.

    One time only ends with the first result, or after 90 days where none came. `until` is a day that the
    patient chose, the last on which it holds.
    """
    day = min(request.share_until, until or request.share_until)
    last = datetime.combine(day, time(23, 59, 59), tzinfo=timezone.get_current_timezone())
    last = last.astimezone(UTC)
    if duration == Consent.Duration.UNTIL:
        return last
    return min(last, (now + LONGEST_ONCE).replace(microsecond=0))

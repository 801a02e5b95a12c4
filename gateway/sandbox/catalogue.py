"""Who and what there is in the sandbox: twelve people, each in one state, and four faults.

The people are of the demonstration's catalogue (`gateway/demo/states.py`), which the product's own services
bring to life. Here stands what the developer pages tell of them.
"""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True)
class Someone:
    """`delivered`: whether a job over everyone gets a result of this person."""

    name: str
    what: str | Promise
    delivered: bool = False


# By their state in the demonstration's catalogue.
PEOPLE: dict[str, Someone] = {
    "nothing_asked": Someone("Nora", _("nobody has asked her anything")),
    "waiting": Someone("Paul", _("a question waits for him, for 30 days")),
    "sharing": Someone("Sara", _("she shares all that was asked for, for 200 days"), delivered=True),
    "partly": Someone("Petra", _("she shares test results alone, for 90 days"), delivered=True),
    "refused": Someone("Ruth", _("she said no")),
    "expired": Someone("Eva", _("what she gave has ended")),
    "stopped": Someone("Stan", _("he said yes, then stop")),
    "replaced": Someone("Rosa", _("she changed it: test results alone, for 90 days"), delivered=True),
    "taken_back": Someone("Tom", _("you took the question back")),
    "not_answered": Someone("Sid", _("his time to answer is over")),
    "used": Someone("Uma", _("a program used her records already"), delivered=True),
    "used_up": Someone("Otto", _("he gave it for one time, and that is used up")),
}

FAULTS: dict[str, str | Promise] = {
    "ledger": _("a job waits and says for what; results answer 503 with Retry-After"),
    "keyholder": _("the same, as keyholder_unavailable"),
    "rate": _("every call answers 429 with Retry-After"),
    "slow": _("every answer takes three seconds"),
}

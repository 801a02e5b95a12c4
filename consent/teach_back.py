"""Teach-back: three questions that show whether the words were understood, before anyone says yes.

They are about what people get wrong most: what is done, that No costs nothing, and what a stop cannot
undo. A wrong answer is explained and asked again; it never stands in the way of No.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

# After so many wrong answers to one question a person at the clinic is offered.
OFFER_HELP_AFTER = 2


@dataclass(frozen=True)
class Item:
    """One question: its answers by name, the right one, and what to say after a wrong one."""

    question: Promise
    answers: Mapping[str, Promise]
    right: str
    why: Promise


ITEMS: Mapping[str, Item] = {
    "use": Item(
        question=_("You say yes. What happens then?"),
        answers={
            "anyone": _("Anyone at the company can read all my records"),
            "program": _("A computer program reads the records that I tick"),
            "care": _("The company takes care of me from now on"),
        },
        right="program",
        why=_("Only a computer program reads your records. It reads only what you tick."),
    ),
    "refusal": Item(
        question=_("You say no. What happens then?"),
        answers={
            "same": _("My care stays the same"),
            "worse": _("My care gets worse"),
            "pay": _("I have to pay more"),
        },
        right="same",
        why=_("No changes nothing. Your care stays the same, and so does what you pay."),
    ),
    "stop": Item(
        question=_("You say yes now and stop next month. What happens then?"),
        answers={
            "late": _("Nothing. I cannot stop once I said yes"),
            "wiped": _("All that they got before I stop is gone"),
            "new": _("They get nothing new. What they got before may still be there"),
        },
        right="new",
        why=_(
            "You can stop at any time. They get nothing new from then on. "
            "But what was sent before cannot be called back."
        ),
    ),
}  # fmt: skip

"""What happened to one choice, in order, in plain words: from the audit log, which names nobody."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from consent.models import Consent
from gateway.portal.visitor import Visit, named
from ledger.audit.models import AuditRow

Json = dict[str, Any]

# Kind of row, and its code where that tells steps apart -> what the patient reads.
WORDS: dict[tuple[str, str], Promise] = {
    ("consent.asked", ""): _("%(who)s asked the clinic"),
    ("request.approved", ""): _("The clinic checked the question and asked you"),
    ("request.withdrawn", ""): _("%(who)s took the question back"),
    ("request.expired", ""): _("The time to answer ended"),
    ("consent.granted", "asked"): _("You said yes"),
    ("consent.granted", "held"): _("You said yes. Someone else said no, so nothing is shared"),
    ("consent.granted", "committed"): _("The choice was sealed"),
    ("consent.granted", ""): _("Your choice could not be sealed. Nothing is shared"),
    ("consent.refused", ""): _("You said no"),
    ("consent.replaced", "asked"): _("You changed your choice to this one"),
    ("consent.replaced", "committed"): _("This choice was sealed. The one before it ended"),
    ("consent.replaced", ""): _("This change could not be sealed. What you chose before holds"),
    ("consent.stopped", ""): _("You stopped sharing"),
    ("consent.revoked", ""): _("The stop was sealed"),
    ("consent.withdrawn", ""): _("Staff wrote down that you said stop"),
    ("consent.entered_in_error", ""): _("This was taken back as a mistake. It never was your answer"),
    ("consent.replayed", ""): _("We put our list right from the record book"),
    ("deletion.asked", ""): _("You asked %(who)s to delete what it got"),
    ("deletion.confirmed", ""): _("%(who)s said that it deleted what it got"),
}
# The same rows, read on the page of the older choice.
REPLACED: dict[str, Promise] = {
    "asked": _("You made a newer choice"),
    "committed": _("Your newer choice was sealed. This one ended"),
}
# The same rows, where it was not the patient who acted.
BY_STAFF: dict[str, Promise] = {
    "consent.granted": _("Staff wrote down your yes"),
    "consent.refused": _("Staff wrote down your no"),
    "consent.stopped": _("Staff stopped it for you"),
}
# The same rows, where it was somebody else who may act, or where the patient is not who reads.
BY_ANOTHER: dict[str, Promise] = {
    "consent.granted": _("%(by)s said yes"),
    "consent.refused": _("%(by)s said no"),
    "consent.replaced": _("%(by)s changed this choice"),
    "consent.stopped": _("%(by)s stopped sharing"),
}
TAKEN_BACK = _("This was stopped")  # what staff wrote down was no answer of anybody's
EXPIRED = _("It ended, as chosen")
AFTER_ONE_RESULT = _("It ended after the first result, as chosen")


@dataclass(frozen=True)
class Entry:
    when: datetime
    words: str
    sealed: bool


def history_of(consent: Consent, visit: Visit, *, expired: bool = False) -> list[Entry]:
    """Oldest first, as this visitor reads it. Needs `consent.request` with requester and patient. That it
    expired no row says: its end stands in the consent."""
    asked = consent.request
    people = {each.pseudonym: named(visit, each) for each in asked.patient.representatives.all()}
    if visit.acting is not None:
        people[asked.patient.pseudonym] = named(visit, None)
    rows = AuditRow.objects.filter(subject=asked.patient.pseudonym, step_of=asked.pk).order_by("pk")
    found = []
    for row in rows:
        line = json.loads(bytes(row.line))
        by = people.get(line["actor"]["id"], "")
        if words := _words(line, consent, by):
            said = str(words) % {"who": asked.requester.name, "by": by}
            found.append(Entry(row.recorded_at, said, sealed=row.leaf is not None))
    if expired and consent.expires_at is not None:
        found.append(Entry(consent.expires_at, str(EXPIRED), sealed=all(one.sealed for one in found)))
        found.sort(key=lambda one: one.when)
    return found


def _words(line: Json, consent: Consent, person: str) -> Promise | None:
    kind, details = line["kind"], line["details"]
    code, by = details.get("code", ""), line["actor"]["kind"]
    if details.get("replaces") == consent.pk:
        return REPLACED.get(code)
    if details.get("consent") not in (None, consent.pk):
        return None  # another answer to the same question
    if person and kind in BY_ANOTHER:
        return BY_ANOTHER[kind]
    if by == "staff" and kind in BY_STAFF and code in ("", "asked"):
        return BY_STAFF[kind]
    if kind == "consent.stopped" and (by == "system" or consent.invalid_at is not None):
        return AFTER_ONE_RESULT if by == "system" else TAKEN_BACK
    return WORDS.get((kind, code)) or WORDS.get((kind, ""))

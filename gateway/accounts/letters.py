"""News by email: at once, once a day, or never, as each person wants it; an emergency always, at once.

A letter says how many things of which kind happened, and where to read them: no name, no record, no asker.
A row is claimed before its letter is sent and marked after it. Whoever dies in between sends the same letter
again, under the same Message-ID, so that a mail program shows it once; a dead mail server loses nothing.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from consent.models import News
from gateway.accounts.models import User

log = logging.getLogger(__name__)

DAILY_HOUR = 8  # in the hospital's time zone
CLAIM = timedelta(minutes=10)
LONGEST_PAUSE = timedelta(hours=1)
AT_ONCE = 100  # letters in one round

Mail, Kind = News.Mail, News.Kind
# Told at once, whatever a person wants else.
ALWAYS = (Kind.EMERGENCY, Kind.PASSKEYS, Kind.WAY_BACK, Kind.COPY, Kind.ACTS_FOR)


def send_letters(*, now: datetime | None = None) -> int:
    """Send what is due by now; how many letters went out. Never raises for a mail server that fails."""
    now = now or timezone.now()
    _set_aside()
    waiting = due(now).order_by("patient").values_list("patient", flat=True).distinct()
    sent = 0
    for patient in list(waiting[:AT_ONCE]):
        rows = _claim(patient, now)
        if rows:
            sent += _send(rows, now)
    return sent


def due(now: datetime) -> QuerySet[News]:
    """News whose email is to go out by `now`."""
    local = timezone.localtime(now)
    today = local.replace(hour=DAILY_HOUR, minute=0, second=0, microsecond=0)
    day = today if local >= today else today - timedelta(days=1)
    wanted = (
        Q(kind__in=ALWAYS)
        | Q(patient__user__notices=User.Notices.AT_ONCE)
        | Q(patient__user__notices=User.Notices.DAILY, created_at__lt=day)
    )
    may = Q(retry_at=None) | Q(retry_at__lte=now)
    return News.objects.filter(wanted, may, mail=Mail.DUE, patient__user__isnull=False)


def _set_aside() -> None:
    """Nobody wants these as email; a change of mind is about what comes after."""
    unwanted = Q(patient__user__notices=User.Notices.NEVER) & ~Q(kind__in=ALWAYS)
    aside = News.objects.filter(unwanted, mail=Mail.DUE).values("pk")
    News.objects.filter(pk__in=aside).update(mail=Mail.UNWANTED)


def _claim(patient: str, now: datetime) -> list[News]:
    """The rows of one letter of this patient: one that was begun before, or a new one of all that is due."""
    with transaction.atomic():
        rows = list(due(now).filter(patient=patient).select_for_update(of=("self",)).order_by("pk"))
        begun = next((row.letter for row in rows if row.letter), None)
        rows = [row for row in rows if row.letter == begun]
        News.objects.filter(pk__in=[row.pk for row in rows]).update(
            letter=begun or uuid.uuid4(), retry_at=now + CLAIM
        )
    return list(News.objects.filter(pk__in=[row.pk for row in rows]).select_related("patient__user"))


def _send(rows: Sequence[News], now: datetime) -> bool:
    own = News.objects.filter(pk__in=[row.pk for row in rows], letter=rows[0].letter)
    try:
        letter(rows).send()
    except Exception as error:  # a mail server fails in many ways; its words may name the address
        tries = rows[0].tries + 1
        pause = min(LONGEST_PAUSE, timedelta(minutes=2 ** min(tries, 10)))
        own.update(tries=tries, retry_at=now + pause)
        log.warning("a letter was not sent: %s", type(error).__name__)
        return False
    own.update(mail=Mail.SENT, sent_at=timezone.now())
    return True


def letter(rows: Sequence[News]) -> EmailMessage:
    """What is sent for rows that share a letter, to the patient whose they are."""
    user = rows[0].patient.user
    assert user is not None  # else nothing is due
    with translation.override(user.language or settings.LANGUAGE_CODE):
        counts = Counter(row.kind for row in rows)
        told = [f"- {say(Kind(kind), counts[kind])}" for kind in Kind.values if counts[kind]]
        body = "\n".join(
            [
                _("There is news for you at %(hospital)s:") % {"hospital": settings.CUSTODIAN},
                "",
                *told,
                "",
                _("Sign in to read more:"),
                settings.PUBLIC_URL + reverse("news"),
                "",
                _("To get fewer of these, change your settings there."),
            ]
        )
        message = EmailMessage(_("News for you"), body, to=[user.email])
    host = urlsplit(settings.PUBLIC_URL).hostname or "localhost"
    message.extra_headers = {"Message-ID": f"<{rows[0].letter}@{host}>", "Auto-Submitted": "auto-generated"}
    return message


# What happened, once and %(n)d times, in words that anybody may read.
WORDS: dict[News.Kind, Any] = {
    Kind.QUESTION: ngettext_lazy("You were asked a question.", "You were asked %(n)d questions.", "n"),
    Kind.SEALED: ngettext_lazy("Your choice is sealed.", "%(n)d of your choices are sealed.", "n"),
    Kind.NOT_SEALED: ngettext_lazy("A choice was not saved.", "%(n)d choices were not saved.", "n"),
    Kind.STOPPED: ngettext_lazy("A choice was stopped.", "%(n)d choices were stopped.", "n"),
    Kind.WRITTEN_DOWN: ngettext_lazy(
        "Staff wrote down an answer for you.", "Staff wrote down %(n)d answers for you.", "n"
    ),
    Kind.USE: ngettext_lazy(
        "A computer program was let in, as chosen.",
        "%(n)d times a computer program was let in, as chosen.",
        "n",
    ),
    Kind.BLOCKED: ngettext_lazy(
        "We stopped a computer program that wanted to use your records.",
        "%(n)d times we stopped a computer program that wanted to use your records.",
        "n",
    ),
    Kind.RESULT: ngettext_lazy("A result was sent.", "%(n)d results were sent.", "n"),
    Kind.EMERGENCY: ngettext_lazy(
        "Someone opened your records in an emergency.",
        "Someone opened your records in an emergency %(n)d times.",
        "n",
    ),
    Kind.COPY: ngettext_lazy(
        "A copy of your records was asked for. If it was not you, call us.",
        "%(n)d copies of your records were asked for. If it was not you, call us.",
        "n",
    ),
    Kind.ACTS_FOR: ngettext_lazy(
        "The clinic wrote down that someone may act for you. If this is wrong, call us.",
        "The clinic wrote down that %(n)d people may act for you. If this is wrong, call us.",
        "n",
    ),
    Kind.ACTS_NO_MORE: ngettext_lazy(
        "Someone no longer acts for you.", "%(n)d people no longer act for you.", "n"
    ),
}
# However often.
SAME_WORDS: dict[News.Kind, Promise] = {
    Kind.PASSKEYS: gettext_lazy("The clinic removed your passkeys. If you did not ask for this, call us."),
    Kind.WAY_BACK: gettext_lazy(
        "The clinic made a link to choose a new password for you. If you did not ask for this, call us."
    ),
    Kind.OF_AGE: gettext_lazy("You are an adult now. From now on you alone decide about your records."),
}


def say(kind: News.Kind, count: int) -> str:
    """What happened, `count` times."""
    return str(SAME_WORDS[kind] if kind in SAME_WORDS else WORDS[kind] % {"n": count})

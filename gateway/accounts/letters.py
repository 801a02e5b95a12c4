"""News by e-mail: at once, once a day, or never, as each person wants it; an emergency always, at once.

A letter says how many things of which kind happened, and where to read them: no name, no record, no asker.
A row is claimed before its letter is sent and marked after it. Whoever dies in between sends the same letter
again, under the same Message-ID, so that a mail program shows it once; a dead mail server loses nothing.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from consent.models import News
from gateway.accounts.models import User

log = logging.getLogger(__name__)

DAILY_HOUR = 8  # in the hospital's time zone
CLAIM = timedelta(minutes=10)
LONGEST_PAUSE = timedelta(hours=1)
AT_ONCE = 100  # letters in one round

Mail, Kind = News.Mail, News.Kind
ALWAYS = (Kind.EMERGENCY, Kind.PASSKEYS, Kind.COPY)  # told at once, whatever a person wants else


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
    """News whose e-mail is to go out by `now`."""
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
    """Nobody wants these as e-mail; a change of mind is about what comes after."""
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


def say(kind: News.Kind, count: int) -> str:
    """What happened, `count` times, in words that anybody may read."""
    match kind:
        case Kind.QUESTION:
            text = ngettext("A question waits for you.", "%(n)d questions wait for you.", count)
        case Kind.SEALED:
            text = ngettext("Your choice is sealed.", "%(n)d of your choices are sealed.", count)
        case Kind.NOT_SEALED:
            text = ngettext("A choice was not saved.", "%(n)d choices were not saved.", count)
        case Kind.STOPPED:
            text = ngettext("A choice was stopped.", "%(n)d choices were stopped.", count)
        case Kind.WRITTEN_DOWN:
            text = ngettext(
                "Staff wrote down an answer for you.", "Staff wrote down %(n)d answers for you.", count
            )
        case Kind.USE:
            text = ngettext(
                "A computer program may use your records now, as you chose.",
                "%(n)d times a computer program was let in, as you chose.",
                count,
            )
        case Kind.BLOCKED:
            text = ngettext(
                "We blocked a try to use your records.", "We blocked %(n)d tries to use your records.", count
            )
        case Kind.RESULT:
            text = ngettext("A result was sent.", "%(n)d results were sent.", count)
        case Kind.EMERGENCY:
            text = ngettext(
                "Someone opened your records in an emergency.",
                "Someone opened your records in an emergency %(n)d times.",
                count,
            )
        case Kind.PASSKEYS:
            text = _("The clinic removed your passkeys. If you did not ask for this, call us.")
        case Kind.COPY:
            text = ngettext(
                "A copy of your records was asked for. If it was not you, call us.",
                "%(n)d copies of your records were asked for. If it was not you, call us.",
                count,
            )
    return text % {"n": count}

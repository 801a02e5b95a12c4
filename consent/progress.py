"""How far somebody is with a question that is not answered yet: what they ticked, what they understood.

It is kept here and not in the session, so that a session that ends in the middle loses nothing. Nothing
of it counts until they agree; it is gone once the question is answered or closed.
"""

from collections.abc import Sequence
from datetime import date

from django.db import transaction
from django.utils.translation import gettext as _

from consent.models import ConsentRequest, Progress
from consent.services import check_choice
from consent.teach_back import ITEMS
from ledger.errors import InvalidInput


def progress_of(*, request: ConsentRequest, user_id: int) -> Progress:
    """How far this account is with the question; a new one, not saved, where it has not begun."""
    found = Progress.objects.filter(request=request, user_id=user_id).first()
    found = found or Progress(request=request, user_id=user_id)
    found.request = request
    return found


@transaction.atomic
def choose(
    *,
    request: ConsentRequest,
    user_id: int,
    kinds: Sequence[str],
    sensitive: Sequence[str],
    duration: str,
    until: date | None = None,
) -> None:
    """Keep what was ticked, in the place of what was ticked before. Raises InvalidInput."""
    check_choice(request, kinds, sensitive, duration, until)
    chosen = {
        "kinds": sorted(set(kinds)),
        "sensitive": sorted(set(sensitive)),
        "duration": duration,
        "until": until.isoformat() if until else None,
    }
    Progress.objects.update_or_create(request=request, user_id=user_id, defaults={"chosen": chosen})


@transaction.atomic
def answer(*, request: ConsentRequest, user_id: int, item: str, said: str) -> bool:
    """Keep one answer to the teach-back question `item`; whether it was right. Raises InvalidInput."""
    if item not in ITEMS or said not in ITEMS[item].answers:
        raise InvalidInput(_("Choose one of the answers."), code="teach_back")
    Progress.objects.get_or_create(request=request, user_id=user_id)
    locked = Progress.objects.select_for_update().get(request=request, user_id=user_id)
    right = said == ITEMS[item].right
    locked.asked[item] = locked.asked.get(item, 0) + 1
    locked.understood = sorted({*locked.understood, item} if right else {*locked.understood} - {item})
    locked.save(update_fields=["asked", "understood", "updated_at"])
    return right

"""The review between a requester's question and the patient: a member of staff reads it first.

Whose it is, back to the requester with reasons, or on to the patient. The reasons are codes, so that
no patient's name can reach a requester through them. Each act leaves an audit row.
"""

from collections.abc import Mapping, Sequence

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from consent.asking import record_act, settle
from consent.models import ConsentRequest
from ledger.audit.log import Actor
from ledger.errors import InvalidInput, RefusedTransition

State = ConsentRequest.State

# Why a question goes back; the requester reads the sentence.
REASONS: Mapping[str, Promise] = {
    "beyond_minimum": _("You ask for more than the model needs. Leave out what it does not read."),
    "hard_to_read": _("The text is hard to read. Use shorter words and sentences."),
    "purpose_unclear": _("The text does not say clearly what the records are for."),
    "risk_unclear": _("The text does not say how often the program is wrong."),
    "who_sees_unclear": _("The text does not say clearly who sees the result."),
    "purpose_not_agreed": _("This purpose was not agreed with the hospital."),
    "dates": _("The dates do not fit. Leave more time to answer, or share for a shorter time."),
}


@transaction.atomic
def own(*, request: ConsentRequest, by: AbstractBaseUser, to: AbstractBaseUser | None) -> None:
    """Take a question (`to` is `by`), hand it over, or put it back (None). Raises RefusedTransition."""
    open_ones = ConsentRequest.objects.filter(pk=request.pk, state__in=(State.REVIEW, State.SENT_BACK))
    if not open_ones.update(owner_id=to.pk if to else None):
        raise RefusedTransition(_("This question is not in review any more."), code="not_open")
    request.owner_id = to.pk if to else None
    record_act("request.owned", Actor.staff(by.pk), request, code="taken" if to == by else "handed_over")


@transaction.atomic
def approve(
    *, request: ConsentRequest, by: AbstractBaseUser, beyond: bool = False, signature_required: bool = False
) -> None:
    """The patient is asked from now on. `beyond`: it asks for more than the model needs, knowingly.

    With `signature_required` only a yes that she signs with a passkey counts; what the requester asked for
    cannot be taken away. Nobody passes a question to themselves. Raises RefusedTransition (`not_open`,
    `own_review`, `too_late`).
    """
    _not_their_own(request, by)
    if request.answer_by < timezone.localdate():
        raise RefusedTransition(_("The time to answer is over: send it back."), code="too_late")
    required = request.signature_required or signature_required
    settle(
        request,
        State.PENDING,
        of=(State.REVIEW,),
        asked_at=timezone.now(),
        reviewed_by_id=by.pk,
        signature_required=required,
    )
    record_act(
        "request.approved",
        Actor.staff(by.pk),
        request,
        code="beyond_minimum" if beyond else None,
        signed="required" if required else None,
    )


@transaction.atomic
def send_back(*, request: ConsentRequest, by: AbstractBaseUser, reasons: Sequence[str]) -> None:
    """Back to the requester, for these reasons (codes of REASONS). The patient never sees it.

    Raises InvalidInput (`reasons`), RefusedTransition (`not_open`, `own_review`).
    """
    _not_their_own(request, by)
    if not reasons or set(reasons) - REASONS.keys():
        raise InvalidInput(_("Choose one or more reasons from the list."), code="reasons")
    settle(
        request,
        State.SENT_BACK,
        of=(State.REVIEW,),
        reviewed_by_id=by.pk,
        send_back_reasons=sorted(set(reasons)),
    )
    record_act("request.sent_back", Actor.staff(by.pk), request, reasons=sorted(set(reasons)))


def _not_their_own(request: ConsentRequest, by: AbstractBaseUser) -> None:
    if request.patient.user_id == by.pk:
        raise RefusedTransition(_("Somebody else has to review a question to you."), code="own_review")

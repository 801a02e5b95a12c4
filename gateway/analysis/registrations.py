"""Model versions that providers register, or somebody here proposes: two people approve one, then the ledger
has it.

What runs is code of the catalogue, known by its digest: a version whose code the hospital does not have can
be registered, and nobody can approve it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from consent.models import Requester
from gateway.analysis import catalogue
from gateway.analysis.catalogue.model import Model
from gateway.analysis.models import AIModel, Job, ModelRegistration
from gateway.analysis.services import check_test, register_model, stands_everywhere
from ledger.audit.log import Actor, record
from ledger.contract import canonical
from ledger.contract.errors import Refused
from ledger.errors import GatewayError, InvalidInput, RefusedTransition

State = ModelRegistration.State
MOST_CARD = 20_000  # bytes of canonical JSON
MOST_OPEN = 20  # of one provider that wait

# Why a version is not approved, by code: the provider reads the code and the sentence.
REASONS: Mapping[str, Promise] = {
    "card_incomplete": _("The model card leaves out what we need to know."),
    "test_too_small": _("The test is too small, or not on people like ours."),
    "too_often_wrong": _("It is wrong too often for what it is meant for."),
    "code_missing": _("We do not have the code of this digest. Send it to us first."),
    "purpose_not_agreed": _("Its purpose was not agreed with the hospital."),
}


@transaction.atomic
def register(
    *,
    requester: Requester,
    digest: str,
    name: str,
    version: str,
    card: Mapping[str, Any],
    people: int,
    wrong: int,
    trained_on: Sequence[str] | None = None,
) -> ModelRegistration:
    """A version waits for two people: SHA-256 of what runs, its card, and the provider's own test of it.

    `trained_on`: the jobs whose copies it learned from; None says nothing of it. The same again while it
    waits changes nothing. Raises InvalidInput (`card`, `tested`, `trained_on`), RefusedTransition
    (`suspended`, `registered_already`, `too_many_models`).
    """
    if requester.suspended_at:
        raise RefusedTransition(_("The hospital takes nothing from you now. Ask it why."), code="suspended")
    check_test(people=people, wrong=wrong)
    _check_card(card)
    learned = None if trained_on is None else _copies(requester, trained_on)
    fields = {
        "name": name.strip(), "version": version.strip(), "card": dict(card),
        "tested_people": people, "tested_wrong": wrong, "trained_on": learned,
    }  # fmt: skip
    Requester.objects.select_for_update().get(pk=requester.pk)  # one registration at a time
    waits = ModelRegistration.objects.filter(requester=requester, state__in=ModelRegistration.OPEN)
    if (same := waits.filter(digest=digest).first()) is not None:
        if all(getattr(same, field) == value for field, value in fields.items()):
            return same
        raise RefusedTransition(
            _("A version with this digest waits already, with another name, card or test."),
            code="registered_already",
        )
    if AIModel.objects.filter(digest=digest, provider=requester, state=AIModel.State.APPROVED).exists():
        raise RefusedTransition(_("This version is approved already."), code="registered_already")
    if waits.count() >= MOST_OPEN:
        raise RefusedTransition(
            _("%(number)s versions of yours wait already.") % {"number": MOST_OPEN}, code="too_many_models"
        )
    made = ModelRegistration.objects.create(requester=requester, digest=digest, **fields)
    _record("registration.made", Actor.client(requester.pk), made)
    return made


@transaction.atomic
def propose(*, requester: Requester, model: Model, by: AbstractBaseUser) -> ModelRegistration:
    """A model of the catalogue for a provider, anew or after a suspension: who proposes it approves it first.

    The same again by the same person changes nothing. Raises RefusedTransition (`suspended`,
    `model_of_another`, `registered_already`).
    """
    if requester.suspended_at:
        raise RefusedTransition(_("This provider is suspended."), code="suspended")
    _check_runs(model)
    digest = model.digest()
    Requester.objects.select_for_update().get(pk=requester.pk)  # one registration at a time
    known = AIModel.objects.filter(digest=digest).select_related("provider").first()
    if known is not None and known.provider_id != requester.pk:
        raise RefusedTransition(_("This model is registered for another provider."), code="model_of_another")
    waits = ModelRegistration.objects.filter(
        requester=requester, digest=digest, state__in=ModelRegistration.OPEN
    ).first()
    if waits is not None and waits.first_by_id == by.pk:
        return waits
    if waits is not None or (known is not None and stands_everywhere(known)):
        raise RefusedTransition(_("This version waits or is approved already."), code="registered_already")
    made = ModelRegistration.objects.create(
        requester=requester,
        digest=digest,
        name=model.name,
        version=model.version,
        card=model.describe(),
        state=State.ONCE,
        first_by_id=by.pk,
    )
    _record("registration.made", Actor.staff(by.pk), made)
    _record("registration.approved", Actor.staff(by.pk), made, code=made.state)
    return made


def _copies(requester: Requester, jobs: Sequence[str]) -> list[str]:
    """These jobs, each once, if each is an export of this provider's that was delivered."""
    wanted = sorted(set(jobs))
    own = Job.objects.filter(requester=requester, kind=Job.Kind.EXPORT, state=Job.State.DONE, pk__in=wanted)
    if own.count() != len(wanted):
        raise InvalidInput(_("Name exports of yours that were delivered."), code="trained_on")
    return wanted


def _check_card(card: Mapping[str, Any]) -> None:
    try:
        size = len(canonical.dumps(card))
    except (GatewayError, Refused, ValueError, TypeError):
        size = 0
    if not 2 < size <= MOST_CARD:
        raise InvalidInput(
            _("The card is an object of texts, whole numbers and lists, %(number)s bytes at most.")
            % {"number": MOST_CARD},
            code="card",
        )


def standing_of(requester: Requester, digest: str | None = None) -> list[dict[str, Any]]:
    """What the provider is told of its versions (of one, by `digest`), newest first.

    `state` is waiting, refused, approving (the ledger is asked), approved or suspended. What the hospital's
    own test found stands beside the provider's.
    """
    registered = ModelRegistration.objects.filter(requester=requester)
    known = AIModel.objects.filter(provider=requester)
    if digest is not None:
        registered, known = registered.filter(digest=digest), known.filter(digest=digest)
    rows = {row.digest: row for row in registered.order_by("created_at", "pk")}
    models = {model.digest: model for model in known}
    found = [_told(each, rows.get(each), models.get(each)) for each in {**models, **rows}]
    return sorted(found, key=lambda one: str(one["registered_at"]), reverse=True)


STATES = {
    AIModel.State.REGISTERING: "approving",
    AIModel.State.APPROVED: "approved",
    AIModel.State.SUSPENDED: "suspended",
}


def _told(digest: str, row: ModelRegistration | None, model: AIModel | None) -> dict[str, Any]:
    first = row or model
    assert first is not None
    is_open = row is not None and row.state in ModelRegistration.OPEN
    if is_open or model is None:
        state = "waiting" if is_open else "refused"
    else:
        state = STATES[AIModel.State(model.state)]
    own, hospitals = (
        {"people": one.tested_people, "wrong": one.tested_wrong} if one and one.tested_people else None
        for one in (row, model)
    )
    return {
        "digest": digest,
        "name": first.name,
        "version": first.version,
        "state": state,
        "reasons": [{"code": code, "detail": str(REASONS[code])} for code in (row.reasons if row else ())],
        "trained_on": row.trained_on if row else None,
        "tested": own,
        "tested_here": hospitals,
        "registered_at": first.created_at,
    }


def code_of(registration: ModelRegistration) -> Model | None:
    """The code of that digest, where the catalogue has it."""
    return next((one for one in catalogue.MODELS if one.digest() == registration.digest), None)


@transaction.atomic
def approve(*, registration: ModelRegistration, by: AbstractBaseUser) -> ModelRegistration:
    """The first approval, or the second by somebody else: then it goes to the ledger, and may run once there.

    Raises RefusedTransition (`not_open`, `own_approval`, `code_missing`, `model_of_another`).
    """
    row = _locked(registration)
    if row.first_by_id == by.pk:
        raise RefusedTransition(_("Somebody else gives the second approval."), code="own_approval")
    model = code_of(row)
    if model is None:
        raise RefusedTransition(_("The catalogue has no code of this digest."), code="code_missing")
    _check_runs(model)
    if row.state == State.WAITING:
        row.state, row.first_by_id = State.ONCE, by.pk
    else:
        row.state, row.decided_by_id = State.APPROVED, by.pk
        register_model(model=model, provider=row.requester, by=Actor.staff(by.pk))
    row.save(update_fields=["state", "first_by", "decided_by"])
    _record("registration.approved", Actor.staff(by.pk), row, code=row.state)
    return row


def _check_runs(model: Model) -> None:
    """What the catalogue says of its own files is for who adds one; here it is one sentence and the code."""
    try:
        model.check()
    except InvalidInput as error:
        raise RefusedTransition(
            _("The code of this model cannot run here (%(code)s).") % {"code": error.code}, code=error.code
        ) from None


@transaction.atomic
def refuse(*, registration: ModelRegistration, by: AbstractBaseUser, reasons: Sequence[str]) -> None:
    """Not as it is, for these reasons (REASONS). Raises InvalidInput (`reasons`), RefusedTransition."""
    if not reasons or set(reasons) - REASONS.keys():
        raise InvalidInput(_("Choose one or more reasons from the list."), code="reasons")
    row = _locked(registration)
    row.state, row.decided_by_id, row.reasons = State.REFUSED, by.pk, sorted(set(reasons))
    row.save(update_fields=["state", "decided_by", "reasons"])
    _record("registration.refused", Actor.staff(by.pk), row, reasons=row.reasons)


def _locked(registration: ModelRegistration) -> ModelRegistration:
    rows = ModelRegistration.objects.select_for_update(of=("self",)).select_related("requester")
    row = rows.filter(pk=registration.pk, state__in=ModelRegistration.OPEN).first()
    if row is None:
        raise RefusedTransition(_("This was decided already."), code="not_open")
    return row


def _record(kind: str, by: Actor, row: ModelRegistration, **details: Any) -> None:
    record(kind=kind, actor=by, model=row.digest, requester=str(row.requester_id), **details)

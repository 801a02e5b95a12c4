"""Saying yes: the patient signs what is on the screen with her passkey, or shows again that it is her.

What she signs is the commitment that the keyholder drafts. The keyholder checks the signature again before
anything rests on it; the check here is so that she learns at once when it does not hold.
"""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from consent import services
from consent.answers import Drafted, How
from consent.models import Consent, ConsentRequest, Progress
from gateway.accounts.models import User
from gateway.accounts.passkeys import Passkey, enrol, passkeys_of
from gateway.accounts.step_up import showed_again, where_to_show
from gateway.keyholder.client import Keyholder, Signers
from ledger.contract.canonical import dumps
from ledger.errors import KeyholderUnavailable, LedgerError, RefusedTransition
from ledger.verify import SIGNATURE_FIELDS, SIGNED_FORMAT
from ledger.webauthn import Assertion, SignatureRefused, check_assertion, origin_of

Json = dict[str, Any]

# So long a drafted yes can be signed; then the page drafts it anew, with a moment that is true.
DRAFT_LASTS = timedelta(hours=1)


class Way(StrEnum):
    """How this patient can say yes now."""

    SIGN = "sign"  # with a passkey
    SHOW = "show"  # after showing again that it is her
    AGREE = "agree"  # she has just shown it
    ADD = "add"  # only once she has added a passkey
    VOUCH = "vouch"  # only once a passkey that signs vouches for the ones she has here
    LOST = "lost"  # a passkey signs for her that is not hers to use any more: the clinic helps
    HERS = "hers"  # only once the patient signs it herself: who acts for her cannot
    WAIT = "wait"  # the clinic dropped her passkeys: not before a day is over
    NOT_NOW = "not_now"  # the keyholder cannot be reached


class AskAgain(Exception):
    """Nothing was taken: the page is shown again, and says why."""

    def __init__(self, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.message, self.status = message, status


@dataclass(frozen=True)
class Yes:
    """The yes that is on the screen, and how it can be given.

    `commitment` (hex) is what is signed, by one of `passkeys`. `first`: the keyholder knows no passkey of
    hers yet, and takes the one that signs on trust. `until`: when WAIT is over.
    """

    way: Way
    drafted: Drafted
    commitment: str = ""
    passkeys: tuple[Passkey, ...] = ()
    first: bool = False
    until: datetime | None = None
    show: str | None = None

    @property
    def credentials(self) -> str:
        """Which passkeys may sign, for the page's script."""
        return " ".join(one.credential for one in self.passkeys)


def on_screen(request: HttpRequest, way: Progress, how: How, *, changes: Consent | None = None) -> Yes:
    """How this patient can say yes to what she chose; it `changes` what she gave before, if it does.

    Raises InvalidInput (it cannot be chosen any more), RefusedTransition.
    """
    question = way.request
    services.check_proofed(question.patient)
    drafted = _drafted(request, way, how, changes)
    # Whoever acts for the patient has no passkey of hers: theirs would sign on after the authority ended.
    own = () if how.representative else tuple(passkeys_of(cast(User, request.user)))
    signers: Signers = {"known": [], "signing": [], "quiet_until": 0}
    commitment = ""
    keyholder = Keyholder(settings.KEYHOLDER_SOCKET)
    try:
        if own:
            signed = dataclasses.replace(drafted, signed=True)
            fhir = services.draft(request=question, drafted=signed, how=how, **way.choice)
            draft = keyholder.draft(consent=drafted.consent, patient=question.patient_id, fhir=fhir)
            signers, commitment = draft, draft["commitment"]
        else:
            signers = keyholder.signers(patient=question.patient_id)
    except (KeyholderUnavailable, LedgerError):
        if own:
            return Yes(Way.NOT_NOW, drafted)
        # Who has no passkey says yes as ever; should the keyholder know one, it will not take this yes.
    if signers["quiet_until"]:
        return Yes(Way.WAIT, drafted, until=datetime.fromtimestamp(signers["quiet_until"], UTC))
    first = not signers["known"]
    does_without = first and not question.signature_required and _wants_without(request)
    if own and not does_without:
        signing = tuple(one for one in own if first or one.credential in signers["signing"])
        return Yes(Way.SIGN if signing else Way.VOUCH, drafted, commitment, signing, first=first)
    if how.representative and (not first or question.signature_required):
        return Yes(Way.HERS, drafted)
    return Yes(Way.LOST, drafted) if not first else _unsigned(request, question, drafted)


def _unsigned(request: HttpRequest, question: ConsentRequest, drafted: Drafted) -> Yes:
    if question.signature_required:
        return Yes(Way.ADD, drafted)
    if showed_again(request):
        return Yes(Way.AGREE, drafted)
    back = request.path + ("?without=1" if _wants_without(request) else "")
    show = where_to_show(request, back)
    return Yes(Way.SHOW if show else Way.ADD, drafted, show=show)


def _wants_without(request: HttpRequest) -> bool:
    """She cannot use her passkey now."""
    return "without" in request.GET


def given(request: HttpRequest, question: ConsentRequest, yes: Yes) -> Json | None:
    """The signature that came with this yes; None: she showed that it is her, and that is enough.

    Raises AskAgain.
    """
    match yes.way:
        case Way.AGREE:
            return None
        case Way.SIGN:
            return _signed(request, question, yes)
    raise AskAgain(_("Nothing was shared."), 503 if yes.way == Way.NOT_NOW else 409)


def _signed(request: HttpRequest, question: ConsentRequest, yes: Yes) -> Json:
    try:
        assertion = Assertion.read(request.POST.get("signature", ""))
        signer = next((one for one in yes.passkeys if one.credential == assertion.credential), None)
        if signer is None:
            raise SignatureRefused(_("This passkey is not known."), code="passkey_unknown")
        check_assertion(
            assertion,
            credential=signer.credential,
            public_key=signer.public_key,
            challenge=bytes.fromhex(yes.commitment),
            origin=origin_of(settings.PUBLIC_URL),
        )
        if yes.first:
            enrol(question.patient, signer)
    except RefusedTransition:
        raise AskAgain(_("Your passkey did not sign this. Nothing is shared. Try again.")) from None
    except (KeyholderUnavailable, LedgerError):
        raise AskAgain(_("We cannot take your signature just now. Nothing is shared."), 503) from None
    return assertion.to_json()


def signed_file(consent: Consent) -> bytes:
    """What the patient keeps of a consent that she signed; ledger/verify.py verifies it without us.

    Canonical JSON. What the consent says is not in it. Raises RefusedTransition (`not_signed`, `not_sealed`),
    KeyholderUnavailable, LedgerError.
    """
    found = Keyholder(settings.KEYHOLDER_SOCKET).signed_consent(
        consent=consent.pk, patient=consent.patient_id
    )
    if found["evidence"] is None:
        raise RefusedTransition(_("Your choice is not sealed yet. Try again soon."), code="not_sealed")
    return dumps(
        {
            "commitment": found["commitment"],
            "consent": consent.pk,
            "evidence": found["evidence"],
            "format": SIGNED_FORMAT,
            "signature": {name: found["signature"][name] for name in SIGNATURE_FIELDS},
        }
    )


def _drafted(request: HttpRequest, way: Progress, how: How, changes: Consent | None) -> Drafted:
    """One id and one moment for what is chosen: the same for every window, a new one once it changes."""
    said = [way.shown, how.notice.digest if how.notice else "", changes.pk if changes else ""]
    name, now = f"draft {way.request_id}", timezone.now()
    kept = request.session.get(name)
    if kept is not None and kept["said"] == said:
        drafted = Drafted(kept["consent"], datetime.fromisoformat(kept["at"]))
        if now < drafted.at + DRAFT_LASTS:
            return drafted
    drafted = Drafted()
    request.session[name] = {
        "said": said,
        "consent": drafted.consent,
        "at": drafted.at.isoformat(),
    }
    return drafted

"""A person's passkeys, as signing in knows them; which of them sign a patient's choices or confirm a
clinician's emergencies, the keyholder says.

What a passkey signs, and whose signature counts: docs/adr/0011-the-patient-signs.md, 0014-break-glass.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from allauth.account.decorators import reauthentication_required
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.views import RemoveWebAuthnView
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from consent import news
from consent.models import News, Patient
from consent.patients import PROOFS
from gateway.accounts.models import User
from gateway.accounts.sessions import sign_out_everywhere
from gateway.keyholder.client import Keyholder, Signers
from gateway.wording import sentence
from ledger.audit.log import Actor, record
from ledger.errors import GatewayError, InvalidInput, RefusedTransition
from ledger.webauthn import Assertion, passkey_challenge


@dataclass(frozen=True)
class Passkey:
    """`credential` is its id in hex, `public_key` a DER SubjectPublicKeyInfo."""

    id: int
    name: str
    credential: str
    public_key: bytes


def passkeys_of(user: User) -> list[Passkey]:
    """The passkeys of this person that can sign choices, oldest first."""
    found = []
    for row in Authenticator.objects.filter(user=user, type=Authenticator.Type.WEBAUTHN).order_by("pk"):
        passkey = row.wrap()
        data = passkey.authenticator_data.credential_data
        key = _der(data.public_key)
        if key is not None:
            found.append(Passkey(row.pk, passkey.name, data.credential_id.hex(), key))
    return found


# What the keyholder knows


def signers_of(patient: Patient) -> Signers:
    """Raises GatewayError."""
    return Keyholder(settings.KEYHOLDER_SOCKET).signers(patient=patient.pk)


def enrol(patient: Patient, passkey: Passkey, voucher: dict[str, Any] | None = None) -> None:
    """From now on this passkey signs for the patient. Raises GatewayError."""
    Keyholder(settings.KEYHOLDER_SOCKET).enrol_passkey(
        patient=patient.pk,
        credential=passkey.credential,
        public_key=passkey.public_key,
        voucher=voucher,
    )
    _record("passkey.enrolled", patient, code="first" if voucher is None else "vouched")


# A member of staff is known to the keyholder by her pseudonym in the audit log.


def clinician_of(user: AbstractBaseUser) -> str:
    return Actor.staff(user.pk).id


def confirming(user: AbstractBaseUser) -> Signers:
    """Which passkeys confirm this member of staff's emergencies. Raises GatewayError."""
    return Keyholder(settings.KEYHOLDER_SOCKET).clinician_signers(clinician=clinician_of(user))


def enrol_clinician(user: AbstractBaseUser, passkey: Passkey, voucher: dict[str, Any] | None = None) -> None:
    """From now on this passkey confirms emergencies of this member of staff. Raises GatewayError."""
    Keyholder(settings.KEYHOLDER_SOCKET).enrol_clinician(
        clinician=clinician_of(user),
        credential=passkey.credential,
        public_key=passkey.public_key,
        voucher=voucher,
    )
    with transaction.atomic():
        code = "first" if voucher is None else "vouched"
        record(kind="passkey.enrolled", actor=Actor.staff(user.pk), code=code)


def drop(user: User, passkey: Passkey) -> None:
    """This passkey signs no more, neither a patient's choices nor a clinician's emergencies; where the last
    one has to stay, it stays for both. Raises GatewayError."""
    patient = Patient.objects.filter(user=user).first()
    if patient is None and not user.is_staff:
        return
    Keyholder(settings.KEYHOLDER_SOCKET).drop_passkey(
        credential=passkey.credential,
        patient=None if patient is None else patient.pk,
        clinician=clinician_of(user) if user.is_staff else None,
    )
    with transaction.atomic():
        if patient is not None:
            _record("passkey.dropped", patient, code="removed")
        if user.is_staff:
            record(kind="passkey.dropped", actor=Actor.staff(user.pk), code="removed")


def reset(*, patient: Patient, by: AbstractBaseUser, method: str, app_too: bool) -> datetime | None:
    """A member of staff proofed the patient again: all her passkeys go, for signing in and for signing; with
    `app_too` also her app and her spare codes. She is told, and is signed out everywhere. A member of staff
    keeps what they sign in with.

    From when she can say yes again; None: at once, as no quiet follows. Nobody does this for
    themselves. Raises InvalidInput, RefusedTransition (`own_proof`), KeyholderUnavailable: then nothing is
    changed here.
    """
    if method not in PROOFS:
        raise InvalidInput(_("Say how the person was identified."), code="proof_method")
    if patient.user_id == by.pk:
        raise RefusedTransition(_("Somebody else has to check who you are."), code="own_proof")
    kinds = [Authenticator.Type.WEBAUTHN]
    if app_too:
        kinds += [Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES]
    with transaction.atomic():
        record(
            kind="passkeys.reset", actor=Actor.staff(by.pk), subject=patient.pseudonym, method=method,
            code="app_too" if app_too else "passkeys",
        )  # fmt: skip
        news.tell(patient=patient, kind=News.Kind.PASSKEYS)
        patient.passkeys_dropped_at = timezone.now()
        patient.save(update_fields=["passkeys_dropped_at"])
        # Who works here signs in to more than her own pages: that is for who looks after the accounts.
        if patient.user is not None and not patient.user.is_staff:
            Authenticator.objects.filter(user=patient.user, type__in=kinds).delete()
        # Last, so that a keyholder that cannot be reached undoes the rest.
        until = Keyholder(settings.KEYHOLDER_SOCKET).drop_passkeys(patient=patient.pk)
    if patient.user is not None:
        sign_out_everywhere(patient.user)
    return datetime.fromtimestamp(until, UTC) if until > timezone.now().timestamp() else None


def _record(kind: str, patient: Patient, code: str) -> None:
    with transaction.atomic():
        record(kind=kind, actor=Actor.patient(patient.pseudonym), subject=patient.pseudonym, code=code)


# Pages


@never_cache
@require_safe
@login_required
def index(request: HttpRequest) -> HttpResponse:
    """A person's passkeys, and which of them sign choices."""
    user = cast(User, request.user)
    patient = Patient.objects.filter(user=user).first()
    signers: Signers | None = None
    if patient is not None:
        try:
            signers = signers_of(patient)
        except GatewayError:
            signers = None
    own = {one.id: one.credential for one in passkeys_of(user)}
    confirms = _confirming(user)
    rows = [
        {
            "key": row,
            "signs": _state(own.get(row.pk), signers) if patient else "",
            "confirms": _state(own.get(row.pk), confirms) if user.is_staff else "",
        }
        for row in Authenticator.objects.filter(user=user, type=Authenticator.Type.WEBAUTHN).order_by("pk")
    ]
    quiet = signers["quiet_until"] if signers else 0
    return render(
        request,
        "mfa/webauthn/authenticator_list.html",
        {"rows": rows, "until": datetime.fromtimestamp(quiet, UTC) if quiet else None},
    )


def _confirming(user: User) -> Signers | None:
    """None: the keyholder cannot be asked, or there is nothing to ask."""
    try:
        return confirming(user) if user.is_staff else None
    except GatewayError:
        return None


def _state(credential: str | None, signers: Signers | None) -> str:
    """In one word whether a passkey signs (choices, or emergencies): yes, first (from its next use), later,
    vouch, no."""
    if credential is None:
        return "no"
    if signers is None:
        return "unknown"
    if credential in signers["signing"]:
        return "yes"
    if not signers["known"]:
        return "first"
    return "later" if credential in signers["known"] else "vouch"


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@reauthentication_required(app="allauth.mfa")  # type: ignore[untyped-decorator]
def vouch(request: HttpRequest, pk: int) -> HttpResponse:
    """A passkey that signs says of another one that it may sign the patient's choices too."""
    patient = Patient.objects.filter(user=cast(User, request.user)).first()
    if patient is None:
        raise Http404
    return _vouch_page(
        request,
        pk,
        whose=patient.pk,
        signers=lambda: signers_of(patient),
        enrol=lambda new, voucher: enrol(patient, new, voucher),
        done=_("This passkey signs your choices now."),
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@reauthentication_required(app="allauth.mfa")  # type: ignore[untyped-decorator]
def vouch_for_emergencies(request: HttpRequest, pk: int) -> HttpResponse:
    """The same for a member of staff, whose emergencies it confirms; gateway/staff lets them in."""
    user = cast(User, request.user)
    return _vouch_page(
        request,
        pk,
        whose=clinician_of(user),
        signers=lambda: confirming(user),
        enrol=lambda new, voucher: enrol_clinician(user, new, voucher),
        done=_("This passkey confirms your emergencies now."),
        emergencies=True,
    )


def _vouch_page(
    request: HttpRequest,
    pk: int,
    *,
    whose: str,
    signers: Callable[[], Signers],
    enrol: Callable[[Passkey, dict[str, Any]], None],
    done: str,
    emergencies: bool = False,
) -> HttpResponse:
    """`whose` is by what the keyholder knows the person."""
    own = passkeys_of(cast(User, request.user))
    new = next((one for one in own if one.id == pk), None)
    if new is None:
        raise Http404
    problem, status = "", 200
    try:
        signing = signers()["signing"]
        if request.method == "POST":
            enrol(new, Assertion.read(request.POST.get("signature", "")).to_json())
            messages.success(request, done)
            return redirect("mfa_list_webauthn")
    except RefusedTransition:
        problem, status = _("Your other passkey did not sign this. Try again."), 409
    except GatewayError:
        problem, status, signing = _("We cannot do this just now. Try again in a few minutes."), 503, []
    challenge = passkey_challenge(patient=whose, credential=new.credential, public_key=new.public_key)
    credentials = [one.credential for one in own if one.credential in signing]
    return render(
        request,
        "mfa/webauthn/vouch.html",
        {
            "key": new,
            "emergencies": emergencies,
            "problem": {"message": problem} if problem else None,
            "challenge": challenge.hex(),
            "credentials": " ".join(credentials),
        },
        status=status,
    )


class RemovePasskey(RemoveWebAuthnView):  # type: ignore[misc]
    """A passkey that is removed signs nothing any more. The last one that signs goes only at the clinic."""

    def form_valid(self, form: Any) -> HttpResponse:
        user = cast(User, self.request.user)
        passkey = next((one for one in passkeys_of(user) if one.id == self.get_object().pk), None)
        if passkey is not None:
            try:
                drop(user, passkey)
            except GatewayError as error:
                context = self.get_context_data(problem=error.code, sentence=sentence(error))
                refused: HttpResponse = self.render_to_response(context, status=error.status)
                return refused
        response: HttpResponse = super().form_valid(form)
        return response


def _der(cose: dict[int, Any]) -> bytes | None:
    """A COSE key (RFC 9053 section 7) as DER; None: a kind that signs no choices."""

    def number(label: int) -> int:
        return int.from_bytes(cose[label], "big")

    try:
        match cose[3]:
            case -7 if cose[-1] == 1:
                key: Any = ec.EllipticCurvePublicNumbers(number(-2), number(-3), ec.SECP256R1()).public_key()
            case -8 if cose[-1] == 6:
                key = ed25519.Ed25519PublicKey.from_public_bytes(cose[-2])
            case -257:
                key = rsa.RSAPublicNumbers(number(-2), number(-1)).public_key()
            case _:
                return None
    except (KeyError, ValueError):
        return None
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

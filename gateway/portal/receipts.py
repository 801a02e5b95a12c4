"""The receipt of a choice, to keep: as JSON for a program, as PDF for a person."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from consent.explanation import KINDS, SENSITIVE
from consent.models import Consent, Patient
from consent.receipt import build_receipt
from gateway.documents import Said, pdf
from gateway.portal.choices import find_choice
from gateway.portal.history import history_of
from gateway.portal.signing import signed_file
from gateway.portal.visitor import Visit, for_patient
from ledger.errors import GatewayError


@never_cache
@require_safe
@for_patient
def as_json(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    receipt = build_receipt(find_choice(patient, id), now=timezone.now())
    answer = JsonResponse(receipt, json_dumps_params={"ensure_ascii": False, "indent": 2})
    return _to_keep(answer, id, "json")


@never_cache
@require_safe
@for_patient
def as_pdf(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    consent = find_choice(patient, id)
    language = get_language() or settings.LANGUAGE_CODE
    made = pdf.render("receipt", _printed(consent), title=_("Receipt of your choice"), language=language)
    return _to_keep(HttpResponse(made, content_type="application/pdf"), id, "pdf")


@never_cache
@require_safe
@for_patient
def as_signed(request: HttpRequest, patient: Patient, id: str) -> HttpResponse:
    """The proof that the patient signed this choice, for whoever verifies it without us."""
    try:
        file = signed_file(find_choice(patient, id))
    except GatewayError as error:
        context = {"section": "choices", "back": reverse("choice", args=[id]), "error": error}
        return render(request, "portal/refused.html", context, status=error.status)
    return _to_keep(HttpResponse(file, content_type="application/json"), id, "json", name="signed")


def _to_keep(answer: HttpResponse, id: str, ending: str, *, name: str = "receipt") -> HttpResponse:
    answer["Content-Disposition"] = f'attachment; filename="{name}-{id[:8]}.{ending}"'
    return answer


def _printed(consent: Consent) -> dict[str, Any]:
    """What the PDF says: the same as the receipt, in words."""
    asked, notice = consent.request, consent.shown_notice
    receipt = build_receipt(consent, now=timezone.now())
    no = consent.status == Consent.Status.REJECTED
    names = [KINDS[code].name for code in consent.kinds] + [
        SENSITIVE[code].name for code in consent.sensitive
    ]
    rows = [
        (_("Your name"), asked.patient.name),
        (_("Who asked"), asked.requester.name),
        (_("What for"), Said(asked.what_for, asked.language)),
        (_("You said"), _("No") if no else _("Yes")),
        *([] if no else [(_("Records"), ", ".join(str(name) for name in names))]),
        *([(_("Until"), _day(consent.expires_at))] if consent.expires_at else []),
        *([] if no else [(_("Signed with a passkey"), _("Yes") if consent.signature else _("No"))]),
        (_("Who keeps your records"), settings.CUSTODIAN),
        (_("How to stop"), receipt["consent_record"]["pii_processing"]["purposes"][0]["withdrawal_method"]),
        (_("Full text that you were shown"), _("Version %(number)d") % {"number": notice.version}),
    ]
    return {
        "columns": [_("What"), _("Your choice")],
        "rows": [[str(name), text if isinstance(text, Said) else str(text)] for name, text in rows],
        "happened": _("What happened"),
        "history_columns": [_("When"), _("What")],
        "history": [
            [date_format(timezone.localtime(entry.when), "DATETIME_FORMAT"), entry.words]
            for entry in history_of(consent, Visit(own=asked.patient))
        ],
        "numbers": _("Numbers to check it by"),
        "number_columns": [_("Number"), _("Value")],
        "number_rows": [
            [_("This receipt"), receipt["receipt_id"]],
            [_("This choice, in the record book"), consent.pk],
            [_("Fingerprint of the full text"), notice.digest],
        ],
        "after": [_("Made as ISO/IEC TS 27560 describes it.")],
    }


def _day(at: Any) -> str:
    return date_format(timezone.localtime(at), "DATE_FORMAT")

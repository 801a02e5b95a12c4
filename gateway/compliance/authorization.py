"""A consent as an authorization under 45 CFR 164.508(c) and 42 CFR 2.31: its elements, or what it lacks.

The statements that the law wants are quoted from the very text that the patient was shown. A text of the
hospital's own has them under the headings in STATEMENTS, or the document is refused.
"""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from consent.explanation import KINDS, PURPOSES, SENSITIVE
from consent.models import Consent
from gateway.documents import Said, Text
from gateway.documents.report import Report, Section, Table
from ledger.errors import InvalidInput, RefusedTransition

# What 42 CFR Part 2 is about: care for the use of alcohol or drugs.
SUBSTANCE_USE = frozenset({"ETH", "ETHUD", "OPIOIDUD"})
# Statement -> the heading under which a notice makes it, by language.
STATEMENTS = {
    "revocation": {"en": "You can change your mind", "es": "Puede cambiar de idea"},
    "conditioning": {"en": "You can say no", "es": "Puede decir que no"},
    "redisclosure": {"en": "What can go wrong", "es": "Qué puede salir mal"},
}
AUTHORITIES: dict[str, Promise] = {
    "parent": gettext_lazy("Parent of the patient"),
    "guardian": gettext_lazy("Legal guardian of the patient"),
    "attorney": gettext_lazy("Holds a power of attorney for the patient"),
}


@dataclass(frozen=True)
class Element:
    """`code` names it for programs; `value` is empty where the consent lacks it."""

    code: str
    hipaa: str
    part2: str
    name: str
    value: Text


def elements(consent: Consent) -> list[Element]:
    """What 164.508(c)(1) and (c)(2) ask for, and 2.31(a) besides, in the active language."""
    asked = consent.request
    names = [KINDS[kind].name for kind in consent.kinds if kind in KINDS]
    private = [SENSITIVE[code].name for code in consent.sensitive if code in SENSITIVE]
    said = _statements(consent)
    purpose = PURPOSES.get(asked.purpose)
    found = [
        Element("patient", "", "2.31(a)(1)", _("The patient"), consent.patient.name),
        Element(
            "description", "164.508(c)(1)(i)", "2.31(a)(3)", _("What is used or disclosed"),
            "; ".join(str(name) for name in (*names, *private)),
        ),
        Element("discloser", "164.508(c)(1)(ii)", "2.31(a)(2)", _("Who discloses it"), settings.CUSTODIAN),
        Element("recipient", "164.508(c)(1)(iii)", "2.31(a)(4)", _("Who receives it"), asked.requester.name),
        Element(
            "purpose", "164.508(c)(1)(iv)", "2.31(a)(5)", _("What for"),
            Said(asked.what_for, asked.language, f"({purpose})" if purpose else ""),
        ),
        Element(
            "expiry", "164.508(c)(1)(v)", "2.31(a)(7)", _("Until"),
            _moment(consent.expires_at) if consent.expires_at else "",
        ),
        Element("signature", "164.508(c)(1)(vi)", "2.31(a)(8)", _("Signature"), _signature(consent)),
        Element("date", "164.508(c)(1)(vi)", "2.31(a)(9)", _("Date"), _moment(consent.decided_at)),
        Element("revocation", "164.508(c)(2)(i)", "2.31(a)(6)", _("The right to stop it, and how"),
                said["revocation"]),
        Element("conditioning", "164.508(c)(2)(ii)", "", _("Care does not depend on it"),
                said["conditioning"]),
        Element("redisclosure", "164.508(c)(2)(iii)", "2.31(a)(10)", _("It may be passed on"),
                said["redisclosure"]),
    ]  # fmt: skip
    if consent.authority != Consent.Authority.PATIENT:
        authority = Element(
            "authority", "164.508(c)(1)(vi)", "2.31(a)(8)", _("By what authority"), _authority(consent)
        )
        found.insert(7, authority)
    return found


def missing(consent: Consent) -> list[Element]:
    """The elements that it lacks: none, and it is a valid authorization as long as it stands."""
    return [element for element in elements(consent) if not str(element.value).strip()]


def is_authorization(consent: Consent) -> bool:
    return consent.granted_at is not None and consent.invalid_at is None and not missing(consent)


def require(consent: Consent) -> None:
    """Raises RefusedTransition (`authorization_not_given`) and InvalidInput (`authorization_element`), which
    names each element that is missing.
    """
    if consent.granted_at is None or consent.invalid_at is not None:
        raise RefusedTransition(
            _("This choice is no yes that came into force, so it authorizes nothing."),
            code="authorization_not_given",
        )
    if lacking := missing(consent):
        named = "; ".join(f"{each.name} ({each.hipaa or each.part2})" for each in lacking)
        raise InvalidInput(
            _("This choice is not a valid authorization. It lacks: %(elements)s.") % {"elements": named},
            code="authorization_element",
        )


def report(consent: Consent) -> Report:
    """The document. Raises what `require` raises."""
    require(consent)
    with_part2 = bool(SUBSTANCE_USE & set(consent.sensitive))
    columns = [_("Element"), _("What was agreed"), "45 CFR"]
    rows = [[each.name, each.value, each.hipaa] for each in elements(consent)]
    if with_part2:
        columns.append("42 CFR")
        rows = [[*row, each.part2] for row, each in zip(rows, elements(consent), strict=True)]
    numbers = [
        [_("This choice, on the ledger"), consent.pk],
        [_("The question"), consent.request_id],
        [_("Fingerprint of the full text that was shown"), consent.shown_notice.digest],
        *([[_("The AI model"), consent.request.model]] if consent.request.model else []),
        *([[_("Fingerprint of the signed paper"), consent.scan.digest]] if consent.scan else []),
    ]
    sections = [
        Section(
            _("The elements of the authorization"),
            table=Table(columns, rows, (1.1, 3, 1, 0.9) if with_part2 else (1.1, 3, 1)),
        ),
        Section(_("Where it stands"), text=[_standing(consent)]),
        *([Section(_("Notice to whoever receives it (42 CFR 2.32)"), text=[_part2_notice()])] if with_part2
          else []),
        Section(_("Numbers to check it by"),
                table=Table([_("Number"), _("Value")], numbers, (1, 2))),
    ]  # fmt: skip
    about = [
        f"{settings.CUSTODIAN} {settings.CUSTODIAN_ADDRESS}".strip(),
        _("Made on %(when)s.") % {"when": _moment(timezone.now())},
        _("Each person is entitled to a copy of what they signed (45 CFR 164.508(c)(4))."),
    ]
    return Report(_("Authorization to use or disclose health information"), about, sections)


def _statements(consent: Consent) -> dict[str, Said]:
    """The paragraphs of the text that was shown, under the headings that make the statements; or empty."""
    notice = consent.shown_notice
    paragraphs = {}
    for part in notice.text.split("\n\n"):
        heading, _line, text = part.strip().partition("\n")
        paragraphs[heading.strip()] = text.strip()
    language = notice.language.partition("-")[0]
    return {
        code: Said(paragraphs.get(heading.get(language, ""), ""), notice.language)
        for code, heading in STATEMENTS.items()
    }


def _signature(consent: Consent) -> str:
    """How the person signed; "" where nothing was: a yes by phone has no signature."""
    if consent.given_by == Consent.GivenBy.PORTAL:
        if consent.signature:
            return _("Electronic: signed with a passkey that checked who used it.")
        return _("Electronic: signed in to the portal, and pressed the button that agrees.")
    if consent.scan is not None:
        return _("On paper; the hospital keeps the paper, and its fingerprint is below.")
    return ""


def _authority(consent: Consent) -> str:
    named = AUTHORITIES.get(consent.authority)
    if named is None:
        return ""
    who = consent.representative.name if consent.representative else ""
    return f"{named}: {who}" if who else str(named)


def _standing(consent: Consent) -> str:
    if consent.stopped_at is not None:
        return _("It was stopped on %(when)s. From then on it authorizes nothing.") % {
            "when": _moment(consent.stopped_at)
        }
    if consent.ledger_state == Consent.LedgerState.SUPERSEDED:
        return _("A later choice took its place.")
    if consent.expires_at is not None and consent.expires_at <= timezone.now():
        return _("It has ended. It authorizes nothing any more.")
    return _("It is in force since %(when)s.") % {"when": _moment(consent.granted_at)}


def _part2_notice() -> str:
    return _(
        "This record is protected by federal rules (42 CFR part 2). It may not be used or disclosed in a"
        " civil, criminal, administrative or legislative proceeding against the patient, unless the patient"
        " consents in writing or a court orders it."
    )


def _moment(at: datetime | None) -> str:
    return date_format(timezone.localtime(at), "DATETIME_FORMAT") if at else ""

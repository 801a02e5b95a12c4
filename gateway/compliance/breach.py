"""When an AI provider lost what it received: who was affected, and a notice that is drafted from the log.

The draft has what the log knows. What it cannot know stands in it as a gap for the officer to fill: the day
it was found, what happened, what was done. Its parts are those of 45 CFR 164.404(c)(1) and of GDPR articles
33(3) and 34(2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from consent.explanation import KINDS, SENSITIVE
from consent.models import Patient, Requester
from gateway.compliance import uses
from gateway.compliance.uses import DELIVERED, STEPS, Use
from gateway.documents.report import Report, Section, Table
from gateway.documents.tables import as_csv
from ledger.audit.export import Selection


@dataclass(frozen=True)
class Affected:
    """One patient of whom the provider received something, and each time it did."""

    patient: Patient
    uses: Sequence[Use]

    @property
    def kinds(self) -> list[str]:
        """What it was made from, in plain words."""
        given = [use.consent for use in self.uses if use.consent]
        kinds = {kind for each in given for kind in each.kinds if kind in KINDS}
        private = {code for each in given for code in each.sensitive if code in SENSITIVE}
        names = [*(KINDS[kind].name for kind in kinds), *(SENSITIVE[code].name for code in private)]
        return sorted(str(name) for name in names)


def selection_of(requester: Requester) -> Selection:
    return Selection(about=("requester", str(requester.pk)))


def affected_by(requester: Requester, *, since: date | None, until: date | None) -> list[Affected]:
    """Whoever something was delivered of within these days, by name."""
    rows = selection_of(requester).rows().filter(kind__in=STEPS).order_by("pk")
    bounds = uses.between(since, until)
    first, last = bounds.get("recorded_at__gte"), bounds.get("recorded_at__lte")
    found: dict[str, list[Use]] = {}
    patients: dict[str, Patient] = {}
    for use in uses.read(rows):
        at = use.at(DELIVERED)
        if at is None or use.patient is None or (first and at < first) or (last and at > last):
            continue
        patients[use.patient.pk] = use.patient
        found.setdefault(use.patient.pk, []).append(use)
    affected = [Affected(patients[id], each) for id, each in found.items()]
    return sorted(affected, key=lambda each: (each.patient.name, each.patient.pk))


COLUMNS = ("Patient", "Record number", "Results or copies", "First", "Last", "Made from", "References")


def as_table(affected: Sequence[Affected]) -> bytes:
    """CSV, one row for each patient; the columns' names are the same in every language, for programs."""
    return as_csv(
        COLUMNS,
        [
            (
                each.patient.name,
                each.patient.record_id or "",
                len(each.uses),
                timezone.localtime(each.uses[0].when).isoformat(timespec="seconds"),
                timezone.localtime(each.uses[-1].when).isoformat(timespec="seconds"),
                "; ".join(each.kinds),
                " ".join(use.key for use in each.uses),
            )
            for each in affected
        ],
    )


def report(
    requester: Requester, affected: Sequence[Affected], *, since: date | None, until: date | None
) -> Report:
    """The draft of the notice, with its gaps."""
    gap = _("[to be filled in]")
    lost = _("Something that %(who)s received was lost, or seen by others.") % {"who": requester.name}
    kinds = sorted({kind for each in affected for kind in each.kinds})
    copies = sum(use.exports for each in affected for use in each.uses)
    results = sum(len(each.uses) for each in affected) - copies
    days = {
        "first": date_format(since, "DATE_FORMAT") if since else "…",
        "last": date_format(until or timezone.localdate(), "DATE_FORMAT"),
    }
    facts = [
        [_("Patients affected"), str(len(affected)), "33(3)(a)"],
        [_("Results that were sent"), str(results), "33(3)(a)"],
        [_("De-identified copies that were sent"), str(copies), "33(3)(a)"],
        [_("Who received them"), f"{requester.name} {requester.contact}".strip(), "33(3)(a)"],
        [_("Sent between"), _("%(first)s to %(last)s.") % days, "33(3)(a)"],
    ]
    sections = [
        Section(
            _("What happened, and when it was found (164.404(c)(1)(A), 34(2))"),
            [lost, gap],
            table=Table([_("From the log"), _("Entry"), _("GDPR article")], facts, (1.4, 2.4, 0.8)),
        ),
        Section(
            _("Which information (164.404(c)(1)(B), 33(3)(a))"),
            [
                _("A result names nobody: no name, no record and no number of a record was in it."),
                _("It was made from these kinds of records:"),
            ],
            kinds or [_("none")],
        ),
        Section(_("What it may mean for you (33(3)(c))"), [gap]),
        Section(
            _("What you can do (164.404(c)(1)(C))"),
            items=[
                _("Stop sharing, in the portal or by phone."),
                _("Ask the company to delete what it got."),
                _("See every use of your records, with proof."),
            ],
        ),
        Section(_("What we do (164.404(c)(1)(D), 33(3)(d))"), [gap]),
        Section(
            _("Whom to ask (164.404(c)(1)(E), 33(3)(b))"),
            [
                f"{settings.CUSTODIAN} {settings.CUSTODIAN_ADDRESS}".strip(),
                _("Call %(phone)s.") % {"phone": settings.HELP_PHONE},
            ],
        ),
    ]
    about = [
        settings.CUSTODIAN,
        _("A draft, made on %(when)s from the log. It goes to nobody by itself.")
        % {"when": date_format(timezone.localtime(), "DATETIME_FORMAT")},
        _("Patients: within 60 days (HIPAA), and without delay (GDPR)."),
        _("The authority: within 72 hours (GDPR)."),
    ]
    return Report(_("Notice of a breach"), about, sections)

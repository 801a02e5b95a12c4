"""The accounting of disclosures, 45 CFR 164.528: every use of a patient's records, and which it asks for.

The rule exempts most of what happens here. We list all of it, and say row by row whether the rule asks for
it, under which paragraph, and why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from consent.explanation import KINDS, PURPOSES, SENSITIVE
from consent.models import Patient
from gateway.compliance import uses
from gateway.compliance.authorization import SUBSTANCE_USE, is_authorization
from gateway.compliance.uses import BLOCKED, DELIVERED, EMERGENCY, OWN_COPY, Use
from gateway.documents import Said, Text
from gateway.documents.report import Report, Section, Table
from gateway.documents.tables import as_csv
from gateway.emergency.models import Emergency

YEARS = 6
# Treatment, payment and operations: 164.528(a)(1)(i).
OPERATIONS = frozenset({"TREAT", "ETREAT", "CAREMGT", "HPAYMT", "HOPERAT"})


@dataclass(frozen=True)
class Verdict:
    """Whether 164.528 asks for the use to be accounted for, by which paragraph, and why."""

    required: bool
    rule: str
    why: str


def judge(use: Use) -> Verdict:
    """Where two rules would exempt it, the first of them is named."""
    if OWN_COPY in use.kinds:
        return Verdict(False, "164.528(a)(1)(ii)", _("It went to the patient"))
    if EMERGENCY in use.kinds:
        return _judge_emergency(use.emergency)
    if DELIVERED in use.kinds:
        return _judge_delivered(use)
    why = _("It was blocked") if use.kinds & BLOCKED else _("Nothing left the hospital")
    return Verdict(False, "164.528(a)(1)", why)


def _judge_delivered(use: Use) -> Verdict:
    if use.consent is not None and is_authorization(use.consent):
        return Verdict(False, "164.528(a)(1)(iv)", _("The patient authorized it (164.508)"))
    if use.exports:
        return Verdict(False, "164.502(d)(2)", _("The copy was de-identified (164.514)"))
    if use.purpose in OPERATIONS:
        return Verdict(False, "164.528(a)(1)(i)", _("Treatment, payment or operations"))
    return Verdict(True, "164.528(a)(1)", _("No exemption applies"))


def _judge_emergency(found: Emergency | None) -> Verdict:
    if found is None or found.opened_by_id is None:
        return Verdict(True, "164.528(a)(1)", _("Nobody of the hospital is known to have asked for it"))
    if found.outcome == Emergency.Outcome.NOT_JUSTIFIED:
        return Verdict(True, "164.528(a)(1)", _("A review found it not justified"))
    return Verdict(False, "164.528(a)(1)(i)", _("Treatment within the hospital"))


@dataclass(frozen=True)
class Row:
    """One use as 164.528(b)(2) describes a disclosure, and what we add."""

    use: Use
    recipient: str
    address: str
    description: str
    purpose: Text
    outcome: str
    verdict: Verdict
    part2: bool


def rows_of(patient: Patient, *, since: date, until: date) -> list[Row]:
    return [row_of(use) for use in uses.uses_of(patient, since=since, until=until)]


def period(since: date | None, until: date | None) -> tuple[date, date]:
    """The days that an accounting covers: at most six years back from its last day, 164.528(a)(1)."""
    until = until or timezone.localdate()
    try:
        first = until.replace(year=until.year - YEARS)
    except ValueError:  # 29 February
        first = until.replace(year=until.year - YEARS, day=28)
    return max(since or first, first), until


def row_of(use: Use) -> Row:
    kinds, sensitive = (use.consent.kinds, use.consent.sensitive) if use.consent else ([], [])
    names = [*(KINDS[kind].name for kind in kinds if kind in KINDS)]
    names += [SENSITIVE[code].name for code in sensitive if code in SENSITIVE]
    is_person = bool(use.kinds & {EMERGENCY, OWN_COPY})
    recipient, address = _recipient(use)
    described = _("All records") if is_person else ", ".join(str(name) for name in names)
    if DELIVERED in use.kinds:
        form = _("A de-identified copy of: %(kinds)s") if use.exports else _("A result made from: %(kinds)s")
        described = form % {"kinds": described}
    return Row(
        use=use,
        recipient=recipient,
        address=address,
        description=described or _("none"),
        purpose=_purpose_of(use),
        outcome=_outcome(use),
        verdict=judge(use),
        part2=bool(SUBSTANCE_USE & set(sensitive)) and DELIVERED in use.kinds,
    )


def _recipient(use: Use) -> tuple[str, str]:
    """Who received it, and the address as far as it is known."""
    if use.requester is not None:
        return use.requester.name, use.requester.contact or _("address not known")
    if OWN_COPY in use.kinds:
        return _("The patient"), ""
    return settings.CUSTODIAN, settings.CUSTODIAN_ADDRESS


def _purpose_of(use: Use) -> Text:
    """The asker's words; where there are none, the standard's or ours."""
    if use.consent is not None and use.consent.request.what_for:
        return Said(use.consent.request.what_for, use.consent.request.language)
    if use.purpose in PURPOSES:
        return str(PURPOSES[use.purpose])
    if EMERGENCY in use.kinds:
        return _("Emergency care")
    return _("The patient asked for a copy") if OWN_COPY in use.kinds else _("not known")


def _outcome(use: Use) -> str:
    if EMERGENCY in use.kinds:
        return _("Emergency access")
    if OWN_COPY in use.kinds:
        return _("Own copy")
    if DELIVERED in use.kinds:
        return _("Copy sent") if use.exports else _("Result sent")
    if "job.stopped" in use.kinds:
        return _("Stopped; its result was not released")
    return _("Blocked") if use.kinds & BLOCKED else _("Records were opened; no result left")


COLUMNS = ("When", "Recipient", "Address", "Description", "Purpose", "Outcome", "Required", "Rule", "Why",
           "42 CFR Part 2", "Reference", "Place in the log")  # fmt: skip


def as_table(rows: Sequence[Row]) -> bytes:
    """CSV, one row for each use; the columns' names are the same in every language, for programs."""
    return as_csv(
        COLUMNS,
        [
            (
                timezone.localtime(row.use.when).isoformat(timespec="seconds"),
                row.recipient, row.address, row.description, row.purpose, row.outcome,
                "yes" if row.verdict.required else "no", row.verdict.rule, row.verdict.why,
                "yes" if row.part2 else "no", row.use.key,
                " ".join(str(step.leaf) for step in row.use.steps if step.leaf is not None),
            )
            for row in rows
        ],
    )  # fmt: skip


def report(patient: Patient, rows: Sequence[Row], *, since: date, until: date) -> Report:
    required = [row for row in rows if row.verdict.required]
    days = {"first": date_format(since, "DATE_FORMAT"), "last": date_format(until, "DATE_FORMAT")}
    about = [
        patient.name,
        _("%(first)s to %(last)s.") % days,
        f"{settings.CUSTODIAN} {settings.CUSTODIAN_ADDRESS}".strip(),
        _("Made on %(when)s.") % {"when": date_format(timezone.localtime(), "DATETIME_FORMAT")},
        _("Every use is listed. %(all)d in all; the rule asks for %(required)d of them.")
        % {"all": len(rows), "required": len(required)},
    ]
    columns = [_("When"), _("Who received it, and address"), _("What"), _("What for"), _("What came of it"),
               _("Asked for by 45 CFR 164.528?")]  # fmt: skip
    widths = (1.2, 1.4, 1.8, 1.8, 1.2, 1.6)
    sections = [
        Section(
            _("Disclosures that the rule asks for"),
            text=[] if required else [_("There are none.")],
            table=_table(columns, required, widths),
        ),
        Section(
            _("All uses"), text=[] if rows else [_("There are none.")], table=_table(columns, rows, widths)
        ),
    ]
    return Report(_("Accounting of disclosures"), about, sections, wide=True)


def _table(columns: list[str], rows: Sequence[Row], widths: Sequence[float]) -> Table | None:
    if not rows:
        return None
    cells = []
    for row in rows:
        asked = _("Yes") if row.verdict.required else _("No")
        judged = f"{asked}. {row.verdict.why} ({row.verdict.rule})."
        part2 = _("42 CFR Part 2 applies.") if row.part2 else ""
        cells.append(
            [
                date_format(timezone.localtime(row.use.when), "DATETIME_FORMAT"),
                f"{row.recipient}\n{row.address}".strip(),
                row.description,
                row.purpose,
                row.outcome,
                f"{judged} {part2}".strip(),
            ]
        )
    return Table(columns, cells, widths)

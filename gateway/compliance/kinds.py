"""What can be exported: kind → who may ask for it and read it → what it is about → how its files are made.

To add an export, add a row to KINDS. Every kind goes into the same bundle: its files, the rows of the log
that they rest on, and the proofs. `needs` are fields of `Export` that have to be named, `takes` those that
may be.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from consent.models import Consent, Patient, Requester
from gateway.analysis.models import AIModel
from gateway.compliance import accounting, ai_act, authorization, breach, fhir, package, register, uses
from gateway.compliance.models import Export
from ledger.audit.bundle import Attached
from ledger.audit.export import Selection
from ledger.errors import InvalidInput

OFFICERS = frozenset({"compliance"})
READERS = frozenset({"compliance", "auditor"})


@dataclass(frozen=True)
class Kind:
    """`asks` and `reads` are roles of the staff."""

    name: Promise
    about: Promise
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    files: Callable[[Export], Sequence[Attached]]
    rows: Callable[[Export], Selection]
    # Raises GatewayError where it cannot be made, before anything is promised.
    check: Callable[[Export], object] = lambda _export: None
    asks: frozenset[str] = OFFICERS
    reads: frozenset[str] = OFFICERS


def may_read(export: Export, roles: Collection[str]) -> bool:
    """Whether somebody in one of these roles may have the file: an auditor has none about one patient."""
    is_personal = export.patient_id is not None or export.consent_id is not None
    return bool(of(export).reads & set(roles) & (OFFICERS if is_personal else READERS))


def of(export: Export) -> Kind:
    """Raises InvalidInput."""
    found = KINDS.get(export.kind)
    if found is None:
        raise InvalidInput(_("There is no such kind of export."), code="export_kind")
    return found


# Which rows of the log an export rests on


def _period(export: Export) -> Selection:
    """The whole log, or these days of it, without a gap."""
    bounds = uses.between(export.since, export.until)
    until = bounds.get("recorded_at__lte")
    return Selection(since=bounds.get("recorded_at__gte"), until=until and until + timedelta(microseconds=1))


def _all(export: Export) -> Selection:
    return Selection()


def _of_patient(export: Export) -> Selection:
    return Selection(about=("subject", _patient(export).pseudonym))


def _of_question(export: Export) -> Selection:
    return Selection(about=("request", _consent(export).request_id))


def _of_requester(export: Export) -> Selection:
    return breach.selection_of(_requester(export))


def _of_model(export: Export) -> Selection:
    return ai_act.selection_of(_model(export))


def _chosen(export: Export) -> Selection:
    """About one patient or one client, within the days that are named; else a part of the log."""
    days = _period(export)
    if export.patient is not None:
        return Selection(days.since, days.until, ("subject", export.patient.pseudonym))
    if export.requester_id is not None:
        return Selection(days.since, days.until, ("requester", str(export.requester_id)))
    return days


# The files


def _log(export: Export) -> list[Attached]:
    return []


def _accounting(export: Export) -> list[Attached]:
    patient = _patient(export)
    since, until = accounting.period(export.since, export.until)
    rows = accounting.rows_of(patient, since=since, until=until)
    made = accounting.report(patient, rows, since=since, until=until)
    return [
        Attached("accounting.pdf", "the accounting of disclosures, to read", [made.as_pdf(export.language)]),
        Attached("accounting.csv", "the same as a table", [accounting.as_table(rows)]),
    ]


def _authorization(export: Export) -> list[Attached]:
    consent = _consent(export)
    made = authorization.report(consent).as_pdf(export.language)
    return [
        Attached("authorization.pdf", "the authorization, element by element", [made]),
        Attached("consent.ndjson", "the consent as FHIR R4", fhir.ndjson([fhir.consent(consent)])),
    ]


def _package(export: Export) -> list[Attached]:
    patient = _patient(export)
    found = package.gather(patient)
    made = package.report(patient, found)
    return [
        Attached("package.pdf", "what is done with a person's data", [made.as_pdf(export.language)]),
        Attached("package.html", "the same as a page", [made.as_html(export.language)]),
        Attached("package.json", "the same as data", [package.as_json(found)]),
    ]


def _fhir(export: Export) -> list[Attached]:
    patient = _patient(export)
    found = uses.uses_of(patient, since=export.since, until=export.until)
    return [
        Attached("Consent.ndjson", "answers, FHIR R4", fhir.ndjson(fhir.consents(patient))),
        Attached(
            "AuditEvent.ndjson", "uses, FHIR R4, IHE BALP", fhir.ndjson(fhir.audit_events(patient, found))
        ),
        Attached(
            "Provenance.ndjson", "whose answer, whose result", fhir.ndjson(fhir.provenances(patient, found))
        ),
    ]


def _register(export: Export) -> list[Attached]:
    day, since = export.until or timezone.localdate(), export.since
    activities = register.on(day)
    changed = register.changes(register.on(since), activities) if since else []
    made = register.report(day, activities, since, changed)
    return [
        Attached("register.pdf", "the register, to read", [made.as_pdf(export.language)]),
        Attached("register.csv", "the same as a table", [register.as_table(activities)]),
        Attached("register.json", "the same as data", [register.as_json(day, activities, since, changed)]),
    ]


def _ai_act(export: Export) -> list[Attached]:
    model = _model(export)
    events = list(ai_act.events_of(model))
    found = ai_act.summary(model, events)
    made = ai_act.report(model, found, events)
    return [
        Attached("model-log.pdf", "the model's lifetime, to read", [made.as_pdf(export.language)]),
        Attached("model-log.csv", "every entry as a table", [ai_act.as_table(events)]),
        Attached("model-log.json", "the model and its uses as data", [package.as_json(found)]),
    ]


def _breach(export: Export) -> list[Attached]:
    requester, since, until = _requester(export), export.since, export.until
    affected = breach.affected_by(requester, since=since, until=until)
    made = breach.report(requester, affected, since=since, until=until)
    return [
        Attached("notice.pdf", "a draft of the notice", [made.as_pdf(export.language)]),
        Attached("notice.html", "the same to go on writing", [made.as_html(export.language)]),
        Attached("affected.csv", "who was affected", [breach.as_table(affected)]),
    ]


def _patient(export: Export) -> Patient:
    assert export.patient is not None
    return export.patient


def _consent(export: Export) -> Consent:
    assert export.consent is not None
    return export.consent


def _requester(export: Export) -> Requester:
    assert export.requester is not None
    return export.requester


def _model(export: Export) -> AIModel:
    """Raises InvalidInput."""
    found = AIModel.objects.filter(digest=export.model).select_related("provider").first()
    if found is None:
        raise InvalidInput(_("There is no model of this digest."), code="unknown_model")
    return found


KINDS: dict[str, Kind] = {
    "accounting": Kind(
        _("Accounting of disclosures (HIPAA)"),
        _("Every use of a patient's records, and which of them 45 CFR 164.528 asks for. Six years at most."),
        needs=("patient",),
        takes=("since", "until"),
        files=_accounting,
        rows=_of_patient,
    ),
    "authorization": Kind(
        _("Authorization (HIPAA, 42 CFR Part 2)"),
        _("One yes, element by element. Refused where an element is missing."),
        needs=("consent",),
        takes=(),
        files=_authorization,
        rows=_of_question,
        check=lambda export: authorization.require(_consent(export)),
    ),
    "package": Kind(
        _("Access package (GDPR)"),
        _("What a patient may know under articles 15 and 20: a page, a PDF and data."),
        needs=("patient",),
        takes=(),
        files=_package,
        rows=_of_patient,
    ),
    "fhir": Kind(
        _("FHIR: Consent, AuditEvent, Provenance"),
        _("A patient's answers and uses as FHIR R4, in IHE's audit profiles."),
        needs=("patient",),
        takes=("since", "until"),
        files=_fhir,
        rows=_of_patient,
    ),
    "register": Kind(
        _("Register of processing activities (GDPR)"),
        _("Article 30, as it stood on a day, and what changed since an earlier one."),
        needs=(),
        takes=("since", "until"),
        files=_register,
        rows=_all,
        reads=READERS,
    ),
    "ai-act": Kind(
        _("Log of an AI model (EU AI Act)"),
        _("Every use of a model over its lifetime, and who judged its results."),
        needs=("model",),
        takes=(),
        files=_ai_act,
        rows=_of_model,
        check=_model,
        reads=READERS,
    ),
    "breach": Kind(
        _("Notice of a breach"),
        _("Of whom an AI provider received something, and a notice drafted from the log."),
        needs=("requester",),
        takes=("since", "until"),
        files=_breach,
        rows=_of_requester,
    ),
    "log": Kind(
        _("The audit log"),
        _("The log itself, or what it says of one patient, one AI provider or some days."),
        needs=(),
        takes=("patient", "requester", "since", "until"),
        files=_log,
        rows=_chosen,
        reads=READERS,
    ),
}

"""Every page of the portal and the staff site, in every state: one row each.

To add a page, add a row. A route that is in no row fails tests/browser/test_table.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from consent.models import Cohort, Conflict
from gateway.analysis.models import ModelRegistration, Output
from gateway.compliance.models import Alarm, Export, Retraining, RightsReview
from gateway.demo.states import Person
from gateway.portal.uses import RESULTS
from gateway.records.models import ImportRun
from ledger.audit.models import AuditRow
from tests.browser.gallery import Gallery


@dataclass(frozen=True)
class Page:
    """`route` as `who` sees it: a state of the catalogue, a role of the staff, or nobody signed in.

    `of` is whom the page is about, where that is somebody else. `status` is what it answers.
    """

    route: str
    who: str = ""
    of: str = ""
    query: str = ""
    status: int = 200

    @property
    def about(self) -> str:
        """The state whose person the page is about."""
        return self.of or self.who

    @property
    def name(self) -> str:
        about = self.of and f"-of-{self.of}"
        what = self.query and "-" + "".join(letter if letter.isalnum() else "-" for letter in self.query)
        return f"{self.route}-{self.who or 'signed_out'}{about}{what}"

    def path(self, gallery: Gallery) -> str:
        about = gallery.people.get(self.about)
        kwargs = ARGUMENTS[self.route](gallery, about) if self.route in ARGUMENTS else {}
        return reverse(self.route, kwargs=kwargs) + (f"?{self.query}" if self.query else "")


def pages(route: str, *who: str, **fields: Any) -> list[Page]:
    """The same page as each of `who` sees it."""
    return [Page(route, each, **fields) for each in who]


Arguments = Callable[[Gallery, Any], dict[str, Any]]


def _question(gallery: Gallery, about: Person) -> dict[str, Any]:
    assert about.question is not None
    return {"id": about.question.pk}


def _consent(gallery: Gallery, about: Person) -> dict[str, Any]:
    assert about.consent is not None
    return {"id": about.consent.pk}


def _patient(gallery: Gallery, about: Person) -> dict[str, Any]:
    return {"id": about.patient.pk}


def _requester(gallery: Gallery, about: Any) -> dict[str, Any]:
    return {"id": gallery.stage.requester.pk}


def _notice(gallery: Gallery, about: Person) -> dict[str, Any]:
    assert about.question is not None
    return {"digest": about.question.notice.digest}


def _copy(gallery: Gallery, about: Person) -> dict[str, Any]:
    assert about.copy is not None
    return {"id": about.copy.pk}


def _output(gallery: Gallery, about: Person) -> dict[str, Any]:
    return {"id": Output.objects.get(subject__job=about.job).subject_id}


def _emergency(gallery: Gallery, about: Person) -> dict[str, Any]:
    assert about.emergency is not None
    return {"id": about.emergency.pk}


def _use(gallery: Gallery, about: Person) -> dict[str, Any]:
    row = AuditRow.objects.filter(subject=about.patient.pseudonym, kind__in=RESULTS).latest("pk")
    return {"key": row.step_of or str(row.pk)}


# Whom an export is about: a patient, the AI provider that got this patient's copy, or nobody.
EXPORTS = {"used": "accounting", "copied": "breach", "": "log"}

# Route -> what its address needs.
ARGUMENTS: Mapping[str, Arguments] = {
    "invitation": lambda gallery, about: {"code": about.code},
    "notice": _notice,
    "question": _question,
    "choose": _question,
    "understand_one": lambda gallery, about: {**_question(gallery, about), "number": 1},
    "check": _question,
    "done": _question,
    "use": _use,
    "own_copy_of": _copy,
    "own_copy_page": _copy,
    "proof": _use,
    "choice": _consent,
    "change": _consent,
    "staff_request": _question,
    "staff_requester": _requester,
    "staff_change_requester": _requester,
    "staff_new_client": _requester,
    "staff_client_keys": lambda gallery, about: {
        "id": gallery.stage.requester.pk,
        "client": gallery.stage.requester.clients.get().application.client_id,
    },
    "staff_new_answer_step": lambda gallery, about: {"step": "who"},
    "staff_answer": _consent,
    "staff_cohort": lambda gallery, about: {"id": Cohort.objects.get(state="written").pk},
    "staff_model": lambda gallery, about: {"id": ModelRegistration.objects.get().pk},
    "staff_import": lambda gallery, about: {"id": ImportRun.objects.get(state="done").pk},
    "staff_conflict": lambda gallery, about: {"id": Conflict.objects.get(patient=about.patient).pk},
    "staff_representatives": _patient,
    "staff_passkeys": _patient,
    "staff_password": _patient,
    "staff_labels": _patient,
    "staff_result": _output,
    "staff_new_representative": _patient,
    "staff_emergency": _patient,
    "staff_emergency_who": _patient,
    "staff_emergency_open": _emergency,
    "staff_emergency_records": lambda gallery, about: {**_emergency(gallery, about), "kind": "Observation"},
    "staff_emergency_review": _emergency,
    "staff_patient": _patient,
    "staff_alarm": lambda gallery, about: {"id": Alarm.objects.latest("seen_at").pk},
    "model": lambda gallery, about: {"digest": gallery.stage.model.pk},
    "staff_traced": lambda gallery, about: {"kind": "patient", **_patient(gallery, about)},
    "staff_rights_review": lambda gallery, about: {
        "id": RightsReview.objects.get(of=gallery.staff["clinician"]).pk
    },
    "staff_ticket": lambda gallery, about: {"id": Retraining.objects.get().pk},
    "staff_new_export": lambda gallery, about: {"kind": "accounting" if about else "ai-act"},
    "staff_export": lambda gallery, about: {
        "id": Export.objects.filter(kind=EXPORTS[about.state if about else ""]).latest("asked_at").pk
    },
}

# States whose question, or whose answer, has a page of its own.
ASKED = (
    "waiting", "due_today", "sharing", "partly", "refused", "expired", "stopped", "replaced", "taken_back",
    "not_answered", "ticked", "waiting_to_be_sealed", "stop_waits", "used_up", "stopped_midway",
    "written_down", "written_down_by_mistake",
)  # fmt: skip
ANSWERED = (
    "sharing", "partly", "refused", "expired", "stopped", "replaced", "waiting_to_be_sealed", "stop_waits",
    "used_up", "stopped_midway", "represented", "disagreed", "written_down", "written_down_by_mistake",
)  # fmt: skip
LISTED = ("nothing_asked", "waiting", "sharing", "taken_back", "not_answered", "stop_waits", "written_down")

PORTAL = [
    Page("start"),
    Page("start", "sharing"),
    Page("help"),
    Page("help", "sharing"),
    Page("invitation", of="invited"),
    Page("notice", of="waiting"),
    *pages("home", *LISTED, "used", "due_today", "emergency"),
    *pages("requests", *LISTED),
    *pages("question", *ASKED),
    Page("question", "sharing", of="waiting", status=404),
    Page("question", "in_review", status=404),
    *pages("choose", "waiting", "due_today", "written_down_by_mistake"),
    *pages("understand_one", "ticked", "misread", "understood"),
    *pages("check", "understood"),
    *pages("done", *(name for name in ANSWERED if name != "written_down_by_mistake")),
    *pages("choices", *LISTED, "replaced", "expired", "waiting_to_be_sealed"),
    *pages("choice", *ANSWERED, "copied"),
    Page("choice", "refused", of="sharing", status=404),
    *pages("change", "sharing", "partly"),
    *pages("access", "nothing_asked", "used", "used_up", "stopped_midway", "blocked", "emergency_reviewed"),
    Page("access", "used", query="show=blocked"),
    *pages("use", "used", "used_up", "stopped_midway", "blocked", "proof_differs", "copied"),
    *pages("use", "emergency", "emergency_reviewed"),
    *pages("news", "nothing_asked", "used", "emergency", "stopped_midway"),
    *pages("settings", "sharing"),
    *pages("people", "nothing_asked", "representing", "represented"),
    *pages("models", "nothing_asked", "used", "stopped_midway", "blocked"),
    *pages("model", "used", "stopped_midway"),
    *pages("copies", "nothing_asked", "copied"),
    *pages("record_used", "used"),
    *pages("own_copy", "nothing_asked", "own_copy"),
    *pages("own_copy_of", "own_copy"),
    *pages("own_copy_page", "own_copy"),
    *pages("proof", "used", "stopped_midway", "blocked", "proof_differs"),
    Page("proof_check"),
    # Staff keep their own menu on the pages for everyone.
    *pages("help", "clinician"),
    *pages("proof_check", "clinician"),
    *pages("settings", "clinician"),
]

STAFF = [
    Page("staff_queue", "reviewer"),
    Page("staff_queue", "reviewer", query="show=information"),
    Page("staff_queue", "reviewer", query="show=mine"),
    Page("staff_queue", "auditor"),
    *pages("staff_request", "reviewer", "auditor", of="in_review"),
    Page("staff_request", "reviewer", of="sent_back"),
    Page("staff_request", "reviewer", of="taken_back"),
    *pages("staff_cohorts", "reviewer", "auditor"),
    *pages("staff_cohort", "reviewer", "auditor"),
    *pages("staff_models", "reviewer", "administrator"),
    *pages("staff_model", "reviewer", "auditor"),
    *pages("staff_requesters", "reviewer", "administrator"),
    *pages("staff_requester", "reviewer", "administrator"),
    Page("staff_new_requester", "administrator"),
    Page("staff_change_requester", "administrator"),
    Page("staff_new_client", "administrator"),
    Page("staff_client_keys", "administrator"),
    *pages("staff_answers", "clinician", "compliance"),
    *pages("staff_answer", "clinician", "compliance", of="written_down"),
    Page("staff_answer", "clinician", of="written_down_by_mistake"),
    Page("staff_new_answer_step", "clinician"),
    *pages("staff_patients", "clinician"),
    Page("staff_new_patient", "clinician"),
    *pages("staff_patient", "clinician", of="sharing"),
    *pages("staff_patient", "clinician", of="invited"),
    *pages("staff_results", "clinician"),
    Page("staff_result", "clinician", of="used"),
    Page("staff_passkeys", "clinician", of="sharing"),
    Page("staff_password", "clinician", of="sharing"),
    *pages("staff_labels", "clinician", of="sharing"),
    *pages("staff_labels", "clinician", of="partly"),
    *pages("staff_dashboard", "compliance"),
    *pages("staff_conflicts", "reviewer", "auditor"),
    *pages("staff_erasures", "compliance", "auditor"),
    Page("staff_imports", "administrator"),
    Page("staff_import", "administrator"),
    *pages("staff_conflict", "reviewer", of="disagreed"),
    *pages("staff_representatives", "clinician", of="represented"),
    *pages("staff_representatives", "clinician", of="sharing"),
    *pages("staff_new_representative", "clinician", of="sharing"),
    *pages("staff_emergency", "clinician", of="sharing"),
    *pages("staff_emergency_who", "clinician", of="sharing"),
    *pages("staff_emergency_open", "clinician", of="emergency"),
    *pages("staff_emergency_open", "clinician", of="emergency_reviewed"),
    *pages("staff_emergency_records", "clinician", of="emergency"),
    *pages("staff_emergency_review", "compliance", of="emergency"),
    *pages("staff_emergency_review", "compliance", of="emergency_reviewed"),
    *pages("staff_alarms", "compliance", "auditor"),
    *pages("staff_alarm", "compliance", "auditor"),
    *pages("staff_rights", "compliance", "auditor"),
    *pages("staff_rights_review", "compliance", "auditor"),
    Page("staff_trace", "compliance"),
    *pages("staff_traced", "compliance", of="used"),
    *pages("staff_traced", "compliance", of="emergency"),
    *pages("staff_retraining", "compliance", "auditor"),
    *pages("staff_ticket", "compliance", "auditor"),
    *pages("staff_exports", "compliance", "auditor"),
    Page("staff_new_export", "compliance"),
    Page("staff_new_export", "compliance", of="used"),
    *pages("staff_export", "compliance", "auditor"),
    *pages("staff_export", "compliance", "auditor", of="used"),
    Page("staff_export", "compliance", of="copied"),
    Page("staff_register", "auditor"),
    Page("staff_register", "compliance", query="since=2026-01-01"),
    Page("staff_queue", "compliance", query="show=emergency"),
    Page("staff_queue", "sharing", status=403),
]

# Sign-in and what belongs to it, in our skin.
ACCOUNT = [
    Page("account_login"),
    Page("account_logout", "sharing"),
    Page("account_reset_password"),
    Page("account_email", "sharing"),
    Page("mfa_index", "sharing"),
    Page("mfa_list_webauthn", "sharing"),
    Page("providers", "sharing"),
]

PAGES = [*PORTAL, *STAFF, *ACCOUNT]

# Routes that show no page when they are opened: where they lead is a row above, or a journey shows it.
LEAD_ON: Mapping[str, str] = {
    "understand": "leads to the first question that is not understood, or to check",
    "language": "acts, then shows the page that it was pressed on",
    "ask_deletion": "acts, then shows choice",
    "receipt_json": "a file: tests/portal/test_receipts.py",
    "receipt_pdf": "a file: tests/portal/test_receipts.py",
    "access_file": "a file: tests/portal/test_access.py",
    "own_copy_file": "a file: tests/portal/test_own_copy.py",
    "act": "acts, then shows home or people",
    "told": "acts, then shows people",
    "end": "acts, then shows people",
    "staff_invite_representative": "acts, then shows a code once: tests/staff/test_representatives.py",
    "staff_agree_label": "acts, then shows staff_labels",
    "staff_refuse_label": "acts, then shows staff_labels",
    "staff_end_representative": "acts, then shows staff_representatives",
    "staff_decide_result": "acts, then shows staff_result",
    "accounting_file": "a file: tests/compliance/test_accounting.py",
    "staff_alarm_own": "acts, then shows staff_alarm",
    "staff_alarm_settle": "acts, then shows staff_alarm",
    "staff_trace_table": "a file: tests/compliance/test_trace.py",
    "staff_rights_own": "acts, then shows staff_rights_review",
    "staff_rights_settle": "acts, then shows staff_rights_review",
    "staff_mark": "acts, then shows staff_patient",
    "staff_ticket_own": "acts, then shows staff_ticket",
    "staff_ticket_ask": "acts, then shows staff_ticket",
    "staff_ticket_settle": "acts, then shows staff_ticket",
    "staff_export_file": "a file: tests/staff/test_exports.py",
    "staff_dashboard_csv": "a file: tests/staff/test_dashboard.py",
    "staff_evidence": "a file: tests/staff/test_representatives.py",
    "staff_confirm_deletion": "acts, then shows staff_requester",
    "signed_consent": "a file: tests/portal/test_signing.py",
    "proof_file": "a file: tests/portal/test_proof.py",
    "check_change": "needs what was chosen a page before: tests/browser/test_ways.py",
    "refuse": "acts, then shows done",
    "stop": "acts, then shows choice",
    "undo": "acts, then shows choice",
    "staff": "shows the first page that the role may see",
    "staff_own": "acts, then shows staff_request",
    "staff_approve": "acts, then shows staff_request",
    "staff_send_back": "acts, then shows staff_request",
    "staff_write_cohort": "acts, then shows staff_cohort",
    "staff_approve_cohort": "acts, then shows staff_cohort",
    "staff_send_back_cohort": "acts, then shows staff_cohort",
    "staff_approve_model": "acts, then shows staff_model",
    "staff_refuse_model": "acts, then shows staff_model",
    "staff_suspend_requester": "acts, then shows staff_requester",
    "staff_resume_requester": "acts, then shows staff_requester",
    "staff_propose_model": "acts, then shows staff_requester",
    "staff_suspend_model": "acts, then shows staff_requester",
    "staff_test_model": "acts, then shows staff_requester",
    "staff_new_answer": "shows the first step",
    "staff_withdraw": "acts, then shows staff_answer",
    "staff_mark_invalid": "acts, then shows staff_answer",
    "staff_scan": "a file: tests/staff/test_answers.py",
    "staff_invite_again": "acts, then shows a code once: tests/staff/test_providers_and_patients.py",
    "staff_emergency_why": "needs the two identifiers of a page before: tests/emergency",
    "staff_emergency_confirm": "acts, then shows staff_emergency_open",
    "staff_emergency_vouch": "needs a passkey: tests/emergency/test_signed.py",
    "staff_emergency_signed": "a file: tests/emergency/test_signed.py",
    "staff_emergency_end": "acts, then shows staff_emergency_open",
    "staff_emergency_judge": "acts, then shows staff_emergency_review",
    "staff_emergency_own": "acts, then shows staff_emergency_review",
    "staff_ask_erasure": "acts, then shows staff_patient",
    "staff_confirm_erasure": "acts, then shows staff_erasures",
    "staff_refuse_erasure": "acts, then shows staff_erasures",
    "staff_proof": "acts, then shows staff_patient",
    "staff_link": "acts, then shows staff_patient",
    "staff_referral": "acts, then shows a code once: tests/staff/test_providers_and_patients.py",
}

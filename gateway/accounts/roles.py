"""What members of staff may do: one group for each role, made after every migration.

ACTS is the staff site's table, act by act; ROLES the admin site's, model by model.
"""

from typing import Any

READ = ("view",)
WRITE = ("view", "add", "change")

# Act or page of the staff site -> the roles that may. A superuser counts as an administrator, and no more:
# whoever runs the machine does not decide for the clinic. Nobody has an act that stands in no row.
ACTS: dict[str, frozenset[str]] = {
    "see_queue": frozenset({"reviewer", "compliance", "auditor"}),
    "review": frozenset({"reviewer"}),
    "see_requesters": frozenset({"reviewer", "compliance", "auditor", "administrator"}),
    "change_requesters": frozenset({"administrator"}),
    "test_models": frozenset({"reviewer"}),
    "approve_models": frozenset({"reviewer", "administrator"}),
    "confirm_deletions": frozenset({"compliance", "administrator"}),
    "see_patients": frozenset({"clinician"}),
    "label_records": frozenset({"clinician"}),
    "reset_passkeys": frozenset({"clinician"}),
    "record_answers": frozenset({"clinician"}),
    "see_answers": frozenset({"clinician", "compliance", "auditor"}),
    "mark_invalid": frozenset({"compliance"}),
    "see_scans": frozenset({"clinician", "compliance"}),
    "see_representatives": frozenset({"clinician", "compliance"}),
    "change_representatives": frozenset({"clinician"}),
    "see_conflicts": frozenset({"reviewer", "compliance", "auditor"}),
    "settle_conflicts": frozenset({"reviewer"}),
    "see_results": frozenset({"clinician"}),
    "decide_results": frozenset({"clinician"}),
    "break_glass": frozenset({"clinician"}),
    "see_emergencies": frozenset({"compliance", "auditor"}),
    "review_emergencies": frozenset({"compliance"}),
    "see_alarms": frozenset({"compliance", "auditor"}),
    "judge_alarms": frozenset({"compliance"}),
    "mark_patients": frozenset({"clinician"}),
    "see_rights": frozenset({"compliance", "auditor"}),
    "review_rights": frozenset({"compliance"}),
    "see_trace": frozenset({"compliance"}),
    "see_retraining": frozenset({"compliance", "auditor"}),
    "settle_retraining": frozenset({"compliance"}),
    "see_exports": frozenset({"compliance", "auditor"}),
    "make_exports": frozenset({"compliance"}),
    "see_erasures": frozenset({"compliance", "auditor"}),
    "decide_erasures": frozenset({"compliance"}),
    "see_imports": frozenset({"administrator"}),
    "see_dashboard": frozenset({"reviewer", "compliance", "auditor", "administrator"}),
}
STAFF_ROLES = tuple(sorted(frozenset().union(*ACTS.values())))

# role -> model -> permissions. Rows of the ledger and of the audit log can only ever be read.
ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "clinician": {
        "consent.patient": WRITE,
        "consent.consentrequest": READ,
        "consent.consent": READ,
    },
    "reviewer": {
        "consent.consentrequest": READ,
        "consent.requester": READ,
        "consent.notice": READ,
        "analysis.aimodel": READ,
    },
    "auditor": {
        "consent.requester": READ,
        "consent.notice": READ,
        "consent.consentrequest": READ,
        "analysis.aimodel": READ,
        "ledger.ledgertransaction": READ,
        "audit.auditrow": READ,
        "audit.auditbatch": READ,
        "audit.incident": READ,
    },
    "administrator": {
        "consent.requester": WRITE,
        "consent.notice": READ,
        "accounts.aiclient": WRITE,
        "analysis.aimodel": WRITE,
    },
    "compliance": {
        "consent.patient": READ,
        "consent.requester": READ,
        "consent.notice": READ,
        "consent.consentrequest": READ,
        "consent.consent": READ,
        "analysis.aimodel": READ,
        "analysis.job": READ,
        "ledger.ledgertransaction": READ,
        "audit.auditrow": READ,
        "audit.auditbatch": READ,
        "audit.incident": READ,
    },
    "requesters": {
        "consent.requester": WRITE,
        "consent.notice": READ,
        "accounts.aiclient": WRITE,
        "analysis.aimodel": WRITE,
    },
}


def make_groups(**kwargs: Any) -> None:
    """Receiver of post_migrate: the groups exist and hold exactly these permissions."""
    from django.contrib.auth.models import Group, Permission

    known = {
        (permission.content_type.app_label, permission.codename): permission
        for permission in Permission.objects.select_related("content_type")
    }
    for role, models in ROLES.items():
        group, _ = Group.objects.get_or_create(name=role)
        names = [(*name.split("."), act) for name, acts in models.items() for act in acts]
        held = [known.get((label, f"{act}_{model}")) for label, model, act in names]
        group.permissions.set([permission for permission in held if permission])

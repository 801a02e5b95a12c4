"""What members of staff may do in the admin site: one group for each role, made after every migration."""

from typing import Any

READ = ("view",)
WRITE = ("view", "add", "change")

# role -> model -> permissions. Rows of the ledger and of the audit log can only ever be read.
ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "clinician": {
        "consent.patient": WRITE,
        "consent.consentrequest": READ,
        "consent.consent": READ,
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

    for role, models in ROLES.items():
        wanted = [
            Permission.objects.filter(
                content_type__app_label=label, content_type__model=model, codename=f"{act}_{model}"
            )
            for name, acts in models.items()
            for label, model in [name.split(".")]
            for act in acts
        ]
        group, _ = Group.objects.get_or_create(name=role)
        group.permissions.set([permission for found in wanted for permission in found])

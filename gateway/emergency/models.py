"""Break-glass: who opened whose records without a yes, why, until when, and what a second person said.

The ledger and the keyholder's log of openings are the truth; this row is what pages show of it.
"""

from django.conf import settings
from django.db import models

from consent.models import Patient, random_id


class Emergency(models.Model):
    """One emergency access. Its id is the access's on the ledger."""

    class State(models.TextChoices):
        ASKED = "asked"  # told to the patient and not yet known to be on the ledger: nothing opens
        RECORDED = "recorded"
        REFUSED = "refused"

    class Outcome(models.TextChoices):
        JUSTIFIED = "justified"
        NOT_JUSTIFIED = "not_justified"

    class Confirmed(models.TextChoices):
        """How whoever opened it confirmed that it was them; empty while a passkey may still sign."""

        PASSKEY = "passkey"
        SESSION = "session"  # by what they signed in with: the web process's word

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="emergencies")
    # Null: none of our pages asked for it. The relay heard of it from the ledger and the keyholder.
    opened_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    reason = models.CharField(max_length=20, help_text="v3-ActReason code")
    explanation = models.TextField(help_text="the clinician's words; the patient reads them")
    state = models.CharField(max_length=10, choices=State, default=State.ASKED)
    # As the keyholder is told, and as it says again once the ledger has it.
    confirmed = models.CharField(max_length=7, choices=Confirmed, blank=True)
    signature = models.JSONField(null=True, help_text="what the passkey answered")
    tx_id = models.CharField(max_length=64, blank=True)
    opened_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    # The review: due when, whose, by whom, with which outcome.
    review_by = models.DateTimeField()
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    reviewed_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=13, choices=Outcome, blank=True)
    outcome_reason = models.TextField(blank=True)

    class Meta:
        verbose_name_plural = "emergencies"
        indexes = [models.Index(fields=["reviewed_at", "review_by", "id"], name="emergency_queue")]

    def __str__(self) -> str:
        return f"emergency {self.state}"

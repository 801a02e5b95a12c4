"""Exports that somebody asked for, alarms and rights that somebody has to judge, and tickets of models to
train anew.

An export's row outlives its sealed file: who asked for what, and when it was made, is kept. The audit log
says the same, and is what alarms are found in.
"""

from django.conf import settings
from django.db import models

from consent.models import Consent, Patient, Requester, random_id


class Export(models.Model):
    """One export, of a kind of gateway/compliance/kinds.py, about what that kind has to be told."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        READY = "ready"
        FAILED = "failed"
        GONE = "gone"  # expired: the file is deleted

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    kind = models.CharField(max_length=20)
    patient = models.ForeignKey(Patient, null=True, on_delete=models.CASCADE, related_name="exports")
    consent = models.ForeignKey(Consent, null=True, on_delete=models.CASCADE, related_name="+")
    requester = models.ForeignKey(Requester, null=True, on_delete=models.CASCADE, related_name="+")
    model = models.CharField(max_length=64, blank=True, help_text="digest")
    # Days in the hospital's time zone, both included.
    since = models.DateField(null=True)
    until = models.DateField(null=True)
    language = models.CharField(max_length=10, help_text="of its documents")
    # Null: a command asked, on the machine itself.
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    state = models.CharField(max_length=8, choices=State, default=State.QUEUED)
    error_code = models.CharField(max_length=60, blank=True)
    # In somebody's hands until then, and how often somebody began: a maker that died is taken over from.
    lease_until = models.DateTimeField(null=True)
    tries = models.PositiveSmallIntegerField(default=0)
    # How far it is: rows of the log that are written, of how many.
    written = models.PositiveBigIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the file")
    size = models.PositiveBigIntegerField(default=0, help_text="bytes of the file")
    asked_at = models.DateTimeField(auto_now_add=True)
    made_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["state", "expires_at"]), models.Index(fields=["-asked_at", "-id"])]

    def __str__(self) -> str:
        return f"export {self.kind} {self.state}"


class ExportPart(models.Model):
    """A part of an export's file, sealed (gateway/compliance/sealed.py)."""

    export = models.ForeignKey(Export, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    sealed = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["export", "number"], name="one_part_of_export")]

    def __str__(self) -> str:
        return f"part {self.number}"


class Watched(models.Model):
    """How far into the sealed log one of its readers has come: a row for each (watching.py)."""

    leaf = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"watched up to {self.leaf}"


class Look(models.Model):
    """A member of staff saw something of a patient: what rules about an hour count. Kept for a day."""

    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["by", "at"])]

    def __str__(self) -> str:
        return "look"


SHORTEST = 15  # characters of the reason with which a case is closed


class Case(models.Model):
    """What a person has to judge, and closes with a reason: whose it is, and who closed it when."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    settled_at = models.DateTimeField(null=True)
    settled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    reason = models.TextField(blank=True)

    class Meta:
        abstract = True


class Alarm(Case):
    """A look that somebody else should judge: who, at whom, on which day; its owner; what was found."""

    class Kind(models.TextChoices):
        NIGHT = "night"
        OWN = "own"
        SURNAME = "surname"
        VOLUME = "volume"
        WELL_KNOWN = "well_known"

    class Outcome(models.TextChoices):
        EXPLAINED = "explained"
        MISUSE = "misuse"

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    kind = models.CharField(max_length=10, choices=Kind)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    # Whom they looked at last.
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="+")
    day = models.DateField()
    seen_at = models.DateTimeField()
    leaf = models.PositiveBigIntegerField(help_text="of the log's row")
    outcome = models.CharField(max_length=10, choices=Outcome, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "by", "patient", "day"], name="one_alarm_a_day")
        ]
        indexes = [models.Index(fields=["settled_at", "seen_at"], name="alarm_queue")]

    def __str__(self) -> str:
        return f"alarm {self.kind}"


class Retraining(Case):
    """A patient withdrew after a copy of her records had left: somebody sees to what learned from it.

    Which copies and which models those are is read from jobs and registrations each time (retraining.py);
    here is only who sees to it, and how it ended. `consent` leads to nothing once its patient was erased.
    """

    class State(models.TextChoices):
        OPEN = "open"
        ASKED = "asked"  # the AI provider was told, and reads it in its API
        SETTLED = "settled"

    class Outcome(models.TextChoices):
        RETRAINED = "retrained"  # anew, without the copy
        RETIRED = "retired"  # the versions are not used any more
        NOT_TRAINED = "not_trained"  # nothing learned from it
        KEPT = "kept"  # the versions stay, for the reason that is written down

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    consent = models.CharField(max_length=64, unique=True)
    requester = models.ForeignKey(Requester, on_delete=models.PROTECT, related_name="retrainings")
    state = models.CharField(max_length=7, choices=State, default=State.OPEN)
    withdrawn_at = models.DateTimeField()
    asked_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=11, choices=Outcome, blank=True)

    class Meta:
        indexes = [models.Index(fields=["state", "withdrawn_at"], name="retraining_queue")]

    def __str__(self) -> str:
        return f"retraining {self.state}"


class RightsReview(Case):
    """What one member of staff may do, looked at by somebody else (rights.py)."""

    class Outcome(models.TextChoices):
        CONFIRMED = "confirmed"
        TAKEN_AWAY = "taken_away"

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    of = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    # As they were when it was opened; once it is settled, as they were judged.
    roles = models.JSONField()
    opened_at = models.DateTimeField(auto_now_add=True)
    outcome = models.CharField(max_length=10, choices=Outcome, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["of"], condition=models.Q(settled_at=None), name="one_open_review"
            )
        ]
        indexes = [models.Index(fields=["settled_at", "opened_at"], name="rights_queue")]

    def __str__(self) -> str:
        return f"review of rights {self.outcome or 'open'}"

"""AI models, jobs and their sealed outputs. The table is the truth about a job, never the broker."""

import secrets

from django.conf import settings
from django.db import models

from consent.models import Cohort, ConsentRequest, Patient, Requester, random_id
from ledger.audit.models import AuditRow
from ledger.client import HOME


class AIModel(models.Model):
    """One version of one AI model, known by the digest of what runs."""

    class State(models.TextChoices):
        REGISTERING = "registering"
        APPROVED = "approved"
        SUSPENDED = "suspended"

    digest = models.CharField(primary_key=True, max_length=64)
    name = models.CharField(max_length=60)
    version = models.CharField(max_length=20)
    provider = models.ForeignKey(Requester, on_delete=models.PROTECT, related_name="models")
    card = models.JSONField()
    # The channels that were asked and have not approved it yet: no job of their patients is taken.
    pending_on = models.JSONField(default=list, blank=True, editable=False)
    state = models.CharField(max_length=12, choices=State, default=State.REGISTERING)
    # The hospital's own test: on how many people, and for how many the program was wrong.
    tested_people = models.PositiveIntegerField(null=True, blank=True)
    tested_wrong = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "AI model"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def title(self) -> str:
        """What it works out, in its card's words; else its name and version."""
        title = self.card.get("title")
        return title if isinstance(title, str) and title else str(self)


class ModelRegistration(models.Model):
    """A model version that a provider registered, or somebody here proposed; two people approve it, and then
    the ledger has it."""

    class State(models.TextChoices):
        WAITING = "waiting"
        ONCE = "once"  # one person approved it
        APPROVED = "approved"
        REFUSED = "refused"

    OPEN = (State.WAITING, State.ONCE)

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    requester = models.ForeignKey(Requester, on_delete=models.PROTECT, related_name="registrations")
    digest = models.CharField(max_length=64)
    name = models.CharField(max_length=60)
    version = models.CharField(max_length=20)
    card = models.JSONField(help_text="as the provider wrote it; the catalogue's where proposed here")
    # The provider's own test: on how many people, for how many it was wrong. None: proposed here.
    tested_people = models.PositiveIntegerField(null=True)
    tested_wrong = models.PositiveIntegerField(null=True)
    # The provider's word: the jobs whose copies it learned from. None: it did not say.
    trained_on = models.JSONField(null=True)
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    reasons = models.JSONField(default=list, help_text="codes of registrations.REASONS")
    first_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["requester", "digest", "-created_at"], name="registrations_of")]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Job(models.Model):
    """One analysis of the records of one or more patients, for one requester."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RELEASING = "releasing"
        RUNNING = "running"
        DELIVERING = "delivering"
        DONE = "done"
        DENIED = "denied"
        STOPPED = "stopped"
        FAILED = "failed"
        CANCELLED = "cancelled"

    SETTLED = (State.DONE, State.DENIED, State.STOPPED, State.FAILED, State.CANCELLED)
    UNDER_WAY = (State.RELEASING, State.RUNNING, State.DELIVERING)

    class Kind(models.TextChoices):
        ANALYSE = "analyse"  # the code comes to the records; only results leave
        EXPORT = "export"  # de-identified records leave
        SUMMARY = "summary"  # of many one result leaves, which tells of nobody

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    requester = models.ForeignKey(Requester, on_delete=models.PROTECT, related_name="jobs")
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.ANALYSE)
    model = models.CharField(max_length=64, blank=True, help_text="digest; an export has none")
    # Whose patients it is about, where the client named a cohort: it sees no number of them.
    cohort = models.ForeignKey(Cohort, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs")
    # Of an export: types, since, filters, and the address with which it was asked for.
    spec = models.JSONField(default=dict, blank=True)
    # Its results were deleted at the client's wish: there is nothing at its address any more.
    discarded_at = models.DateTimeField(null=True)
    purpose = models.CharField(max_length=20)
    use = models.JSONField(default=list)
    index_date = models.DateField()
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    error_code = models.CharField(max_length=60, blank=True)
    # The claim: who runs it until when, and the number that only grows (the fencing token).
    lease_until = models.DateTimeField(null=True)
    fence = models.PositiveIntegerField(default=0)
    # How many claims ended without a word: a job that kills its workers is given up in the end.
    lost = models.PositiveIntegerField(default=0)
    # Not before, while it waits; and when it was last handed to the broker, which may forget it.
    retry_at = models.DateTimeField(null=True)
    enqueued_at = models.DateTimeField(null=True)
    cancel_requested = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["state", "lease_until"]),
            models.Index(fields=["requester", "-created_at"]),
            models.Index(fields=["model", "-created_at"], name="jobs_of_model"),
        ]

    def __str__(self) -> str:
        return f"job {self.state}"


class Leg(models.Model):
    """A part of a job on one channel, with attempts, a release and a delivery of its own.

    A channel has one leg, or as many as its consents need transactions. To keyholder and ledger each is a job
    of its own. Its id is random, so that nobody can tell from one channel that the job had legs on others;
    the first leg on home has the job's own.
    """

    class State(models.TextChoices):
        OPEN = "open"
        DELIVERING = "delivering"
        DONE = "done"
        DENIED = "denied"
        STOPPED = "stopped"

    UNDER_WAY = (State.OPEN, State.DELIVERING)

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="legs")
    channel = models.CharField(max_length=40, default=HOME)
    number = models.PositiveIntegerField(default=0, help_text="place among the channel's")
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "channel", "number"], name="one_leg_per_place")]

    def __str__(self) -> str:
        return f"leg {self.state}"


class JobSubject(models.Model):
    """One patient within one job, under the only name that the client sees."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RELEASED = "released"
        COMPUTED = "computed"
        DELIVERED = "delivered"
        NOT_AVAILABLE = "not_available"

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="subjects")
    leg = models.ForeignKey(Leg, on_delete=models.CASCADE, related_name="subjects")
    number = models.PositiveIntegerField(help_text="place in the client's list")
    asked = models.CharField(
        max_length=64,
        blank=True,
        help_text="the consent request's id, as the client named it; of a cohort none",
    )
    # Null where the client has no such request. It goes the same way as any other, under the id of nobody.
    request = models.ForeignKey(ConsentRequest, null=True, on_delete=models.PROTECT, related_name="+")
    patient = models.ForeignKey(Patient, null=True, on_delete=models.CASCADE, related_name="+")
    nobody = models.CharField(max_length=64, default=random_id, editable=False)
    # The consent of the last release that let her in: from then on her records may have been seen.
    consent = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=13, choices=State, default=State.QUEUED)
    # For staff and the patient only; a client sees `not_available`.
    reasons = models.JSONField(default=list)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="one_subject_per_place")]
        indexes = [models.Index(fields=["consent"], name="subjects_of_consent")]

    def __str__(self) -> str:
        return f"subject {self.state}"

    @property
    def keyholder_patient(self) -> str:
        """The id under which the keyholder is asked: a stranger to it where there is no such patient."""
        return self.patient_id or self.nobody


class Attempt(models.Model):
    """One try at a leg: its own release on the ledger."""

    leg = models.ForeignKey(Leg, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    # Empty until the release is known to stand; the number is used again as long as it is.
    release_tx = models.CharField(max_length=64, blank=True)
    deliver_tx = models.CharField(max_length=64, blank=True)
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)
    end = models.CharField(max_length=60, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["leg", "number"], name="one_attempt_of_leg")]

    def __str__(self) -> str:
        return f"attempt {self.number}"


class Output(models.Model):
    """One subject's result (FHIR RiskAssessment and Provenance), sealed to the keyholder by the child."""

    subject = models.OneToOneField(JobSubject, on_delete=models.CASCADE, related_name="output")
    digest = models.CharField(max_length=64, db_index=True)
    sealed = models.BinaryField()
    delivered_at = models.DateTimeField(null=True)
    # The log's row of the first time that its requester was sent it.
    sent = models.ForeignKey(AuditRow, null=True, on_delete=models.PROTECT, related_name="+")

    def __str__(self) -> str:
        return "sealed output"


class Summary(models.Model):
    """One result about all the subjects of a leg that were computed, sealed to the keyholder by the child."""

    leg = models.OneToOneField(Leg, on_delete=models.CASCADE, related_name="summary")
    digest = models.CharField(max_length=64, db_index=True)
    sealed = models.BinaryField()
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "summaries"

    def __str__(self) -> str:
        return "sealed summary"


def random_key() -> bytes:
    return secrets.token_bytes(32)


class ExportKey(models.Model):
    """Names patients and moves dates for one recipient: what two of them hold cannot be put together."""

    requester = models.OneToOneField(Requester, on_delete=models.CASCADE, related_name="+")
    key = models.BinaryField(default=random_key)

    def __str__(self) -> str:
        return "export key"


class ResultReview(models.Model):
    """What a clinician says of a delivered result. None yet: it waits. It outlives the sealed result."""

    class State(models.TextChoices):
        ACCEPTED = "accepted"
        REJECTED = "rejected"
        WITHDRAWN = "withdrawn"  # accepted before, and found to be wrong since

    subject = models.OneToOneField(JobSubject, on_delete=models.CASCADE, related_name="review")
    state = models.CharField(max_length=9, choices=State)
    reason = models.CharField(max_length=20, blank=True, help_text="a code of results.REASONS")
    output = models.CharField(max_length=64, db_index=True, help_text="digest of the sealed result")
    reviewed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    reviewed_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["state", "-reviewed_at", "-id"], name="results_reviewed")]

    def __str__(self) -> str:
        return f"result {self.state}"

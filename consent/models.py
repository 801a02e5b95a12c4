"""Who decides, who asks, what was asked and what was answered.

Nothing here is the truth about a consent: the ledger is. These rows are the readable copies that
pages show, and the intents that the outbox carries to the ledger.
"""

import hashlib
import secrets
import uuid
from datetime import date
from typing import Any

from django.conf import settings
from django.db import models

from ledger.audit.log import pseudonym
from ledger.client import HOME
from ledger.contract.canonical import dumps
from ledger.errors import InvalidInput


def random_id() -> str:
    """32 random bytes in hex: an id that says nothing."""
    return secrets.token_hex(32)


def random_key() -> bytes:
    return secrets.token_bytes(32)


class Patient(models.Model):
    """A person whose records are here. Invited by the clinic, identity-proofed, linked to records."""

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="patient"
    )
    name = models.CharField(max_length=200)
    birth_date = models.DateField(null=True, blank=True)
    # The record that the clinic linked: the id of the FHIR Patient resource, unique within this custodian.
    record_id = models.CharField(max_length=64, unique=True, null=True, blank=True)
    # Where all her consents are, for ever; chosen when the row is made (consent/channels.py).
    channel = models.CharField(max_length=40, default=HOME, editable=False)
    invitation_digest = models.CharField(max_length=64, blank=True, db_index=True)
    invitation_expires = models.DateTimeField(null=True, blank=True)
    proofed_at = models.DateTimeField(null=True, blank=True)
    proofed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    # Names the patient in the audit log by HMAC; dies on erasure.
    audit_key = models.BinaryField(default=random_key)
    # The clinic proofed her again and dropped all her passkeys.
    passkeys_dropped_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @property
    def pseudonym(self) -> str:
        """This patient's name in the audit log."""
        return pseudonym(bytes(self.audit_key), self.id)


class Requester(models.Model):
    """An organisation that asks: an AI provider. Its FHIR reference is `Organization/<id>`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200)
    contact = models.CharField(max_length=200, blank=True)
    # v3-ActReason codes that were agreed with it; a question for another purpose is flagged at review.
    purposes = models.JSONField(default=list, blank=True)
    # From then on its questions and its jobs are not taken.
    suspended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @property
    def reference(self) -> str:
        return f"Organization/{self.id}"


class ReferralCode(models.Model):
    """With this code a requester may ask one patient once, without knowing who she is."""

    digest = models.CharField(primary_key=True, max_length=64)
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="referral_codes")
    requester = models.ForeignKey(Requester, on_delete=models.CASCADE, related_name="+")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return "referral code"


class Notice(models.Model):
    """The full text that a patient was shown, by version, language and hash; never changed."""

    slug = models.SlugField(max_length=60)
    version = models.PositiveIntegerField()
    language = models.CharField(max_length=10)
    title = models.CharField(max_length=200)
    text = models.TextField()
    digest = models.CharField(max_length=64, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slug", "version", "language"], name="one_notice")]

    def __str__(self) -> str:
        return f"{self.slug} {self.version} ({self.language})"

    def save(self, *args: object, **kwargs: object) -> None:
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        if self.digest not in ("", digest):
            raise InvalidInput("A notice is never changed: publish a new version.", code="notice_is_final")
        self.digest = digest
        super().save(*args, **kwargs)  # type: ignore[arg-type]


class Questions(models.QuerySet["ConsentRequest"]):
    """Questions, and whom they may be shown to."""

    def shown_to(self, patient: Patient) -> "Questions":
        """Those that this patient was asked: what is in review, or never passed it, is not hers to see."""
        return self.filter(patient=patient, asked_at__isnull=False)


class ConsentRequest(models.Model):
    """One question to one patient: may this requester use these records, for this, until then?

    A reviewer reads it before the patient does: REVIEW → PENDING (the patient is asked), or SENT_BACK.
    """

    class State(models.TextChoices):
        REVIEW = "review"
        SENT_BACK = "sent_back"
        PENDING = "pending"
        ANSWERED = "answered"
        WITHDRAWN = "withdrawn"
        EXPIRED = "expired"

    class Action(models.TextChoices):
        USE = "use"  # a computer program uses the records here
        DISCLOSE = "disclose"  # a copy of the records leaves, de-identified

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    requester = models.ForeignKey(Requester, on_delete=models.PROTECT, related_name="requests")
    action = models.CharField(max_length=8, choices=Action, default=Action.USE)
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="requests")
    notice = models.ForeignKey(Notice, on_delete=models.PROTECT, related_name="+")
    model = models.CharField(max_length=64, blank=True, help_text="digest; a copy is for no model")
    purpose = models.CharField(max_length=20, help_text="v3-ActReason code")
    use = models.JSONField(default=list, help_text="DUO codes")
    kinds = models.JSONField(default=list, help_text="FHIR resource types asked for")
    sensitive = models.JSONField(default=list, help_text="v3-ActCode sensitivity codes asked for")
    what_for = models.CharField(max_length=300, help_text="in plain words")
    who_sees = models.CharField(max_length=300, blank=True)
    what_can_go_wrong = models.TextField(blank=True)
    share_until = models.DateField()
    answer_by = models.DateField()
    signature_required = models.BooleanField(
        default=False, help_text="only a yes signed with a passkey counts"
    )
    state = models.CharField(max_length=10, choices=State, default=State.REVIEW)
    created_at = models.DateTimeField(auto_now_add=True)
    # The review: due when, whose, who decided, why it was sent back (codes), when the patient was asked.
    review_by = models.DateField(null=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    send_back_reasons = models.JSONField(default=list, blank=True)
    asked_at = models.DateTimeField(null=True, blank=True)

    objects = Questions.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["patient", "state"]),
            models.Index(fields=["state", "review_by", "id"], name="review_queue"),
        ]

    def __str__(self) -> str:
        return f"request of {self.requester}"


class Progress(models.Model):
    """How far an account is with a question that is not answered yet (consent/progress.py)."""

    request = models.ForeignKey(ConsentRequest, on_delete=models.CASCADE, related_name="progress")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    chosen = models.JSONField(default=dict, help_text="what was ticked: as services.grant takes it")
    asked = models.JSONField(default=dict, help_text="teach-back question: how often it was asked")
    understood = models.JSONField(default=list, help_text="teach-back questions that were answered right")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["request", "user"], name="one_progress")]

    def __str__(self) -> str:
        return "progress"

    @property
    def choice(self) -> dict[str, Any]:
        """What was ticked, as `services.grant` and `services.replace` take it."""
        until = self.chosen["until"]
        return {**self.chosen, "until": date.fromisoformat(until) if until else None}

    @property
    def shown(self) -> str:
        """SHA-256 of what was ticked, in hex: a page that shows something else is out of date."""
        return hashlib.sha256(dumps(self.chosen)).hexdigest()


class Scan(models.Model):
    """The paper behind an answer, encrypted at rest (consent/scans.py). Only its hash is anchored."""

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="scans")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the file")
    media_type = models.CharField(max_length=20)
    size = models.PositiveIntegerField(help_text="bytes of the file")
    sealed = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return "scan"


class Consent(models.Model):
    """The readable copy of one answer. `status` has FHIR's words; `ledger_state` is what the ledger holds."""

    class Status(models.TextChoices):
        PROPOSED = "proposed"
        ACTIVE = "active"
        REJECTED = "rejected"
        INACTIVE = "inactive"
        ENTERED_IN_ERROR = "entered-in-error"

    class LedgerState(models.TextChoices):
        NONE = "none"
        GRANTING = "granting"
        IN_FORCE = "in_force"
        REFUSED = "refused"
        REVOKING = "revoking"
        REVOKED = "revoked"
        SUPERSEDED = "superseded"

    class Duration(models.TextChoices):
        ONCE = "once"
        NINETY_DAYS = "90_days"
        UNTIL = "until"

    class GivenBy(models.TextChoices):
        PORTAL = "portal"
        PAPER = "paper"
        PHONE = "phone"

    class Authority(models.TextChoices):
        PATIENT = "patient"
        PARENT = "parent"
        GUARDIAN = "guardian"
        ATTORNEY = "attorney"

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    request = models.ForeignKey(ConsentRequest, on_delete=models.PROTECT, related_name="consents")
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="consents")
    channel = models.CharField(max_length=40, default=HOME, editable=False, help_text="the patient's")
    replaces = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="replaced_by"
    )
    status = models.CharField(max_length=20, choices=Status, default=Status.PROPOSED)
    ledger_state = models.CharField(max_length=12, choices=LedgerState, default=LedgerState.NONE)
    duration = models.CharField(max_length=10, choices=Duration, blank=True)
    kinds = models.JSONField(default=list, help_text="FHIR resource types given")
    sensitive = models.JSONField(default=list, help_text="v3-ActCode sensitivity codes given")
    fhir = models.JSONField(help_text="the FHIR R4 Consent, as given")
    # The full text that was shown, in the language in which it was read.
    notice = models.ForeignKey(Notice, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    # What the patient's passkey answered (ledger.webauthn.Assertion); the keyholder checks and keeps it too.
    signature = models.JSONField(null=True, blank=True, editable=False)
    # How the answer came, by whose authority, and which member of staff wrote it down (paper and phone).
    given_by = models.CharField(max_length=6, choices=GivenBy, default=GivenBy.PORTAL)
    authority = models.CharField(max_length=8, choices=Authority, default=Authority.PATIENT)
    recorded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    teach_back = models.JSONField(default=dict, help_text="teach-back question: how often it was asked")
    scan = models.ForeignKey(Scan, null=True, blank=True, on_delete=models.RESTRICT, related_name="consents")
    # Written down by mistake: it never was an answer, and the question is open again.
    invalid_at = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)
    granted_at = models.DateTimeField(null=True)
    stopped_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["patient", "decided_at"]),
            models.Index(fields=["request", "ledger_state"]),
        ]

    def __str__(self) -> str:
        return f"consent {self.status}"

    @property
    def shown_notice(self) -> Notice:
        """The full text that the patient was shown, in her language; before it was kept, the question's."""
        return self.notice or self.request.notice


class Deletion(models.Model):
    """The patient asks the requester to delete what it got under a consent that is over."""

    consent = models.OneToOneField(Consent, on_delete=models.CASCADE, related_name="deletion")
    asked_at = models.DateTimeField(auto_now_add=True)
    confirmed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return "deletion"


class News(models.Model):
    """One thing that a patient is told (consent/news.py): on her page, and by e-mail as she wants it."""

    class Kind(models.TextChoices):
        QUESTION = "question"
        SEALED = "sealed"
        NOT_SEALED = "not_sealed"
        STOPPED = "stopped"
        WRITTEN_DOWN = "written_down"  # by staff, as she said on paper or by phone
        USE = "use"
        BLOCKED = "blocked"
        RESULT = "result"
        EMERGENCY = "emergency"
        COPY = "copy"

    class Mail(models.TextChoices):
        DUE = "due"
        SENT = "sent"
        UNWANTED = "unwanted"

    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="news")
    kind = models.CharField(max_length=12, choices=Kind)
    about = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # The e-mail: rows that went out together have one letter, and keep it until it has arrived.
    mail = models.CharField(max_length=8, choices=Mail, default=Mail.DUE)
    letter = models.UUIDField(null=True)
    tries = models.PositiveSmallIntegerField(default=0)
    retry_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "news"
        indexes = [
            models.Index(fields=["patient", "-id"], name="news_of_patient"),
            models.Index(fields=["patient", "id"], condition=models.Q(mail="due"), name="news_due"),
        ]

    def __str__(self) -> str:
        return f"news: {self.kind}"

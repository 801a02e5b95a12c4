"""Who decides, who asks, what was asked and what was answered.

Nothing here is the truth about a consent: the ledger is. These rows are the readable copies that
pages show, and the intents that the outbox carries to the ledger.
"""

import hashlib
import secrets
import uuid
from datetime import date, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext as _

from consent.counting import draw_two
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
    # Many know her: each look by a member of staff is judged by another (gateway/compliance/alarms.py).
    well_known = models.BooleanField(default=False)
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

    @property
    def of_age_on(self) -> date | None:
        """The first day on which she decides alone, by AGE_OF_MAJORITY; None where her birthday is unknown.

        Born on 29 February: 28 February where there is no 29th, so that nobody decides for her too long.
        """
        if self.birth_date is None:
            return None
        year = self.birth_date.year + settings.AGE_OF_MAJORITY
        try:
            return self.birth_date.replace(year=year)
        except ValueError:
            return date(year, 2, 28)


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
            raise InvalidInput(_("A notice is never changed: publish a new version."), code="notice_is_final")
        self.digest = digest
        super().save(*args, **kwargs)  # type: ignore[arg-type]


class Questions(models.QuerySet["ConsentRequest"]):
    """Questions, and whom they may be shown to."""

    def shown_to(self, patient: Patient) -> "Questions":
        """Those that this patient was asked: what is in review, or never passed it, is not hers to see."""
        return self.filter(patient=patient, asked_at__isnull=False)

    def named_by(self, requester: Requester) -> "Questions":
        """Those that the requester knows one by one. Of a cohort it knows numbers, and no question's id."""
        return self.filter(requester=requester, cohort=None)


class Cohort(models.Model):
    """One question that a requester wants to put to many. Whom, the hospital decides, and finds (cohorts.py).

    PROPOSED → WRITTEN (a reviewer wrote the criteria and saw how many fit) → ASKING (another approved) →
    ASKED, or SENT_BACK.
    """

    class State(models.TextChoices):
        PROPOSED = "proposed"
        WRITTEN = "written"
        ASKING = "asking"
        ASKED = "asked"
        SENT_BACK = "sent_back"

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    requester = models.ForeignKey(Requester, on_delete=models.PROTECT, related_name="cohorts")
    question = models.JSONField(help_text="what asking.ask takes, dates as text")
    wish = models.CharField(max_length=500, help_text="whom the requester wants, in its own words")
    state = models.CharField(max_length=10, choices=State, default=State.PROPOSED)
    criteria = models.JSONField(default=dict, help_text="cohorts.Criteria")
    # How many the criteria found, and who of them is still to be asked, by patient id.
    found = models.PositiveIntegerField(null=True)
    chosen = models.JSONField(default=list)
    written_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    send_back_reasons = models.JSONField(default=list)
    # By how much its two numbers fall short (counting.py), and the second one as it was last told.
    short_by = models.JSONField(default=draw_two)
    told_in_force = models.PositiveIntegerField(null=True)
    told_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    approved_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["state", "created_at"], name="cohorts_waiting")]

    def __str__(self) -> str:
        return f"cohort of {self.requester}"


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
    cohort = models.ForeignKey(
        Cohort, null=True, blank=True, on_delete=models.PROTECT, related_name="requests"
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
    # A review of a disagreement put it again: answers from before then do not count (consent/conflicts.py).
    asked_anew_at = models.DateTimeField(null=True, blank=True)

    objects = Questions.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["patient", "state"]),
            models.Index(fields=["state", "review_by", "id"], name="review_queue"),
        ]

    def __str__(self) -> str:
        return f"request of {self.requester}"

    @property
    def language(self) -> str:
        """Of the asker's words: they stand beside a notice in the same one."""
        return self.notice.language


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


class Representative(models.Model):
    """Who may act for a patient: how far, by what paper, from when to when. A row ends; it is never removed.

    Whether the authority stands is worked out at each act (`stands`): no job has to end it.
    """

    class Role(models.TextChoices):
        PARENT = "parent"
        GUARDIAN = "guardian"
        ATTORNEY = "attorney"

    class Scope(models.TextChoices):
        """Each may do what those before it may. Whoever may say yes may always stop."""

        SEE = "see"
        STOP = "stop"
        ANSWER = "answer"

    class EndedBy(models.TextChoices):
        CLINIC = "clinic"
        PATIENT = "patient"
        REPRESENTATIVE = "representative"

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="representatives")
    # The representative's own account, from when they accept the invitation.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="represents"
    )
    name = models.CharField(max_length=200, help_text="as the patient reads it")
    role = models.CharField(max_length=8, choices=Role)
    scope = models.CharField(max_length=6, choices=Scope)
    kinds = models.JSONField(default=list, help_text="FHIR resource types they may give")
    sensitive = models.JSONField(default=list, help_text="v3-ActCode sensitivity codes they may give")
    # The paper that says so: its scan, who looked at it, when.
    evidence = models.ForeignKey(Scan, on_delete=models.RESTRICT, related_name="representatives")
    checked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    checked_at = models.DateTimeField(auto_now_add=True)
    starts = models.DateField()
    ends = models.DateField(null=True, blank=True, help_text="the last day; none: until it is ended")
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.CharField(max_length=14, choices=EndedBy, blank=True)
    invitation_digest = models.CharField(max_length=64, blank=True, db_index=True)
    invitation_expires = models.DateTimeField(null=True, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)
    # The patient came of age and has read that this person decides for her no longer.
    told_at = models.DateTimeField(null=True, blank=True)
    # Names this person in the audit log, for this patient alone.
    audit_key = models.BinaryField(default=random_key)

    def __str__(self) -> str:
        return "representative"

    @property
    def pseudonym(self) -> str:
        """This representative's name in the audit log."""
        return pseudonym(bytes(self.audit_key), self.id)

    @property
    def ends_with_age(self) -> bool:
        """Whether the authority is over a minor, and ends on her birthday. Needs `patient`."""
        of_age = self.patient.of_age_on
        if self.role == self.Role.GUARDIAN:
            return of_age is not None and self.starts < of_age
        return self.role == self.Role.PARENT

    @property
    def last_day(self) -> date | None:
        """The last day of the authority; None: no end is known. Where a birthday ends it and is not known, it
        is over. Needs `patient`.
        """
        if not self.ends_with_age:
            return self.ends
        before = (self.patient.of_age_on or date.min + timedelta(days=1)) - timedelta(days=1)
        return before if self.ends is None else min(self.ends, before)

    def stands(self, today: date | None = None) -> bool:
        """Whether this person may act for the patient on this day (the clinic's own time zone)."""
        today = today or timezone.localdate()
        last = self.last_day
        over = self.ended_at is not None or (last is not None and today > last)
        return self.accepted_at is not None and self.starts <= today and not over

    def came_of_age(self, today: date | None = None) -> bool:
        """Whether the patient's birthday is what ended it."""
        of_age = self.patient.of_age_on
        return (
            self.ends_with_age
            and self.accepted_at is not None
            and of_age is not None
            and (today or timezone.localdate()) >= of_age
            and (self.ended_at is None or timezone.localtime(self.ended_at).date() >= of_age)
            and (self.ends is None or self.ends >= of_age)
        )

    def may(self, act: str) -> bool:
        """Whether `act` (of Scope) is within the scope, whatever the day."""
        return act in self.Scope.values[: self.Scope.values.index(self.scope) + 1]


class Answers(models.QuerySet["Consent"]):
    """Readable copies of answers."""

    def in_force(self) -> "Answers":
        """Those that permit something now, as far as is known here; the ledger decides."""
        return self.filter(
            ledger_state=Consent.LedgerState.IN_FORCE, stopped_at=None, expires_at__gt=timezone.now()
        )


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
        HELD = "held"  # never sent: somebody else who decides says no (consent/conflicts.py)
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
    # Who answered for the patient in the portal; None: she did, or the paper says who.
    representative = models.ForeignKey(
        Representative, null=True, blank=True, on_delete=models.RESTRICT, related_name="consents"
    )
    # Who stopped it: an actor's kind (ledger/audit/log.py), and the representative where it was one.
    stopped_by = models.CharField(max_length=14, blank=True)
    stopper = models.ForeignKey(
        Representative, null=True, blank=True, on_delete=models.RESTRICT, related_name="+"
    )
    # Written down by mistake: it never was an answer, and the question is open again.
    invalid_at = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)
    granted_at = models.DateTimeField(null=True)
    stopped_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    objects = Answers.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["patient", "decided_at"]),
            models.Index(fields=["request", "ledger_state"]),
        ]

    def __str__(self) -> str:
        return f"consent {self.status}"

    @property
    def author(self) -> str:
        """Whose decision it is: "" for the patient's own, a representative's id, or what the paper says."""
        return self.representative_id or ("" if self.authority == self.Authority.PATIENT else self.authority)

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


class Erasure(models.Model):
    """A patient is to be erased: asked for, confirmed by two members of staff, done by the relay.

    `patient` is gone once it is done; `key` is her id, which then names nobody, for the keyholder alone: a
    store of it that comes back from a backup is to forget her again.
    """

    class State(models.TextChoices):
        ASKED = "asked"
        CONFIRMED = "confirmed"  # by one; the second is somebody else
        DUE = "due"
        DONE = "done"
        REFUSED = "refused"

    class Hold(models.TextChoices):
        """Why it is refused (GDPR article 17(3), 45 CFR 164.316)."""

        COURT = "court"  # a claim or an order: legal hold
        RETENTION = "retention"  # a law says how long the records are kept
        CARE = "care"  # they are needed for care that goes on

    OPEN = (State.ASKED, State.CONFIRMED)

    patient = models.ForeignKey(Patient, null=True, on_delete=models.SET_NULL, related_name="erasures")
    key = models.CharField(max_length=64, editable=False)
    state = models.CharField(max_length=9, choices=State, default=State.ASKED)
    hold = models.CharField(max_length=9, choices=Hold, blank=True)
    asked_at = models.DateTimeField(auto_now_add=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    second_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    settled_at = models.DateTimeField(null=True)
    # The KEK that backups of the keyholder's store from before need to open anything of hers.
    kek = models.CharField(max_length=64, blank=True)
    backups_closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["patient"],
                condition=models.Q(state__in=["asked", "confirmed", "due"]),
                name="one_erasure_at_a_time",
            )
        ]

    def __str__(self) -> str:
        return f"erasure {self.state}"


class ErasedConsent(models.Model):
    """The id of a consent whose patient was erased: it stands on the ledger for ever, and names nobody."""

    consent = models.CharField(max_length=64, primary_key=True)

    def __str__(self) -> str:
        return "erased consent"


class Conflict(models.Model):
    """Two who may decide disagree. The most restrictive holds until a reviewer has looked at it."""

    class Why(models.TextChoices):
        HELD = "held"  # a yes after another's no or stop: it was not sent
        OVERRULED = "overruled"  # a no stopped another's yes
        STOPPED = "stopped"  # one stopped what another gave

    class Outcome(models.TextChoices):
        KEEP = "keep"  # nothing is shared
        ASK_ANEW = "ask_anew"  # the question is put again, and answers from before do not count

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="conflicts")
    # The yes that does not hold; its question is the one that may be asked anew.
    yes = models.ForeignKey(Consent, on_delete=models.CASCADE, related_name="conflicts")
    # The answer that says no, or the stop: then it is the yes itself.
    no = models.ForeignKey(Consent, on_delete=models.CASCADE, related_name="+")
    why = models.CharField(max_length=9, choices=Why)
    opened_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    settled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    outcome = models.CharField(max_length=8, choices=Outcome, blank=True)
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["patient", "settled_at"], name="conflicts_of_patient"),
            models.Index(fields=["settled_at", "opened_at"], name="open_conflicts"),
        ]

    def __str__(self) -> str:
        return f"conflict: {self.why}"


class News(models.Model):
    """One thing that a patient is told (consent/news.py): on her page, and by email as she wants it."""

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
        PASSKEYS = "passkeys"  # the clinic removed her passkeys
        WAY_BACK = "way_back"  # the clinic gave out a link with which to choose her password
        ACTS_FOR = "acts_for"  # the clinic registered somebody who may act for her
        ACTS_NO_MORE = "acts_no_more"  # one of those acts for her no longer
        OF_AGE = "of_age"  # she decides alone from now on

    class Mail(models.TextChoices):
        DUE = "due"
        SENT = "sent"
        UNWANTED = "unwanted"

    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="news")
    kind = models.CharField(max_length=12, choices=Kind)
    about = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # The email: rows that went out together have one letter, and keep it until it has arrived.
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

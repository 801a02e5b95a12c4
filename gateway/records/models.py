"""Where sealed FHIR lies. A chunk is one patient, one resource type, one set of labels; the row
knows only whose it is: type, labels and count are in the keyholder's sealed header."""

from django.conf import settings
from django.db import models

from consent.models import Patient, random_id


class IngestedFile(models.Model):
    """One file, or one section of a large one, that was taken in whole, by the digest of its bytes."""

    digest = models.CharField(primary_key=True, max_length=64)
    resources = models.PositiveIntegerField()
    # The label rules of then: under others the file is read again, and what it holds is labelled anew.
    rules = models.CharField(max_length=16, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"file of {self.resources} resources"


class Chunk(models.Model):
    """`nonce ‖ AES-256-GCM(padded zstd of NDJSON)`; AAD is patient ‖ chunk ‖ version."""

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    # Null: a resource of no patient (Organization, Practitioner), sealed under the custodian's own key.
    patient = models.ForeignKey(Patient, null=True, on_delete=models.CASCADE, related_name="chunks")
    version = models.PositiveIntegerField(default=1)
    blob = models.BinaryField()
    # What is known of each line (keyholder/regrouping.py), sealed under the same data key; empty of old.
    notes = models.BinaryField(default=bytes)
    # Null: the keyholder is still to be told of this row; until it is, a new chunk cannot be selected.
    confirmed_at = models.DateTimeField(null=True, db_index=True)
    # It was sent to be sealed as one with others of its kind, and they were too few.
    stays_small = models.BooleanField(default=False)
    # The regrouping that made this chunk, or retired it: its chunks come and go together.
    act = models.CharField(max_length=64, blank=True)
    # Set once others stand for it. The blob stays a while for jobs that hold its key already.
    retired_at = models.DateTimeField(null=True, db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"chunk of {len(self.blob)} bytes"


class Quarantined(models.Model):
    """One resource that a lenient ingest could not take in, sealed until it is mended, released or dropped.

    `faults` say what is wrong by element, code and sentence; they never hold a value of the resource.
    """

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    file = models.CharField(max_length=64)  # the digest of the file that it stood in
    line = models.PositiveBigIntegerField()
    entry = models.CharField(max_length=40, blank=True)  # its element in a Bundle
    kind = models.CharField(max_length=40, blank=True)  # where it is a type that is taken in
    faults = models.JSONField()
    blob = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "quarantined"
        indexes = [models.Index(fields=["created_at", "id"], name="quarantine_in_order")]

    def __str__(self) -> str:
        return f"quarantined {self.kind or 'resource'}"


class OwnCopy(models.Model):
    """A copy of her own records that a patient asked for. Its id is the access's on the ledger.

    The ledger and the keyholder's log of openings are the truth; this row is what pages show of it.
    """

    class State(models.TextChoices):
        ASKED = "asked"  # told to the patient and not yet known to be on the ledger: nothing opens
        RECORDED = "recorded"

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="own_copies")
    state = models.CharField(max_length=10, choices=State, default=State.ASKED)
    # Her passkey's assertion, where the keyholder wants one.
    voucher = models.JSONField(null=True)
    tx_id = models.CharField(max_length=64, blank=True)
    asked_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "own copies"
        indexes = [models.Index(fields=["patient", "-asked_at"], name="own_copies_of_patient")]

    def __str__(self) -> str:
        return f"own copy {self.state}"


class ResourceVersion(models.Model):
    """One version of one resource that is already sealed: keyed digests, which say nothing by themselves.

    The rows of a chunk stand, by their keys, in the order of its lines.
    """

    # HMAC-SHA256 under the index key of the patient (or of the custodian): unique without naming whose.
    digest = models.CharField(max_length=64, unique=True)
    chunk = models.ForeignKey(Chunk, on_delete=models.CASCADE, related_name="resource_versions")
    # HMAC-SHA256 of `Type/id` under the custodian's index key, 16 bytes in hex: finds the other versions of
    # the resource, and its deletion, which names no patient. Empty where it came in before there were names.
    name = models.CharField(max_length=32, blank=True, db_index=True)
    # The same of `Type/id/_history/versionId`. Empty where its source gave it no versionId, or before that.
    version = models.CharField(max_length=32, blank=True, db_index=True)
    rules = models.CharField(max_length=16, blank=True)  # the label rules that its labels are of

    def __str__(self) -> str:
        return "resource version"


class Gone(models.Model):
    """A version that is here no more, because a newer one or a deletion came. It is not taken in again.

    Named as ResourceVersion is; `chunk` held it last. All empty of before they were written down.
    """

    digest = models.CharField(primary_key=True, max_length=64)
    patient = models.ForeignKey(Patient, null=True, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=32, blank=True, db_index=True)
    version = models.CharField(max_length=32, blank=True, db_index=True)
    chunk = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return "resource version that is gone"


class Moved(models.Model):
    """Lines of the chunk `old`, which may be gone, were sealed again in `new`. Which lines, nobody keeps.

    `old` is empty where that was before it was written down: then it may be any of this patient's.
    """

    patient = models.ForeignKey(Patient, null=True, on_delete=models.CASCADE, related_name="+")
    old = models.CharField(max_length=64, blank=True, db_index=True)
    new = models.CharField(max_length=64, db_index=True)

    class Meta:
        verbose_name_plural = "moved"

    def __str__(self) -> str:
        return "lines of a chunk that moved"


class Deletion(models.Model):
    """A resource that its source deleted, by ResourceVersion.name; what was changed before `at` is gone."""

    name = models.CharField(primary_key=True, max_length=32)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return "deletion of a resource"


class Unsettled(models.Model):
    """Whose chunks wait to be regrouped: a newer version, a deletion or a clinician's label came.

    What is new of them is confirmed only then. `whose` is a patient's id, or the custodian's.
    """

    whose = models.CharField(primary_key=True, max_length=64)
    since = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "unsettled"

    def __str__(self) -> str:
        return "chunks to regroup"


class ToPassOn(models.Model):
    """A patient of whose records clinicians labelled some, or something new that may follow from them came.

    What follows others is withheld, and labelled anew, before anything new of hers is selected.
    """

    whose = models.CharField(primary_key=True, max_length=64)
    since = models.DateTimeField()

    class Meta:
        verbose_name_plural = "to pass on"

    def __str__(self) -> str:
        return "labels to pass on"


class Regrouping(models.Model):
    """One regrouping, written down before the keyholder was asked for it: reconciliation knows it by this."""

    act = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return "regrouping"


class LabelChange(models.Model):
    """A clinician's word on how sensitive one resource of a patient is; its id stands in the chunk's notes.

    Adding counts at once; lifting counts once a second person has agreed.
    """

    class Act(models.TextChoices):
        ADD = "add"
        LIFT = "lift"

    class State(models.TextChoices):
        ASKED = "asked"  # a lift that waits for the second person
        DUE = "due"  # the relay is to carry it out
        DONE = "done"
        REFUSED = "refused"

    OPEN = (State.ASKED, State.DUE)

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    patient = models.ForeignKey(Patient, on_delete=models.CASCADE, related_name="label_changes")
    name = models.CharField(max_length=32)  # ResourceVersion.name
    act = models.CharField(max_length=4, choices=Act)
    # Which resource, which label and why, encrypted (clinical_labels.py): a row says nothing of an illness.
    sealed = models.BinaryField()
    state = models.CharField(max_length=8, choices=State)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    second = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    asked_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["patient", "-asked_at"], name="label_changes_of_patient"),
            models.Index(fields=["state", "asked_at"], name="label_changes_by_state"),
        ]

    def __str__(self) -> str:
        return f"label change {self.state}"


class ImportRun(models.Model):
    """One `manage.py ingest`: how far it is, and what became of it.

    It says no file's name, because names of files may be names of people.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"  # some files may have been refused
        FAILED = "failed"  # it could not go on; run it again with the same files
        LOST = "lost"  # its process ended without a word

    id = models.CharField(primary_key=True, max_length=64, default=random_id, editable=False)
    state = models.CharField(max_length=8, choices=State, default=State.RUNNING)
    files = models.PositiveIntegerField(default=0)
    files_done = models.PositiveIntegerField(default=0)
    bytes = models.PositiveBigIntegerField(default=0)
    bytes_done = models.PositiveBigIntegerField(default=0)
    error_code = models.CharField(max_length=60, blank=True)
    # As `ingest --json` answers: counts, and refusals by the number of the file; never a value.
    report = models.JSONField(default=dict)
    started_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["-started_at"], name="import_runs_newest")]

    def __str__(self) -> str:
        return f"import {self.state}"

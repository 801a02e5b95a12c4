"""Where sealed FHIR lies. A chunk is one patient, one resource type, one set of labels; the row
knows only whose it is: type, labels and count are in the keyholder's sealed header."""

from django.db import models

from consent.models import Patient, random_id


class IngestedFile(models.Model):
    """One file that was taken in whole, by the digest of its bytes."""

    digest = models.CharField(primary_key=True, max_length=64)
    resources = models.PositiveIntegerField()
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
    # Set once the keyholder knows that the blob is safe here; until then it cannot be selected.
    confirmed_at = models.DateTimeField(null=True, db_index=True)
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
    """One version of one resource that is already sealed: a keyed digest, which says nothing by itself."""

    # HMAC-SHA256 under the index key of the patient (or of the custodian): unique without naming whose.
    digest = models.CharField(max_length=64, unique=True)
    chunk = models.ForeignKey(Chunk, on_delete=models.CASCADE, related_name="resource_versions")

    def __str__(self) -> str:
        return "resource version"

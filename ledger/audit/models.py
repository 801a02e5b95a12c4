"""The audit log's rows. A row's canonical line is its Merkle leaf, so what is exported is what was logged.

Rows are inserted without a lock, in the database transaction that they record, and sealed later in
batches by "not yet sealed", never by an id watermark: a late commit must not vanish.
"""

from django.db import models


class AuditBatch(models.Model):
    """One sealing: the log's size and root after it, and the ledger transaction that anchors them."""

    size = models.PositiveBigIntegerField(primary_key=True)
    root = models.CharField(max_length=64)
    # Hashes of the perfect subtrees that make up the log at this size (left to right), to go on from.
    range = models.JSONField()
    # The earliest and latest time of the batch's rows: a period is found without reading every row.
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    origin = models.CharField(max_length=300, blank=True, help_text="under which name it stands there")
    tx_id = models.CharField(max_length=64, blank=True)
    block = models.PositiveBigIntegerField(null=True)
    sealed_at = models.DateTimeField(auto_now_add=True)
    # The checkpoint as a signed note with its cosignatures (C2SP), and a timestamp of it (RFC 3161, DER).
    note = models.TextField(blank=True)
    timestamp = models.BinaryField(null=True)

    def __str__(self) -> str:
        return f"log of {self.size}"


class AuditRow(models.Model):
    """One thing that happened."""

    line = models.BinaryField(help_text="canonical JSON, the Merkle leaf")
    kind = models.CharField(max_length=40)
    # Keyed pseudonyms, as in the line; for look-ups.
    subject = models.CharField(max_length=64, blank=True)
    # What the row is one step of, where there are several: a job's subject, an access, a question. As in
    # the line.
    step_of = models.CharField(max_length=64, blank=True)
    recorded_at = models.DateTimeField()
    # Position in the log; null until sealed.
    leaf = models.PositiveBigIntegerField(null=True, unique=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], condition=models.Q(leaf__isnull=True), name="audit_unsealed"),
            models.Index(fields=["subject", "-id"]),
            # What an AI client did, by its subjects (gateway/analysis/uses.py).
            models.Index(
                fields=["step_of", "-id"],
                condition=models.Q(kind__in=("job.delivered", "result.read")),
                name="audit_uses",
            ),
        ]

    def __str__(self) -> str:
        return self.kind


class AuditNode(models.Model):
    """A whole subtree's hash, kept for every eighth level, so that a proof needs no walk over the log.

    `(level, index)` covers the leaves [index·2^level, (index+1)·2^level); one row for 255 leaves.
    """

    level = models.PositiveSmallIntegerField()
    index = models.PositiveBigIntegerField()
    hash = models.BinaryField(max_length=32)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["level", "index"], name="one_audit_node")]

    def __str__(self) -> str:
        return f"node {self.level}/{self.index}"


class Incident(models.Model):
    """What must not be: one place of one store is not what the others say. Opened by itself, once while it is
    so; whoever finds that it is so no more settles it.
    """

    code = models.CharField(max_length=40)
    # Which row: "row 17" of the log, "consent <id>", "opening 5" of the keyholder's log, …
    place = models.CharField(max_length=120)
    # While it is open nothing is released.
    holds = models.BooleanField(default=False)
    opened_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["code", "place"], condition=models.Q(settled_at=None), name="one_open_incident"
            )
        ]

    def __str__(self) -> str:
        return f"{self.code} at {self.place}"

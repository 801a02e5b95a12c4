"""What the gateway remembers of its own transactions: the outbox, and how far it has listened.

The outbox row is written in the same database transaction as the intent that it carries out. The
ledger is the truth; these rows are how we reach it.
"""

from django.db import models

from ledger.client import HOME


class LedgerTransaction(models.Model):
    """One transaction that we want on the ledger, from intent to outcome."""

    class State(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        COMMITTED = "committed"
        REFUSED = "refused"

    class Through(models.TextChoices):
        GATEWAY = "gateway"
        KEYHOLDER = "keyholder"

    name = models.CharField(max_length=40)
    args = models.JSONField(default=dict)
    # What the row is about ("consent/<id>"), so that its owner finds it again.
    reference = models.CharField(max_length=160, db_index=True)
    channel = models.CharField(max_length=40, default=HOME)
    through = models.CharField(max_length=10, choices=Through, default=Through.GATEWAY)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    tx_id = models.CharField(max_length=64, blank=True, db_index=True)
    # The signed envelope, stored before it is first sent; sent again as it is while the outcome is unknown.
    envelope = models.BinaryField(null=True)
    block = models.PositiveBigIntegerField(null=True)
    error_code = models.CharField(max_length=60, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    not_before = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["state", "id"])]

    def __str__(self) -> str:
        return f"{self.name} {self.state}"


class EventCursor(models.Model):
    """The durable checkpoint of one listener on one channel: everything up to `(block, index)` is handled.

    The name of a listener on another channel than home ends with it: `gateway/north`.

    `height` and `caught_up_at` say when it last stood at the ledger's end, and how many blocks that had: a
    database that comes back from a backup says by them how old it is.
    """

    listener = models.CharField(max_length=90, primary_key=True)
    block = models.BigIntegerField(default=-1)
    index = models.BigIntegerField(default=-1)
    height = models.BigIntegerField(default=0)
    caught_up_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.listener} at {self.block}/{self.index}"

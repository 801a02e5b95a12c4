"""What was answered to a POST with an Idempotency-Key, so that the same request gets the same answer."""

from django.db import models
from rest_framework.utils.encoders import JSONEncoder

from consent.models import Requester


class IdempotentAnswer(models.Model):
    """One answer, written in the same database transaction as what it answers for."""

    requester = models.ForeignKey(Requester, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=128)
    request_digest = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField(default=dict)
    body = models.JSONField(encoder=JSONEncoder)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["requester", "key"], name="one_answer_per_key")]

    def __str__(self) -> str:
        return f"answer {self.status}"

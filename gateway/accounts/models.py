"""Who signs in: people (patients and staff), and AI clients by their OAuth application."""

import uuid

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.crypto import salted_hmac

from consent.models import Requester


class User(AbstractUser):
    """A person who signs in by email."""

    class Notices(models.TextChoices):
        AT_ONCE = "at_once"
        DAILY = "daily"
        NEVER = "never"

    email = models.EmailField(unique=True)
    # How this person wants our letters and pages (preferences.py).
    notices = models.CharField(max_length=7, choices=Notices, default=Notices.AT_ONCE)
    language = models.CharField(max_length=10, blank=True)
    large_text = models.BooleanField(default=False)
    # Every session is bound to it: a new value ends them all (sessions.py).
    session_salt = models.CharField(max_length=32, blank=True, editable=False)

    def __str__(self) -> str:
        return self.email

    def get_session_auth_hash(self) -> str:
        """A session lives as long as this stays: until the password, or the salt, is another."""
        return salted_hmac(
            "gateway.accounts.session", super().get_session_auth_hash() + self.session_salt
        ).hexdigest()


class ProviderIdentity(models.Model):
    """Who somebody is at an identity provider (`iss` and `sub` of its ID tokens), and whose account that is.

    Never found by email: gateway/accounts/oidc/identities.py says how a row comes to be.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="identities")
    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)
    linked_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["issuer", "subject"], name="one_account_of_an_identity"),
            models.UniqueConstraint(fields=["issuer", "user"], name="one_identity_at_a_provider"),
        ]

    def __str__(self) -> str:
        return "identity at a provider"


class AIClient(models.Model):
    """The OAuth application with which a requester's programs come."""

    application = models.OneToOneField(
        settings.OAUTH2_PROVIDER_APPLICATION_MODEL, on_delete=models.CASCADE, related_name="ai_client"
    )
    requester = models.ForeignKey(Requester, on_delete=models.CASCADE, related_name="clients")
    # Its public keys, or where they are: one of the two. A client that has neither gets no token.
    jwks = models.JSONField(
        "key set", null=True, blank=True, help_text="JWK set (RFC 7517), public keys only"
    )
    jwks_url = models.CharField(
        "address of its key set", max_length=500, blank=True, help_text="https, instead of a key set"
    )

    class Meta:
        verbose_name = "AI client"

    def __str__(self) -> str:
        return f"client of {self.requester}"


class UsedAssertion(models.Model):
    """A client assertion that was used, until it runs out: it is not taken twice."""

    client = models.ForeignKey(AIClient, on_delete=models.CASCADE, related_name="+")
    jti_digest = models.CharField(max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["client", "jti_digest"], name="one_use_of_an_assertion")
        ]

    def __str__(self) -> str:
        return "used assertion"


class Webhook(models.Model):
    """An address of a requester's that is told what changed."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    requester = models.ForeignKey(Requester, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=500)
    events = models.JSONField()
    secret = models.BinaryField()
    # When it had its last turn; how many calls in a row failed; until when it is left alone for that.
    served_at = models.DateTimeField(null=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False)
    rests_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"webhook of {self.requester}"


class WebhookCall(models.Model):
    """One call: what it says, and what became of it. `status` is HTTP's; 0: no answer."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.CharField(primary_key=True, max_length=32)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="calls")
    event = models.CharField(max_length=30)
    body = models.JSONField()
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    tries = models.PositiveSmallIntegerField(default=0)
    status = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField()
    tried_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["state", "next_at"], name="webhook_calls_due")]

    def __str__(self) -> str:
        return f"{self.event} {self.state}"

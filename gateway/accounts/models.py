"""Who signs in: people (patients and staff), and AI clients by their OAuth application."""

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models

from consent.models import Requester


class User(AbstractUser):
    """A person who signs in by e-mail."""

    email = models.EmailField(unique=True)

    def __str__(self) -> str:
        return self.email


class AIClient(models.Model):
    """The OAuth application with which a requester's programs come."""

    application = models.OneToOneField(
        settings.OAUTH2_PROVIDER_APPLICATION_MODEL, on_delete=models.CASCADE, related_name="ai_client"
    )
    requester = models.ForeignKey(Requester, on_delete=models.CASCADE, related_name="clients")

    class Meta:
        verbose_name = "AI client"

    def __str__(self) -> str:
        return f"client of {self.requester}"

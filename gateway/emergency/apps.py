"""Django's name for this room."""

from django.apps import AppConfig


class EmergencyConfig(AppConfig):
    name = "gateway.emergency"
    label = "emergency"

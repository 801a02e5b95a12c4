"""Django's name for this room."""

from django.apps import AppConfig


class APIConfig(AppConfig):
    name = "gateway.api"
    label = "api"

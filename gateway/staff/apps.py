"""Django's name for this room."""

from django.apps import AppConfig


class StaffConfig(AppConfig):
    name = "gateway.staff"
    label = "staff"

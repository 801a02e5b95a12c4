"""Django's name for this room; the checks of an installation are registered here."""

from django.apps import AppConfig


class GatewayConfig(AppConfig):
    name = "gateway"
    label = "gateway"

    def ready(self) -> None:
        from gateway import checks  # noqa: F401 (importing it registers it)

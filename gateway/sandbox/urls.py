"""The product's addresses, and the sandbox's own beside them."""

from django.urls import include, path

from gateway.sandbox import switches

urlpatterns = [
    path("sandbox/", switches.show),
    path("sandbox/advance", switches.advance),
    path("sandbox/faults", switches.faults),
    path("sandbox/bare", switches.bare),
    path("", include("gateway.urls")),
]

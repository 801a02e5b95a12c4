"""Where the pages of signing in at an identity provider are, below /accounts/."""

from django.urls import path

from gateway.accounts.oidc import pages

urlpatterns = [
    path("providers/", pages.index, name="providers"),
    path("providers/sign-up/", pages.sign_up, name="provider_sign_up"),
    path("providers/signed-out/", pages.signed_out, name="provider_signed_out"),
    path("provider/<slug:provider>/", pages.start, name="provider_start"),
    path("provider/<slug:provider>/callback/", pages.callback, name="provider_callback"),
    path("provider/<slug:provider>/link/", pages.link, name="provider_link"),
    path("provider/<slug:provider>/again/", pages.again, name="provider_again"),
    path("provider/<slug:provider>/unlink/", pages.unlink, name="provider_unlink"),
]

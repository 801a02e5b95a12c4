"""Every address of the web process: the portal, sign-in, the admin site, the API."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

from gateway.accounts import passkeys
from gateway.adminsite import tighten

# The admin site signs people in like every other page: with their second factor, and not without limit.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.site_header = "Consent Gateway"
admin.site.site_title = "Consent Gateway"
admin.site.index_title = "Administration"
tighten(admin.site)

urlpatterns = [
    path("", include("gateway.portal.urls")),
    path("accounts/", include("allauth.account.urls")),
    path("accounts/2fa/webauthn/", passkeys.index, name="mfa_list_webauthn"),
    path("accounts/2fa/webauthn/keys/<int:pk>/remove/", passkeys.RemovePasskey.as_view()),
    path("accounts/2fa/webauthn/keys/<int:pk>/vouch/", passkeys.vouch, name="vouch_for_passkey"),
    path("accounts/2fa/", include("allauth.mfa.urls")),
    path("admin/", admin.site.urls),
    path("staff/", include("gateway.staff.urls")),
    path("", include("gateway.api.urls")),
]

handler403 = "gateway.portal.front.forbidden"
handler404 = "gateway.portal.front.not_found"

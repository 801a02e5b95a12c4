"""Every address of the web process: the portal, sign-in, the admin site, the API."""

from allauth.account.decorators import reauthentication_required, secure_admin_login
from allauth.account.urls import urlpatterns as allauths
from allauth.account.views import password_set
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.urls import include, path

from gateway.accounts import addresses, passkeys
from gateway.adminsite import tighten

# The admin site signs people in like every other page: with their second factor, and not without limit.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.site_header = "Consent Gateway"
admin.site.site_title = "Consent Gateway"
admin.site.index_title = "Administration"
tighten(admin.site)

# allauth has the page for a code that came by email even where none is ever sent; three pages are ours.
OURS = {"account_confirm_login_code", "account_email", "account_confirm_email", "account_set_password"}
ACCOUNT = [route for route in allauths if route.name not in OURS]
set_password = login_required(reauthentication_required(app="allauth.account")(password_set))

urlpatterns = [
    # First, as programs call most often, and nothing here begins like a page.
    path("", include("gateway.api.urls")),
    path("", include("gateway.portal.urls")),
    # A first password is another way in: it is chosen like a new one, after showing again who one is.
    path("accounts/password/set/", set_password, name="account_set_password"),
    path("accounts/email/", addresses.index, name="account_email"),
    path("accounts/confirm-email/<str:key>/", addresses.confirm_page, name="account_confirm_email"),
    path("accounts/", include(ACCOUNT)),
    path("accounts/", include("gateway.accounts.oidc.urls")),
    path("accounts/2fa/webauthn/", passkeys.index, name="mfa_list_webauthn"),
    path("accounts/2fa/webauthn/keys/<int:pk>/remove/", passkeys.RemovePasskey.as_view()),
    path("accounts/2fa/webauthn/keys/<int:pk>/vouch/", passkeys.vouch, name="vouch_for_passkey"),
    path("accounts/2fa/", include("allauth.mfa.urls")),
    path("admin/", admin.site.urls),
    path("staff/", include("gateway.staff.urls")),
]

handler403 = "gateway.portal.front.forbidden"
handler404 = "gateway.portal.front.not_found"

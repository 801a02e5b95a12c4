"""What a token is good for (RFC 7662): a client asks about its own, and shows who it is as for a token."""

import calendar
import hashlib

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from oauth2_provider.models import AccessToken
from oauth2_provider.oauth2_backends import get_oauthlib_core
from oauthlib.common import Request
from oauthlib.oauth2.rfc6749.errors import OAuth2Error

from gateway.accounts.oauth import ClientAssertionValidator

NOT_KEPT = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@csrf_exempt
@require_POST
def introspect(request: HttpRequest) -> HttpResponse:
    """`{"active": false}` for what is no token, has ended, or is another client's."""
    uri, method, body, headers = get_oauthlib_core()._extract_params(request)
    try:
        asked = Request(uri, method, body, headers)
        ClientAssertionValidator().authenticate_client(asked)
    except OAuth2Error as error:
        return HttpResponse(error.json, status=error.status_code, headers=error.headers)
    token = AccessToken.objects.filter(
        application=asked.client,
        token_checksum=hashlib.sha256(request.POST.get("token", "").encode()).hexdigest(),
    ).first()
    if token is None or token.is_expired():
        return JsonResponse({"active": False}, headers=NOT_KEPT)
    told = {
        "active": True,
        "client_id": asked.client.client_id,
        "exp": calendar.timegm(token.expires.utctimetuple()),
        "scope": token.scope,
        "sub": asked.client.client_id,
        "token_type": "Bearer",
    }
    return JsonResponse(told, headers=NOT_KEPT)

"""The language of the pages, for whoever looks at them: one click on each page, signed in or not."""

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from django.views.i18n import set_language

from gateway.accounts import preferences


@csrf_exempt  # whoever made somebody's page speak Spanish has won nothing; so no page needs a token for it
@require_POST
def language(request: HttpRequest) -> HttpResponseBase:
    """Remembered on this browser, and for the account of whoever is signed in. Then back to the page."""
    chosen = request.POST.get("language", "")
    if request.user.is_authenticated and chosen in dict(settings.LANGUAGES):
        preferences.save_language(user=request.user, language=chosen)
    return set_language(request)

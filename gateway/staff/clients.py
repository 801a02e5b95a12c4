"""`/staff/requesters/<id>/clients`: the programs of an AI provider, and the public keys they sign in with."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from consent.models import Requester
from gateway.accounts import clients
from gateway.accounts.models import AIClient
from gateway.staff.requesters import SECTION, find_requester
from gateway.staff.visitor import actor, for_staff, page, perform
from gateway.wording import sentence
from ledger.contract.canonical import loads
from ledger.contract.errors import Refused
from ledger.errors import GatewayError

MOST_BYTES = 64 * 1024


class KeysForm(forms.Form):
    """Where the keys are: at an address of the provider, or in a file of its. The service checks them."""

    jwks_url = forms.CharField(
        required=False,
        max_length=500,
        label=gettext_lazy("Address of the key set"),
        help_text=gettext_lazy("Begins with https://. The provider can then change its keys itself."),
    )
    jwks = forms.FileField(
        required=False,
        label=gettext_lazy("Or a file with the key set"),
        help_text=gettext_lazy("Public keys only, as JSON: RSA of 2048 bits or more, or P-384."),
        widget=forms.FileInput(attrs={"accept": ".json,.jwks"}),
    )

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or {}
        file = given.get("jwks")
        try:
            keys = loads(file.read(MOST_BYTES + 1), limit=MOST_BYTES) if file else None
        except (Refused, ValueError):
            raise forms.ValidationError(_("The file is no key set.")) from None
        address = given.get("jwks_url", "").strip()
        try:
            clients.check_keys(keys, address)
        except GatewayError as error:
            raise forms.ValidationError(sentence(error)) from None
        return {"jwks": keys, "jwks_url": address}


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("change_requesters")
def new(request: HttpRequest, id: Any) -> HttpResponse:
    of = find_requester(id)
    form = _form(request)
    if form.is_valid():
        return perform(
            request,
            SECTION,
            lambda: clients.register(requester=of, by=actor(request), **form.cleaned_data),
            back=_at(of),
            done=_("Added. Tell the provider the client's id."),
        )
    return _show(request, form, of, _("Add a client"), _("Add"))


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff("change_requesters")
def keys(request: HttpRequest, id: Any, client: str) -> HttpResponse:
    """Other keys in the place of those that it has."""
    of = find_requester(id)
    found = get_object_or_404(of.clients.select_related("application"), application__client_id=client)
    form = _form(request, found)
    if form.is_valid():
        return perform(
            request,
            SECTION,
            lambda: clients.change_keys(client=found, by=actor(request), **form.cleaned_data),
            back=_at(of),
            done=_("Saved. What it was signed in with before is over."),
        )
    return _show(request, form, of, _("Change the keys"), _("Save"))


def _form(request: HttpRequest, of: AIClient | None = None) -> KeysForm:
    if request.method == "POST":
        return KeysForm(request.POST, request.FILES)
    return KeysForm(initial={"jwks_url": of.jwks_url} if of else None)


def _show(request: HttpRequest, form: KeysForm, of: Requester, title: str, button: str) -> HttpResponse:
    return page(
        request,
        "staff/form.html",
        SECTION,
        status=400 if form.is_bound else 200,
        form=form,
        files=True,
        title=title,
        hint=_("With these keys a program of %(name)s signs in. We keep no secret of it.")
        % {"name": of.name},
        button=button,
        back=_at(of),
    )


def _at(of: Requester) -> str:
    return reverse("staff_requester", args=[of.pk])

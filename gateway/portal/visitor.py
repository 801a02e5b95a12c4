"""Who is looking: every page of a patient's own passes through `for_patient`."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from consent.models import Patient

View = Callable[..., HttpResponse]


def for_patient(view: View) -> View:
    """Signed in, and a patient: `view(request, patient, …)`. Staff go to their own site."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        patient = Patient.objects.filter(user_id=cast(int, request.user.pk)).first()
        if patient is not None:
            return view(request, patient, *args, **kwargs)
        if request.user.is_staff:
            return redirect("staff")
        return render(request, "portal/no_records.html", status=403)

    return login_required(inner)

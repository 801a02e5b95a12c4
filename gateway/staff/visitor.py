"""Who is looking: every page of the staff site passes through `for_staff`, which names the act.

What each role may do stands in one table, gateway/accounts/roles.py. Without the role the answer is 403
before anything is looked up, so that what is there and what is not look alike.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from typing import Any

from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache

from gateway.accounts.models import User
from gateway.accounts.roles import ACTS, STAFF_ROLES
from gateway.accounts.step_up import second_factor_shown
from gateway.portal.signed_out import needs_sign_in
from ledger.audit.log import Actor
from ledger.errors import GatewayError

View = Callable[..., HttpResponse]


@dataclass(frozen=True)
class Entry:
    """One entry of the menu: the route's name, what it is called, and the act that opens it."""

    name: str
    label: Promise
    act: str


MENU: list[Entry] = [
    Entry("staff_queue", _("Requests"), "see_queue"),
    Entry("staff_cohorts", _("Cohorts"), "see_queue"),
    Entry("staff_conflicts", _("Disagreements"), "see_conflicts"),
    Entry("staff_patients", _("Patients"), "see_patients"),
    Entry("staff_results", _("AI results"), "see_results"),
    Entry("staff_answers", _("Paper and phone"), "see_answers"),
    Entry("staff_requesters", _("AI providers"), "see_requesters"),
    Entry("staff_alarms", _("Alarms"), "see_alarms"),
    Entry("staff_rights", _("Access rights"), "see_rights"),
    Entry("staff_trace", _("Trace"), "see_trace"),
    Entry("staff_retraining", _("Withdrawn copies"), "see_retraining"),
    Entry("staff_exports", _("Exports"), "see_exports"),
    Entry("staff_models", _("AI models"), "see_requesters"),
    Entry("staff_erasures", _("Erasures"), "see_erasures"),
    Entry("staff_imports", _("Imports"), "see_imports"),
    Entry("staff_dashboard", _("Dashboard"), "see_dashboard"),
]


def me(request: HttpRequest) -> User:
    """Who acts, on a page that `for_staff` has let them into."""
    assert isinstance(request.user, User)
    return request.user


def roles_of(user: Any) -> frozenset[str]:
    """The roles of a member of staff; nobody else has any."""
    if not (user.is_authenticated and user.is_active and user.is_staff):
        return frozenset()
    names = set(user.groups.filter(name__in=STAFF_ROLES).values_list("name", flat=True))
    return frozenset(names | ({"administrator"} if user.is_superuser else set()))


def for_staff(act: str) -> Callable[[View], View]:
    """Signed in, with a second factor, and in a role that may do `act`."""
    allowed = ACTS[act]

    def decorate(view: View) -> View:
        @wraps(view)
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            roles = enter(request)
            if not roles & allowed:
                raise PermissionDenied
            if needs_second_factor(request):
                return render(request, "staff/second_factor.html", status=403)
            return view(request, *args, **kwargs)

        inner.act = act  # type: ignore[attr-defined]  # tests/staff/test_roles.py reads it
        return never_cache(needs_sign_in(inner))

    return decorate


def enter(request: HttpRequest) -> frozenset[str]:
    """The visitor's roles, kept on the request so that they are asked for once."""
    roles: frozenset[str] | None = getattr(request, "staff_roles", None)
    if roles is None:
        roles = roles_of(request.user)
        request.staff_roles = roles  # type: ignore[attr-defined]
    return roles


def needs_second_factor(request: HttpRequest) -> bool:
    """Neither this account nor, at this sign-in, its identity provider asked for a second one."""
    if not settings.STAFF_SECOND_FACTOR or is_mfa_enabled(request.user):
        return False
    return not second_factor_shown(request)


def may(request: HttpRequest, act: str) -> bool:
    return bool(enter(request) & ACTS[act])


@never_cache
@login_required
def front(request: HttpRequest) -> HttpResponse:
    """To the first page that this person may see."""
    for entry in MENU:
        if may(request, entry.act):
            return redirect(entry.name)
    if request.user.is_superuser:
        return redirect("admin:index")
    raise PermissionDenied


def page(
    request: HttpRequest, template: str, section: str, status: int = 200, **context: Any
) -> HttpResponse:
    """A page in the staff site's frame; `acts` are what this visitor may do."""
    acts = {act: may(request, act) for act in ACTS}
    return render(request, template, {"section": section, "acts": acts, **context}, status=status)


def perform(
    request: HttpRequest,
    section: str,
    act: Callable[[], object],
    *,
    back: str,
    done: str = "",
    settled: Collection[str] = (),
) -> HttpResponse:
    """Do it, say `done`, and go to the page `back`; a refusal changes nothing and has a page of its own.

    An error whose code is among `settled` is passed over: the same POST came twice, or somebody was quicker.
    """
    try:
        act()
    except GatewayError as error:
        if error.code not in settled:
            return refused(request, section, error, back)
    else:
        if done:
            messages.success(request, done)
    return HttpResponseRedirect(back)


def actor(request: HttpRequest) -> Actor:
    """This member of staff, for the audit log."""
    return Actor.staff(request.user.pk)


def refused(request: HttpRequest, section: str, error: GatewayError, back: str) -> HttpResponse:
    """What was asked for is not allowed; nothing was changed."""
    return page(request, "staff/refused.html", section, status=error.status, error=error, back=back)

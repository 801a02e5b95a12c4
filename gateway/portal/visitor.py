"""Who is looking, and for whom: every page of a patient's own passes through `for_patient`.

A visitor is a patient, acts for others, or both. The session holds one id, of the representative's row that
was chosen on /people; the row itself is read at every request, and it alone says whether that still holds.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, cast, overload

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from consent.answers import How
from consent.models import ConsentRequest, Patient, Representative
from gateway.portal.signed_out import needs_sign_in

View = Callable[..., HttpResponse]
Scope = Representative.Scope

ACTS_AS = "acts as"  # session: the id of the Representative row; nothing: for oneself
MADE_FOR = "made_for"  # of every form: the patient whose page it stands on (gateway/portal/tags.py)
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Visit:
    """Who is here (`own`: their own records, if they have any) and for whom (`acting`; None: themselves)."""

    own: Patient | None
    acting: Representative | None = None
    represents: Sequence[Representative] = field(default=())
    represented_by: Sequence[Representative] = field(default=())

    @property
    def patient(self) -> Patient | None:
        """Whose pages these are."""
        return self.acting.patient if self.acting else self.own

    def how(self, **about: Any) -> How:
        """How an act on these pages comes, for the services of consent/; `about` are other fields of How."""
        return How.by(self.acting, **about)

    @property
    def may_answer(self) -> bool:
        return self.acting is None or self.acting.may(Scope.ANSWER)

    @property
    def may_stop(self) -> bool:
        return self.acting is None or self.acting.may(Scope.STOP)

    def offered(self, asked: ConsentRequest) -> ConsentRequest:
        """The question as this visitor may say yes to it: the kinds of record that the visitor decides about,
        and no longer than the authority lasts. A copy that is not for saving."""
        if self.acting is None:
            return asked
        offered, last = copy(asked), self.acting.last_day
        offered.kinds = self.covered(asked.kinds)
        offered.sensitive = self.covered(asked.sensitive)
        offered.share_until = min(asked.share_until, last or asked.share_until)
        return offered

    def covered(self, kinds: Sequence[str]) -> list[str]:
        """Of these FHIR types or sensitivity codes, those that the visitor decides about, and may see."""
        if self.acting is None:
            return list(kinds)
        return [kind for kind in kinds if kind in self.acting.kinds or kind in self.acting.sensitive]

    @property
    def of_age(self) -> list[Representative]:
        """Who decides for this patient no longer since her birthday, until she has read it."""
        if self.acting is not None:
            return []
        return [each for each in self.represented_by if each.told_at is None and each.came_of_age()]


def enter(request: HttpRequest) -> Visit:
    """The visit of a signed-in account, read anew at each request and kept on it. Two queries."""
    known: Visit | None = getattr(request, "visit", None)
    if known is not None:
        return known
    user = cast(int, request.user.pk)
    own = Patient.objects.filter(user_id=user).first()
    rows = list(
        Representative.objects.filter(Q(user_id=user) | Q(patient__user_id=user))
        .select_related("patient")
        .order_by("-starts", "id")
    )
    mine = [row for row in rows if row.user_id == user and row.accepted_at is not None]
    chosen = request.session.get(ACTS_AS)
    visit = Visit(
        own=own,
        acting=next((row for row in mine if row.pk == chosen), None),
        represents=mine,
        represented_by=[row for row in rows if own is not None and row.patient_id == own.pk],
    )
    request.visit = visit  # type: ignore[attr-defined]
    return visit


@overload
def for_patient(view: View) -> View: ...
@overload
def for_patient(*, may: str) -> Callable[[View], View]: ...
def for_patient(view: View | None = None, *, may: str = "") -> Any:
    """Signed in, and whose records these are: `view(request, patient, …)`. Staff go to their own site.

    Without `may` the page is the patient's own alone. `may` (an act of Representative.Scope) lets in who acts
    for her as well, where the authority stands today and covers that act. A POST that was made for somebody
    else than whom this visitor acts for now, in another tab, changes nothing.
    """
    if view is None:
        return lambda view: _guarded(view, may)
    return _guarded(view, may)


def _guarded(view: View, may: str) -> View:
    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        visit = enter(request)
        if (no := _no_to(request, visit, may)) is not None:
            return no
        return (
            nobody(request, visit) if visit.patient is None else view(request, visit.patient, *args, **kwargs)
        )

    inner.may = may  # type: ignore[attr-defined]  # tests/portal/test_acting.py reads it
    return needs_sign_in(inner)


def _no_to(request: HttpRequest, visit: Visit, may: str) -> HttpResponse | None:
    """The page that says why this visitor may not, in the order of what must not be passed over."""
    if is_over(request, visit):
        return over(request, visit)
    if request.method not in SAFE and not made_for_now(request, visit):
        return turned_away(request, "another", 409)
    if visit.acting is not None and not (may and visit.acting.may(may)):
        return turned_away(request, "scope" if may else "own")
    return None


def is_over(request: HttpRequest, visit: Visit) -> bool:
    """Whether this session was to act for somebody for whom this account does not act today."""
    return request.session.get(ACTS_AS) is not None and not (visit.acting and visit.acting.stands())


def nobody(request: HttpRequest, visit: Visit) -> HttpResponse:
    """A visitor without records of their own who acts for nobody now."""
    if visit.represents:
        return redirect("people")
    if request.user.is_staff:
        return redirect("staff")
    return render(request, "portal/no_records.html", status=403)


def made_for_now(request: HttpRequest, visit: Visit) -> bool:
    """Whether a POST comes from a page of whom this visitor acts for now. Only who may act for others can
    have pages of several people, and then a POST that does not say is refused too."""
    said = request.POST.get(MADE_FOR)
    if said is None:
        return not visit.represents
    return visit.patient is not None and said == visit.patient.pk


def over(request: HttpRequest, visit: Visit) -> HttpResponse:
    """The authority of this session has ended, or was never theirs: both look alike, and it acts no more."""
    del request.session[ACTS_AS]
    gone, request.visit = visit.acting, Visit(own=visit.own, represents=visit.represents)  # type: ignore[attr-defined]
    return turned_away(request, "over", gone=gone)


def turned_away(request: HttpRequest, why: str, status: int = 403, **context: Any) -> HttpResponse:
    """Why this page is not for whoever acts now: `over`, `another`, `scope` or `own`. Nothing was changed."""
    return render(request, "portal/not_for_you.html", {"why": why, **context}, status=status)


def named(visit: Visit, who: Representative | None) -> str:
    """Who did it, as this visitor reads it: "You", "Ana (for you)", "Ana (for Maria)", "Maria"."""
    if who is None:
        return _("You") if visit.acting is None or visit.patient is None else visit.patient.name
    if visit.acting is None:
        return _("%(name)s (for you)") % {"name": who.name}
    if who.pk == visit.acting.pk:
        return _("You (for %(patient)s)") % {"patient": visit.acting.patient.name}
    return _("%(name)s (for %(patient)s)") % {"name": who.name, "patient": visit.acting.patient.name}

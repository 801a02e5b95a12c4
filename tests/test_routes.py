"""Every address × every visitor × {their own, another's, absent}, as the table in docs/routes.md says.

An address without a row fails, and says which row to write. What an address is about (the third column) is
made in OBJECTS; another's has to look exactly like what is absent, byte by byte but for the form's token.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse
from django.urls.resolvers import RegexPattern
from django.utils import timezone

from consent import cohorts, scans
from consent.models import Consent, Patient, Requester, random_id
from gateway.accounts import clients
from gateway.accounts.models import User, Webhook, WebhookCall
from gateway.accounts.roles import ACTS, ROLES, STAFF_ROLES, make_groups
from gateway.adminsite import SEARCHED
from gateway.analysis import registrations
from gateway.analysis.models import AIModel, Job, JobSubject, Leg, ModelRegistration, Summary
from gateway.compliance.models import Alarm, Export, Retraining, RightsReview
from gateway.emergency.models import Emergency
from gateway.records import imports
from gateway.records.models import OwnCopy
from ledger.audit.log import Actor, record
from tests.api.conftest import application, token_for
from tests.questions import ask, ask_unread, cohort_question, in_force
from tests.signing import key_set, new_key
from tests.staff.conftest import add_factor

__all__ = ["application", "token_for"]  # fixtures

pytestmark = pytest.mark.django_db

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "routes.md"
ROW = re.compile(r"^\| `(/[^`]*)` \| ([^|]+?) \| ([^|]*?) ?\|$", re.MULTILINE)
ACT = re.compile(r"^\| `(\w+)` \| ([\w, ]+) \|$", re.MULTILINE)
# Parameters that name nobody's thing.
CONSTANTS: dict[str, Any] = {
    "code": "no-such-code", "digest": "0" * 64, "form": "csv", "key": "x", "kind": "Observation",
    "number": 1, "step": "who", "subject": "0" * 64, "uidb36": "1", "url": "no-such-page",
    "provider": "no-such-provider",
    "object_id": "0", "app_label": "consent", "plot": "choices", "id": "0" * 64, "group": "x", "call": "x",
}  # fmt: skip

Values = dict[str, Any]
Problems = list[str]


@dataclass(frozen=True)
class Route:
    """One address: `path` as the URLconf has it, with a slash before it."""

    path: str
    name: str
    view: Any

    def url(self, values: Values) -> str:
        known = {**CONSTANTS, **values}
        nil = "00000000-0000-0000-0000-000000000000"
        text = re.sub(r"<uuid:(\w+)>", lambda found: str(values.get(found[1], nil)), _plain(self.path))
        text = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(known[found[1]]), text)
        return text.removesuffix("?").removesuffix("/") + "/" if self.path.endswith("/") else text

    @property
    def act(self) -> str:
        """The act that a page of the staff site names."""
        view = self.view
        while view is not None:
            if hasattr(view, "act"):
                return str(view.act)
            view = getattr(view, "__wrapped__", None)
        return ""


def _plain(path: str) -> str:
    """A path whose regular expressions are written as converters are."""
    path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"<\1>", path)
    return path.removesuffix("/?")


def walk(resolver: Any = None, before: str = "/") -> Iterator[Route]:
    for each in (resolver or get_resolver()).url_patterns:
        text = str(each.pattern)
        path = before + (re.sub(r"[\^$]", "", text) if isinstance(each.pattern, RegexPattern) else text)
        if isinstance(each, URLResolver):
            yield from walk(each, path)
        else:
            yield Route(path, each.name or "", each.callback)


def section(title: str) -> str:
    return DOCUMENT.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


ROUTES = list(walk())
TABLE = {path: (who, whose) for path, who, whose in ROW.findall(section("Addresses"))}
ADMIN = [route for route in ROUTES if route.path.startswith("/admin/")]


def routes_for(*whos: str) -> list[tuple[Route, str, str]]:
    """The routes whose second column is, or begins with, one of these: (route, who, whose)."""
    found = [(route, *TABLE[route.path]) for route in ROUTES if route.path in TABLE]
    return [each for each in found if each[1].split(":")[0] in whos]


# The table itself


def test_every_route_has_a_row() -> None:
    missing = [
        f"| `{route.path}` | {route.act or _guess(route)} | {'…' if '<' in route.path else ''} |"
        for route in ROUTES
        if route.path not in TABLE and route not in ADMIN
    ]
    assert not missing, (
        "docs/routes.md has no row for these. Paste them into its table of routes, with who may see each"
        " (everyone, signed in, patient, an act of gateway/accounts/roles.py, AI client: SCOPE) and, where"
        " the address names a thing, whose it is (a maker of OBJECTS in tests/test_routes.py):\n"
        + "\n".join(missing)
    )


def _guess(route: Route) -> str:
    return "AI client: jobs" if route.path.startswith("/api/") else "patient"


def test_every_row_has_a_route() -> None:
    gone = TABLE.keys() - {route.path for route in ROUTES}
    assert not gone, f"docs/routes.md has rows of addresses that are gone: {sorted(gone)}"


def test_every_row_is_understood() -> None:
    for path, (who, whose) in TABLE.items():
        clients = {"AI client", "AI client: consents", "AI client: jobs", "AI client: FHIR"}
        known = {"everyone", "signed in", "patient", "staff"} | clients | ACTS.keys()
        assert who in known, f"{path}: nobody knows who “{who}” is"
        assert not whose or whose in OBJECTS, f"{path}: make “{whose}” in OBJECTS of tests/test_routes.py"
        assert whose or not _names(path) - CONSTANTS.keys(), f"{path}: say whose it is in the third column"


def _names(path: str) -> set[str]:
    return set(re.findall(r"<(?:\w+:)?(\w+)>", _plain(path)))


def test_the_acts_stand_in_the_document_as_in_the_code() -> None:
    written = {act: set(roles.split(", ")) for act, roles in ACT.findall(section("Acts of the staff site"))}
    lines = [f"| `{act}` | {', '.join(sorted(roles))} |" for act, roles in ACTS.items()]
    assert written == {act: set(roles) for act, roles in ACTS.items()}, (
        "docs/routes.md: the table of acts is\n" + "\n".join(lines)
    )


# The cast


class Cast:
    """Who visits. `clients` by what they are: a role, patient, nobody (signed in, and no more), anonymous."""

    def __init__(self, alice: Any, charlie: Any, helix: Any, user: Callable[..., Any], model: Any) -> None:
        make_groups()
        self.alice, self.charlie, self.helix, self.model = alice, charlie, helix, model
        Patient.objects.filter(pk=charlie.pk).update(proofed_at=timezone.now())
        charlie.refresh_from_db()
        self.other = Requester.objects.create(name="Other AI")
        self.people = {role: user(f"{role}-1", is_staff=True) for role in STAFF_ROLES}
        for role, person in self.people.items():
            person.groups.set(Group.objects.filter(name=role))
        self.people["superuser"] = user("root", is_staff=True, is_superuser=True)
        self.people["nobody"] = user("eve")
        self.people["patient"] = alice.user
        self.clients = {"anonymous": Client()}
        for what, person in self.people.items():
            if person.is_staff:
                add_factor(person)
            self.clients[what] = Client()
            self.clients[what].force_login(person, backend="django.contrib.auth.backends.ModelBackend")

    def may(self, what: str, act: str) -> bool:
        return ("administrator" if what == "superuser" else what) in ACTS[act]


@pytest.fixture
def cast(
    alice: Any, charlie: Any, helix: Any, user: Callable[..., Any], pce: Any, no_keyholder: None
) -> Cast:
    return Cast(alice, charlie, helix, user, pce)


@pytest.fixture
def no_keyholder(settings: Any, tmp_path: Any) -> None:
    settings.KEYHOLDER_SOCKET = str(tmp_path / "nobody.sock")


# What addresses are about: (the visitor's own, another's). Absent is the same with an id of nothing.


def _question(cast: Cast, patient: Patient) -> Values:
    return {"id": ask(cast.helix, patient).pk}


def _choice(cast: Cast, patient: Patient) -> Values:
    return {"id": in_force(ask(cast.helix, patient)).pk}


def _use(cast: Cast, patient: Patient) -> Values:
    details = {"requester": str(cast.helix.pk), "subject_id": random_id()}
    actor = Actor.system("worker")
    record(kind="job.released", actor=actor, subject=patient.pseudonym, **details)
    return {"key": details["subject_id"]}


_PASSKEYS = count(7_000_001)  # numbers that stand nowhere else on a page


def _passkey(user: User | None) -> Values:
    data = {"name": "A key", "credential": {"clientExtensionResults": {}}}
    kind, pk = Authenticator.Type.WEBAUTHN, next(_PASSKEYS)
    return {"pk": Authenticator.objects.create(pk=pk, user=user, type=kind, data=data).pk}


def _copy(patient: Patient) -> Values:
    now = timezone.now()
    times = {"asked_at": now, "expires_at": now + timedelta(hours=1)}
    made = OwnCopy.objects.create(patient=patient, state="recorded", **times)
    return {"id": made.pk, "form": "json"}


def _emergency(cast: Cast, opener: str) -> Values:
    now = timezone.now()
    by = cast.people[opener] if opener else User.objects.get(username="eve")
    times = {"opened_at": now, "expires_at": now, "review_by": now}
    return {"id": Emergency.objects.create(patient=cast.alice, opened_by=by, reason="ETREAT", **times).pk}


def _job(cast: Cast, requester: Requester) -> Job:
    return Job.objects.create(
        requester=requester, model=cast.model.digest, purpose="TREAT", index_date="2026-01-02", state="done"
    )


def _result(cast: Cast) -> Values:
    job = _job(cast, cast.helix)
    made = JobSubject.objects.create(
        job=job,
        leg=Leg.objects.create(job=job),
        number=0,
        asked=random_id(),
        patient=cast.alice,
        state="delivered",
    )
    return {"id": made.pk}


def _delivered(cast: Cast, requester: Requester) -> Values:
    job = _job(cast, requester)
    made = JobSubject.objects.create(job=job, leg=Leg.objects.create(job=job), number=0, state="delivered")
    return {"id": job.pk, "subject": made.pk}


def _summary(cast: Cast, requester: Requester) -> Values:
    job = _job(cast, requester)
    leg = Leg.objects.create(job=job)
    Summary.objects.create(leg=leg, digest="5" * 64, sealed=b"x", delivered_at=timezone.now())
    return {"id": job.pk, "digest": "5" * 64}


def _cohort(cast: Cast, requester: Requester) -> str:
    question = cohort_question(cast.model.digest)
    return cohorts.propose(requester=requester, question=question, wish="Everyone.").pk


def _registration(requester: Requester, digit: str) -> ModelRegistration:
    return registrations.register(
        requester=requester, digest=digit * 64, name="x", version="1", card={"for": "x"}, people=100, wrong=1
    )


def _webhook(requester: Requester) -> Values:
    made = Webhook.objects.create(
        requester=requester, url="https://x.example", events=["job.updated"], secret=b"x"
    )
    call = WebhookCall.objects.create(
        id=random_id()[:32], webhook=made, event="job.updated", body={}, next_at=timezone.now()
    )
    return {"id": made.pk, "call": call.pk}


def _export(cast: Cast, requester: Requester) -> Values:
    spec = {"types": ["Observation"], "since": None, "filters": {}, "address": "x"}
    made = _job(cast, requester)
    Job.objects.filter(pk=made.pk).update(kind="export", model="", spec=spec, settled_at=timezone.now())
    return {"id": made.pk, "kind": "Observation"}


def _group(requester: Requester, cast: Cast) -> Values:
    """A Group's id is its purpose and use: another's is one that this client did not ask for."""
    purpose = "HRESCH" if requester == cast.helix else "TREAT"
    ask(requester, cast.alice, action="disclose", model="", purpose=purpose, use=["HMB"])
    return {"group": f"{purpose}-HMB"}


def _client(cast: Cast) -> Values:
    made = clients.register(requester=cast.helix, by=Actor.staff(1), jwks=key_set(new_key()))
    return {"id": cast.helix.pk, "client": made.application.client_id}


def _alarm(cast: Cast) -> Values:
    now = timezone.now()
    by = User.objects.get(username="eve")
    made = Alarm.objects.create(
        kind="night",
        by=by,
        patient=cast.alice,
        day=now.date() - timedelta(days=Alarm.objects.count()),
        seen_at=now,
        leaf=0,
    )
    return {"id": made.pk}


def _rights(cast: Cast) -> Values:
    RightsReview.objects.update(settled_at=timezone.now())
    made = RightsReview.objects.create(of=User.objects.get(username="eve"), roles=["clinician"])
    return {"id": made.pk}


def _ticket(cast: Cast) -> Values:
    made = Retraining.objects.create(consent=random_id(), requester=cast.helix, withdrawn_at=timezone.now())
    return {"id": made.pk}


def _program(cast: Cast, patient: Patient) -> Values:
    """A model that used this patient's records, and nobody else's."""
    model = AIModel.objects.create(
        digest=random_id(), name="x", version="1", provider=cast.helix, card={}, state="approved"
    )
    job = Job.objects.create(
        requester=cast.helix, model=model.pk, purpose="TREAT", index_date="2026-01-02", state="done"
    )
    JobSubject.objects.create(
        job=job, leg=Leg.objects.create(job=job), number=0, patient=patient, consent="cc" * 32
    )
    return {"digest": model.pk}


def _answer(cast: Cast) -> Values:
    """With a scan."""
    made = _choice(cast, cast.alice)
    scan = scans.keep(patient=cast.alice, content=b"%PDF-1.7 a signed paper")
    Consent.objects.filter(pk=made["id"]).update(scan=scan)
    return made


# name -> the visitor's own; another's, or None where whoever may see one may see all.
OBJECTS: dict[str, tuple[Callable[[Cast], Values], Callable[[Cast], Values] | None]] = {
    "question": (lambda cast: _question(cast, cast.alice), lambda cast: _question(cast, cast.charlie)),
    "choice": (lambda cast: _choice(cast, cast.alice), lambda cast: _choice(cast, cast.charlie)),
    "use": (lambda cast: _use(cast, cast.alice), lambda cast: _use(cast, cast.charlie)),
    "passkey": (lambda cast: _passkey(cast.alice.user), lambda cast: _passkey(cast.charlie.user)),
    "staff passkey of one's own": (
        lambda cast: _passkey(cast.people["clinician"]),
        lambda cast: _passkey(cast.charlie.user),
    ),
    "copy": (lambda cast: _copy(cast.alice), lambda cast: _copy(cast.charlie)),
    "emergency of one's own": (
        lambda cast: _emergency(cast, "clinician"),
        lambda cast: _emergency(cast, ""),
    ),
    "question of one's own": (
        lambda cast: {"id": ask(cast.helix, cast.alice).pk},
        lambda cast: {"id": ask(cast.other, cast.alice).pk},
    ),
    "job of one's own": (
        lambda cast: {"id": _job(cast, cast.helix).pk},
        lambda cast: {"id": _job(cast, cast.other).pk},
    ),
    "any alarm": (_alarm, None),
    "any import": (lambda cast: {"id": imports.begin([]).pk}, None),
    "any ticket": (_ticket, None),
    "any rights": (_rights, None),
    "any trace": (lambda cast: {"kind": "job", "id": _job(cast, cast.helix).pk}, None),
    "program": (lambda cast: _program(cast, cast.alice), lambda cast: _program(cast, cast.charlie)),
    "any export": (
        lambda cast: {"id": Export.objects.create(kind="register", language="en").pk},
        None,
    ),
    "result of one's own": (
        lambda cast: _delivered(cast, cast.helix),
        lambda cast: _delivered(cast, cast.other),
    ),
    "summary of one's own": (
        lambda cast: _summary(cast, cast.helix),
        lambda cast: _summary(cast, cast.other),
    ),
    "cohort of one's own": (
        lambda cast: {"id": _cohort(cast, cast.helix)},
        lambda cast: {"id": _cohort(cast, cast.other)},
    ),
    "webhook of one's own": (lambda cast: _webhook(cast.helix), lambda cast: _webhook(cast.other)),
    "grant of one's own": (
        lambda cast: {"id": in_force(ask(cast.helix, cast.alice)).pk},
        lambda cast: {"id": in_force(ask(cast.other, cast.alice)).pk},
    ),
    "export of one's own": (lambda cast: _export(cast, cast.helix), lambda cast: _export(cast, cast.other)),
    "group of one's own": (lambda cast: _group(cast.helix, cast), lambda cast: _group(cast.other, cast)),
    "registration of one's own": (
        lambda cast: {"digest": _registration(cast.helix, "a").digest},
        lambda cast: {"digest": _registration(cast.other, "b").digest},
    ),
    "any registration": (lambda cast: {"id": _registration(cast.helix, "a").pk}, None),
    "any cohort": (lambda cast: {"id": _cohort(cast, cast.helix)}, None),
    "any emergency": (lambda cast: _emergency(cast, ""), None),
    "any result": (_result, None),
    "any question": (lambda cast: {"id": ask_unread(cast.helix, cast.alice).pk}, None),
    "any answer": (_answer, None),
    "any patient": (lambda cast: {"id": cast.alice.pk}, None),
    "any client": (_client, None),
    "any provider": (lambda cast: {"id": cast.helix.pk, "digest": cast.model.digest}, None),
}


def absent(values: Values) -> Values:
    nothing = {int: 10**9, str: "0" * 64}
    return {
        name: value
        if name in ("form", "kind")
        else nothing.get(type(value), "00000000-0000-0000-0000-000000000000")
        for name, value in values.items()
    }


# What is compared


@dataclass(frozen=True)
class Answer:
    """An answer without what may differ: ids of the address, the form's token, the request's own id."""

    status: int
    location: str
    body: str

    @classmethod
    def of(cls, response: Any, values: Values) -> "Answer":
        body = b"".join(response.streaming_content) if response.streaming else response.content
        texts = [response.get("Location", ""), body.decode("utf-8", "replace")]
        for text_of in (_without_ids(values), _without_token, _without_request_id):
            texts = [text_of(text) for text in texts]
        return cls(response.status_code, *texts)


def _without_ids(values: Values) -> Callable[[str], str]:
    def without(text: str) -> str:
        for value in values.values():
            text = text.replace(str(value), "ID")
        return text

    return without


def _without_token(text: str) -> str:
    return re.sub(r'(name="csrfmiddlewaretoken" value=)"[^"]*"', r"\1", text)


def _without_request_id(text: str) -> str:
    text = re.sub(r'"(request_id|timestamp)":\s*"[^"]*"', r'"\1":""', text)
    return re.sub(r"\bRequest [0-9a-f]{16}\b", "Request", text)  # in an OperationOutcome


@contextmanager
def undone() -> Iterator[None]:
    """What happens inside is rolled back: one address does not change what the next one finds."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def visit(client: Client, method: str, route: Route, values: Values, **headers: str) -> Answer:
    with undone():
        response = client.generic(method, route.url(values), headers=headers)
        return Answer.of(response, values)


def to_sign_in(answer: Answer) -> bool:
    return answer.status == 302 and answer.location.startswith((reverse("account_login"), "/admin/login/"))


def shows_again(answer: Answer) -> bool:
    """It asks the visitor to show again who they are, before anything is looked up."""
    return answer.status == 302 and "/reauthenticate/" in answer.location


METHODS = ("GET", "POST")


# Who may see what


def test_everyones_pages_refuse_nobody(cast: Cast) -> None:
    problems: Problems = []
    for route, _who, _whose in routes_for("everyone"):
        for what in ("anonymous", "patient", "nobody", "auditor"):
            answer = visit(cast.clients[what], "GET", route, {})
            # A step of signing in that comes out of turn goes back to the start.
            refused = to_sign_in(answer) and not route.path.startswith("/accounts/")
            if answer.status in (403, 500) or refused:
                problems.append(f"{route.path}: {what} got {answer.status}")
    assert not problems


def test_what_takes_a_sign_in_refuses_only_strangers(cast: Cast) -> None:
    problems: Problems = []
    for route, _who, whose in routes_for("signed in"):
        own, others = _made(cast, whose)
        for method in METHODS:
            stranger = visit(cast.clients["anonymous"], method, route, own)
            if not to_sign_in(stranger) and stranger.status != 405:
                problems.append(f"{route.path}: a stranger's {method} got {stranger.status}")
            if others:
                _same(problems, "patient", cast.clients["patient"], method, route, others)
    assert not problems


def test_patients_pages(cast: Cast) -> None:
    problems: Problems = []
    for route, _who, whose in routes_for("patient"):
        own, others = _made(cast, whose)
        for method in METHODS:
            for what, client in cast.clients.items():
                answer = visit(client, method, route, own)
                if answer.status == 405:
                    continue
                if what == "anonymous":
                    right = to_sign_in(answer)
                elif what == "patient":
                    # Without a third column the thing is absent: only the role is tried.
                    right = answer.status != 403 and (
                        answer.status != 404 or ("<" in route.path and not whose)
                    )
                else:
                    right = answer.status == 403 or (answer.status, answer.location) == (302, "/staff/")
                if not right:
                    problems.append(f"{route.path}: {what}'s {method} got {answer.status} {answer.location}")
                if others:
                    found = _same(problems, what, client, method, route, others)
                    if what == "patient" and found.status not in (404, 405) and not shows_again(found):
                        problems.append(f"{route.path}: another's answered {found.status} to a {method}")
    assert not problems


@pytest.mark.parametrize("act", [*sorted(ACTS), "staff"])
def test_staff_pages(cast: Cast, act: str) -> None:
    problems: Problems = []
    for route, _who, whose in routes_for(act):
        if route.act != ("" if act == "staff" else act):
            problems.append(f"{route.path}: its view names the act “{route.act}”")
        own, others = _made(cast, whose)
        nothing = absent(own)
        for method in METHODS:
            for what, client in cast.clients.items():
                answer, empty = (visit(client, method, route, values) for values in (own, nothing))
                if answer.status == 405:
                    continue
                if what == "anonymous":
                    right = to_sign_in(answer) and answer == empty
                elif act == "staff":
                    right = answer.status in (302, 403)
                elif not cast.may(what, act):
                    right = answer.status == 403 and answer == empty
                else:
                    # An empty POST may name something else that is not there.
                    lenient = method == "POST" or ("<" in route.path and not whose)
                    there = answer.status != 403 and (lenient or answer.status != 404)
                    right = there and (not whose or empty.status == 404)
                if not right:
                    got = f"{answer.status}, and {empty.status} for what is absent"
                    problems.append(f"{route.path}: {what}'s {method} got {got}")
                if others:
                    _same(problems, what, client, method, route, others)
    assert not problems


def _made(cast: Cast, whose: str) -> tuple[Values, Values | None]:
    if not whose:
        return {}, None
    own, others = OBJECTS[whose]
    return own(cast), others(cast) if others else None


def _same(
    problems: Problems, what: str, client: Client, method: str, route: Route, others: Values, **headers: str
) -> Answer:
    """Another's and absent, seen by the same visitor."""
    found, nothing = (visit(client, method, route, values, **headers) for values in (others, absent(others)))
    if found != nothing:
        problems.append(f"{route.path}: {what}'s {method} of another's differs from that of nothing")
    return found


API_METHODS = (*METHODS, "PUT", "DELETE")
# What each of our tokens opens, by the second column of the table.
TOKENS = {"consents": "consents", "jobs": "jobs", "system/*.rs": "FHIR", "system/Patient.r": "FHIR"}


def test_the_api(cast: Cast, application: Any, token_for: Callable[..., str]) -> None:
    problems: Problems = []
    tokens = {scope: token_for(application, scope=scope) for scope in TOKENS}
    api = Client()
    for route, who, whose in routes_for("AI client"):
        _kind, _colon, scope = who.partition(": ")
        own, others = _made(cast, whose)
        for method in API_METHODS:
            for what in ("anonymous", "patient", "clinician", "superuser"):
                answer = visit(cast.clients[what], method, route, own)
                if answer.status not in (401, 405) and (scope or answer.status != 404):
                    problems.append(f"{route.path}: {what}'s {method} got {answer.status} without a token")
            for name, token in tokens.items():
                headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": random_id()}
                answer = visit(api, method, route, own, **headers)
                if scope in ("", TOKENS[name]):
                    narrow = name == "system/Patient.r" and answer.status == 403
                    right = narrow or answer.status not in (401, 403)
                else:
                    right = answer.status in (403, 404) if scope == "FHIR" else answer.status == 403
                if not right and answer.status != 405:
                    problems.append(f"{route.path}: {method} with “{name}” got {answer.status}")
                if others:
                    found = _same(problems, name, api, method, route, others, **headers)
                    if found.status < 400:
                        problems.append(f"{route.path}: {method} with “{name}” opened another's")
    assert not problems


def test_every_address_of_the_api_with_an_id_says_whose_it_is() -> None:
    """So that another's and what is absent are compared at each of them."""
    silent = {"/fhir/<str:kind>", "/fhir/<str:kind>/<str:id>"}  # tests/api/test_export.py has these
    for route, who, whose in routes_for("AI client"):
        assert whose or not _names(route.path) or route.path in silent, f"{route.path} ({who})"


def test_the_admin_site(cast: Cast) -> None:
    """Its table is ROLES, model by model; a superuser has the rest. Nobody deletes what proofs point to."""
    problems: Problems = []
    for route in ADMIN:
        found = re.match(r"/admin/(\w+)/(\w+)/(?:<path:object_id>/(\w+)/|(add)/)?$", route.path)
        if found is None or found[1] == "password_change":
            continue
        model = f"{found[1]}.{found[2]}"
        right = found[3] or found[4] or "view"
        needed = {"change": {"view", "change"}, "history": {"view", "change"}, "view": {"view", "change"}}
        for what, client in cast.clients.items():
            if what == "superuser":
                continue
            answer = visit(client, "GET", route, {"object_id": "0"})
            may = bool(set(ROLES.get(what, {}).get(model, ())) & needed.get(right, {right}))
            open_to = answer.status in (200, 302) and not to_sign_in(answer)
            if may != open_to and not (may and right in ("add", "delete")):
                problems.append(f"{route.path}: {what} got {answer.status} {answer.location}")
    assert not problems


def test_the_admin_site_puts_nobody_into_a_url() -> None:
    """Its search is a GET: it may look for ids of ours, and for nothing that a person is known by."""
    for model, page in admin.site._registry.items():
        for field in page.search_fields:
            assert field in SEARCHED, f"{model.__name__}: {field}"

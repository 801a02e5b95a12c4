"""What the OpenAPI document says is what the API does: schemathesis tries each operation, then whole ways.

Nothing that is sent may end in a 5xx, and no answer may be one that the document does not have. A few cases
for each operation in `make test`, 500 in `make test-all`: half of them as the document says, half otherwise.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.db import transaction
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from consent import referrals
from consent.models import Patient, Requester
from gateway.analysis.models import AIModel
from gateway.api import events
from gateway.api.links import LINKS
from gateway.api.throttling import EachClient
from gateway.wsgi import application as product
from ledger.audit.log import Actor
from tests.questions import ask_unread

pytestmark = pytest.mark.django_db

CHECKS: list[Any] = [
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
FEW, MANY = 40, 500
ENOUGH = [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.exhaustive)]


def document() -> dict[str, Any]:
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    found: dict[str, Any] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


api = schemathesis.openapi.from_dict(document())
api.app = product
OPERATIONS = {each.ok().definition.raw["operationId"]: each.ok() for each in api.get_all_operations()}
MODES = {"as the document says": GenerationMode.POSITIVE, "otherwise": GenerationMode.NEGATIVE}


def modes_of(name: str) -> list[str]:
    """Of an operation that takes nothing there is nothing that can be wrong."""
    told = OPERATIONS[name].definition.raw
    return list(MODES) if told.get("parameters") or told.get("requestBody") else list(MODES)[:1]


WAYS = [(name, mode) for name in sorted(OPERATIONS) for mode in modes_of(name)]


def settings_of(cases: int) -> hypothesis.settings:
    """The same cases at each run: what fails here fails for whoever looks into it."""
    return hypothesis.settings(
        max_examples=cases,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def taken_back() -> Iterator[None]:
    """What is done within is undone after it, so that each case meets the same world: what one used up (a
    quota, an Idempotency-Key) would else be what the next is answered for."""
    with transaction.atomic():
        try:
            yield
        finally:
            transaction.set_rollback(True)


class World:
    """helix with its token, and values that make sense in the place of made-up ones."""

    def __init__(self, token: str, helix: Requester, alice: Patient, model: AIModel) -> None:
        self.headers = {"Authorization": f"Bearer {token}"}
        self._helix, self._alice, self._model = helix, alice, model
        self._asked = ask_unread(helix, alice, model=model.digest, kinds=["Observation"], sensitive=[]).pk

    def make_sense(self, body: Any) -> Any:
        """The body with things that there are: a code, a model, a request, a purpose."""
        if not isinstance(body, dict):
            return body
        known: dict[str, Any] = {
            "model": self._model.digest,
            "purpose": "HRESCH",
            "use": ["HMB"],
            "request": self._asked,
            "requests": [self._asked],
        }
        if "referral_code" in body:
            known["referral_code"] = referrals.issue(
                patient=self._alice, requester=self._helix, by=Actor.staff(1)
            )
        better = {name: known.get(name, each) for name, each in body.items()}
        if isinstance(body.get("decisions"), list):
            better["decisions"] = [self.make_sense(each) for each in body["decisions"]]
        return better


@pytest.fixture
def world(
    application: Any,
    token_for: Callable[..., str],
    helix: Requester,
    alice: Patient,
    pce: AIModel,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    monkeypatch.setattr(EachClient, "allow_request", lambda *_: True)
    monkeypatch.setattr(events, "SECONDS", 0.1)
    return World(token_for(application), helix, alice, pce)


@pytest.mark.parametrize("cases", ENOUGH)
@pytest.mark.parametrize(("operation", "mode"), WAYS)
def test_each_operation_answers_as_the_document_says(
    world: World, operation: str, mode: str, cases: int
) -> None:
    found = OPERATIONS[operation]

    @settings_of(cases // len(modes_of(operation)))
    @hypothesis.given(case=found.as_strategy(generation_mode=MODES[mode]), sensible=st.booleans())
    def holds(case: Case, sensible: bool) -> None:
        with taken_back():
            if sensible and MODES[mode] == GenerationMode.POSITIVE:
                case.body = world.make_sense(case.body)
            case.call_and_validate(headers=world.headers, checks=CHECKS)

    holds()


@pytest.mark.parametrize("cases", ENOUGH)
def test_one_call_after_another(world: World, cases: int) -> None:
    """What one answers is what the next asks for: ask, start, wait, cancel, read."""

    class Ways(api.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            self.one_way = taken_back()
            self.one_way.__enter__()

        def teardown(self) -> None:
            self.one_way.__exit__(None, None, None)

        def before_call(self, case: Case) -> None:
            case.body = world.make_sense(case.body)

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"headers": world.headers}

        def validate_response(self, response: Any, case: Case, **_: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    Ways.run(settings=hypothesis.settings(settings_of(cases), stateful_step_count=8))


def test_the_links_name_operations_and_answers_that_there_are() -> None:
    for (operation, status), follow in LINKS.items():
        assert status in OPERATIONS[operation].definition.raw["responses"]
        for name, parameters in follow.items():
            taken = {each["name"] for each in OPERATIONS[name].definition.raw["parameters"]}
            assert parameters.keys() <= taken, name


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("jobs", b'{"purpose": "\\u0000"}', "malformed"),
        ("jobs", b'{"\\u0000": 1}', "malformed"),
        ("jobs", {"model": "0" * 64, "purpose": 5}, "invalid_input"),
        ("decisions", {"decisions": "x"}, "invalid_input"),
        ("models", {"card": {"größe": "x"}}, "card"),
        ("models", {"card": {"deep": [[[["x"]]]], "half": None, "a" * 5000: "x" * 90_000}}, "card"),
    ],
)
def test_what_cannot_be_kept_is_refused(call: Callable[..., Any], path: str, body: Any, code: str) -> None:
    if path == "models":
        tested = {"people": 200, "wrong": 3}
        body = {"digest": "1" * 64, "name": "m", "version": "1", "tested": tested, **body}
    answer = call("POST", path, body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)

"""Who may open what on the staff site: every route × every role, as gateway/accounts/roles.py says."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from gateway.accounts.roles import ACTS, STAFF_ROLES
from gateway.staff.urls import urlpatterns

pytestmark = pytest.mark.django_db

ABSENT = {
    "id": "0" * 64,
    "digest": "0" * 64,
    "step": "who",
    "kind": "Observation",
}
ROUTES = [route for route in urlpatterns if route.name != "staff"]


def url_of(route: Any) -> str:
    names = route.pattern.converters
    values = {name: ABSENT[name] for name in names}
    if "uuid" in str(route.pattern):
        values["id"] = "00000000-0000-0000-0000-000000000000"
    return reverse(route.name, kwargs=values)


def test_every_route_names_an_act_of_the_table() -> None:
    assert {act_of(route) for route in ROUTES} <= ACTS.keys()


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("role", STAFF_ROLES)
def test_a_role_gets_403_or_what_its_acts_open(member: Callable[..., Client], role: str, method: str) -> None:
    client = member(role)
    for route in ROUTES:
        answer = getattr(client, method)(url_of(route))
        allowed = role in ACTS[act_of(route)]
        if answer.status_code == 405:
            continue
        assert (answer.status_code == 403) != allowed, (route.name, role, answer.status_code)


@pytest.mark.parametrize("method", ["get", "post"])
def test_strangers_and_patients_get_nowhere(alice: Any, method: str) -> None:
    patient = Client()
    patient.force_login(alice.user, backend="django.contrib.auth.backends.ModelBackend")
    for route in ROUTES:
        for client, status in ((Client(), 302), (patient, 403)):
            answer = getattr(client, method)(url_of(route))
            assert answer.status_code in (status, 405), (route.name, answer.status_code)
            if answer.status_code == 302:
                assert answer["Location"].startswith(reverse("account_login"))


def test_without_a_second_factor_nothing_opens(member: Callable[..., Client]) -> None:
    client = member("reviewer", factor=False)
    page = client.get(reverse("staff_queue"))
    assert page.status_code == 403
    assert "Add a second step first" in page.content.decode()


def act_of(route: Any) -> str:
    view: Any = route.callback
    while view is not None:
        if hasattr(view, "act"):
            return str(view.act)
        view = getattr(view, "__wrapped__", None)
    raise AssertionError(f"{route.name} names no act")

"""The table of pages covers every route of the portal and the staff site."""

import pytest

from gateway.accounts.roles import STAFF_ROLES
from gateway.demo.states import STATES
from gateway.portal.urls import urlpatterns as portal
from gateway.staff.urls import urlpatterns as staff
from tests.browser.pages import LEAD_ON, PAGES

ROUTES = [route.name for route in (*portal, *staff)]


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_is_in_a_row(route: str) -> None:
    assert (route in LEAD_ON) != any(page.route == route for page in PAGES)


def test_the_table_names_nobody_who_is_not_there() -> None:
    assert LEAD_ON.keys() <= set(ROUTES)
    assert {page.who for page in PAGES} <= {"", *STATES, *STAFF_ROLES}
    assert {page.of for page in PAGES} <= {"", *STATES}
    assert len({page.name for page in PAGES}) == len(PAGES)


def test_every_state_is_seen() -> None:
    assert STATES.keys() == {name for page in PAGES for name in (page.who, page.of)} & STATES.keys()

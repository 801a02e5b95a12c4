"""The developer pages in a browser: nobody signs in, nothing overflows, axe finds nothing."""

from typing import Any

import pytest

from gateway.api.developers import operations
from tests.browser.visit import EACH_WIDTH, IN_A_BROWSER, Visit

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("width", EACH_WIDTH)
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "none"])
def test_from_the_front_page_to_a_call_and_a_code(
    chromium: Any, live_server: Any, width: int, scripts: bool
) -> None:
    listed = operations()  # made once for each process, which takes longer than a browser waits
    visit = Visit(chromium, live_server.url, width, scripts)
    visit.open("/developers/")
    visit.look("developers")
    for each in listed:
        visit.open(f"/developers/operations/{each['id']}")
        if each["id"] in ("start_job", "list_jobs"):
            visit.look(f"developers-{each['id']}")
    visit.open("/developers/sandbox")
    visit.look("developers-sandbox")
    visit.open("/developers/errors/")
    visit.look("developers-errors")
    visit.follow("not_available")
    visit.look("developers-error")
    visit.close()

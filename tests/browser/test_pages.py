"""Every page in every state (tests/browser/pages.py), at both widths, from left to right and right to left,
and in Spanish at the narrow one.

`make test` sees each route once, in one of the five ways; `make test-all` sees the whole product.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.browser import pseudo
from tests.browser.gallery import Gallery, open_gallery
from tests.browser.pages import PAGES, Page
from tests.browser.visit import FIRST_VIEW, IN_A_BROWSER, WIDTHS, Visit
from tests.browser.ways import SEEN

pytestmark = [*IN_A_BROWSER, pytest.mark.django_db]

WAYS = [*product(WIDTHS, ("en", pseudo.CODE)), (min(WIDTHS), "es")]


def cases() -> list[Any]:
    """Each page in each way; the first page of a route, in the next way, is of the sample."""
    found, seen = [], set[str]()
    for page in PAGES:
        sample = WAYS[len(seen) % len(WAYS)] if page.route not in seen else None
        seen.add(page.route)
        for way in WAYS:
            marks = [] if way == sample else [pytest.mark.exhaustive]
            found.append(pytest.param(page, *way, id=f"{page.name}-{way[0]}-{way[1]}", marks=marks))
    return found


@pytest.fixture
def no_keyholder() -> None:
    """The gallery has one."""


@pytest.fixture(scope="module")
def gallery(django_db_setup: None, django_db_blocker: Any, mirrored: Path) -> Iterator[Gallery]:
    with pseudo.spoken(mirrored), django_db_blocker.unblock(), open_gallery() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(gallery: Gallery, request: pytest.FixtureRequest) -> Page:
    """A row of the table, whose person is in the state that it names. Not a test's alone: see `renew`."""
    shown: Page = request.param
    gallery.renew(shown.about)
    return shown


@pytest.mark.parametrize(("page", "width", "language"), cases(), indirect=["page"], scope="module")
def test_page(gallery: Gallery, chromium: Any, page: Page, width: int, language: str) -> None:
    who = gallery.who(page.who) if page.who else None
    visit = Visit(chromium, gallery.url, width, language=language, who=who, again=True)
    try:
        visit.open(page.path(gallery), page.status)
        assert visit.path == page.path(gallery).partition("?")[0], "it leads elsewhere"
        html = visit.page.locator("html")
        assert html.get_attribute("dir") == ("rtl" if language == pseudo.CODE else "ltr")
        visit.look(f"{page.name}-{language}")
    finally:
        visit.close()


EACH_ROUTE = pytest.mark.parametrize(
    "page",
    list({page.route: page for page in reversed(PAGES)}.values()),
    ids=lambda page: page.name,
    indirect=True,
    scope="module",
)


# What Tab should pass, in the order of the page; of a group of radios it is one.
STOPS = """() => {
  const groups = new Set(), usable = 'a[href], button, input, select, textarea, summary';
  window.stops = [...document.querySelectorAll(usable)].filter(e => {
    if (e.type === 'hidden' || e.disabled || !e.checkVisibility()) return false;
    if (e.type !== 'radio') return true;
    const chosen = document.querySelector(`input[name="${e.name}"]:checked`);
    if (chosen ? chosen !== e : groups.has(e.name)) return false;
    return groups.add(e.name);
  });
  return window.stops.length;
}"""


@pytest.mark.exhaustive
@EACH_ROUTE
def test_page_by_keyboard(gallery: Gallery, chromium: Any, page: Page) -> None:
    """Tab passes everything that can be used, in the order of the page, and shows where it is."""
    who = gallery.who(page.who) if page.who else None
    visit = Visit(chromium, gallery.url, who=who, again=True)
    visit.open(page.path(gallery), page.status)
    stops = visit.page.evaluate(STOPS)
    passed: list[int] = []
    for _ in range(4 * stops):  # a field for a date has several stops of its own
        visit.page.keyboard.press("Tab")
        at = visit.page.evaluate("window.stops.indexOf(document.activeElement)")
        assert at >= 0, "Tab leads out of the page, or to what cannot be used"
        assert visit.page.evaluate(SEEN), f"the focus is not to be seen at stop {at}"
        if [at] != passed[-1:]:
            passed.append(at)
        if len(passed) == stops:
            break
    assert passed == [*range(stops)]
    visit.close()


@pytest.mark.exhaustive
@EACH_ROUTE
def test_page_with_large_text_and_without_scripts(gallery: Gallery, chromium: Any, page: Page) -> None:
    who = gallery.who(page.who) if page.who else None
    for options in ({"text": 200}, {"text": 200, "width": 640}, {"scripts": False}):
        visit = Visit(chromium, gallery.url, who=who, again=True, **options)  # type: ignore[arg-type]
        visit.open(page.path(gallery), page.status)
        assert visit.problems == []
        if visit.scripts:
            visit.fits(page.name)
        else:
            assert visit.page.locator("h1").first.is_visible()
            assert visit.page.locator(".gw-scripted:visible").count() == 0
        visit.close()


@pytest.mark.exhaustive
@EACH_ROUTE
def test_first_view(gallery: Gallery, chromium: Any, page: Page) -> None:
    if page.status == 200:
        visit = Visit(chromium, gallery.url, who=gallery.who(page.who) if page.who else None, again=True)
        assert visit.weigh(page.path(gallery)) <= FIRST_VIEW
        visit.close()

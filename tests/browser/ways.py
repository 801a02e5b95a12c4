"""The six ways in which somebody goes through the site: by mouse, by keyboard alone, without scripts, on a
small screen, with large text, from right to left.

A journey is written once, as a test under `each_way` that begins with the fixture `walk`. It names what it
uses by CSS and looks for no words but people's own, so that every language is the same to it.
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from tests.browser import pseudo
from tests.browser.visit import Visit

WAYS: dict[str, dict[str, Any]] = {
    "mouse": {},
    "keyboard": {"keyboard": True},
    "no scripts": {"scripts": False},
    "320 px": {"width": 320},
    "large text": {"text": 200},
    "right to left": {"language": pseudo.CODE},
}
MOST_TABS = 90

# The first button of the page's own form.
FORWARD = "main form[method=post] button:not([formaction])"

# What has the focus lies on the screen and looks different from what has not.
SEEN = """() => {
  const e = document.activeElement, box = e.getBoundingClientRect(), style = getComputedStyle(e);
  const on = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  const mark = e.matches('input') || style.outlineStyle !== 'none' || style.boxShadow !== 'none';
  return on && mark;
}"""

# Where the focus is, as seen from an element.
WHERE = """e => e === document.activeElement ? 'here'
  : e.type === 'radio' && document.activeElement.name === e.name ? 'group' : 'elsewhere'"""


def each_way(*sample: str) -> pytest.MarkDecorator:
    """The test goes each of the six ways: those of `sample` in `make test`, the others in `make test-all`."""
    assert set(sample) <= WAYS.keys()
    cases = [
        pytest.param(options, id=name, marks=[] if name in sample else [pytest.mark.exhaustive])
        for name, options in WAYS.items()
    ]
    return pytest.mark.parametrize("way", cases)


class Walk(Visit):
    """A visit that goes one of the ways. With `keyboard` there is no mouse."""

    def __init__(self, *where: Any, keyboard: bool = False, **options: Any) -> None:
        super().__init__(*where, **options)
        self.keyboard = keyboard

    def go(self, name: str, *args: Any) -> None:
        """Follow the page's own link to a route."""
        self.use(f'main a[href="{reverse(name, args=args)}"]')

    def send(self, name: str, *args: Any) -> None:
        """Press the button of the form that goes to a route."""
        self.use(f'form[action="{reverse(name, args=args)}"] button')

    def unfold(self, name: str, *args: Any) -> None:
        """Show the form that goes to a route, where a summary hides it."""
        self.use(f'details:has(form[action="{reverse(name, args=args)}"]) > summary')

    def is_at(self, name: str, *args: Any) -> bool:
        return self.path == reverse(name, args=args)

    def use(self, where: str) -> None:
        """Follow, press, tick, choose or unfold the one that `where` (CSS) names."""
        target = self._find(where)
        if target.evaluate("e => e.matches('input')"):
            self._tick(target)
        elif target.evaluate("e => e.matches('summary')"):
            self._press(target)
        else:
            self._press(target, self.page.expect_navigation())

    def type(self, where: str, text: str) -> None:
        target = self._find(where)
        if self.keyboard:
            self._reach(target)
            self.page.keyboard.type(text)
        else:
            target.fill(text)

    def choose(self, where: str, value: str) -> None:
        """One of a closed list."""
        target = self._find(where)
        if not self.keyboard:
            target.select_option(value)
            return
        self._reach(target)
        for _ in range(target.locator("option").count()):
            if target.input_value() == value:
                return
            self.page.keyboard.press("ArrowDown")
        assert target.input_value() == value, "the list does not come to it by keyboard"

    def attach(self, where: str, file: Path) -> None:
        """Hand over a file, in the dialogue that the field opens."""
        with self.page.expect_file_chooser() as chooser:
            self._press(self._find(where), key="Space")
        chooser.value.set_files(file)

    def keep(self, where: str, file: Path) -> None:
        """Download what the link leads to."""
        with self.page.expect_download() as download:
            self._press(self._find(where))
        download.value.save_as(file)

    def _find(self, where: str) -> Any:
        return self.page.locator(where).first

    def _press(
        self, target: Any, follows: AbstractContextManager[Any] | None = None, *, key: str = "Enter"
    ) -> None:
        with follows or nullcontext():
            if self.keyboard:
                self._reach(target)
                self.page.keyboard.press(key)
            else:
                target.click()

    def _tick(self, target: Any) -> None:
        if self.keyboard:
            self._reach(target)
            self.page.keyboard.press("Space")
        else:
            target.check()
        assert target.is_checked()

    def _reach(self, target: Any) -> None:
        """Go on by Tab until `target` has the focus, and is seen to have it."""
        element, key = target.element_handle(), "Tab"
        for _ in range(MOST_TABS):
            self.page.keyboard.press(key)
            where = element.evaluate(WHERE)
            if where == "here":
                assert self.page.evaluate(SEEN), "the focus is not to be seen"
                return
            # Arrows move within a group of radios, of which Tab reaches one.
            key = "ArrowDown" if where == "group" else "Tab"
        raise AssertionError(f"{target} cannot be reached by keyboard")

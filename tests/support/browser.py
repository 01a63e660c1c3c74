"""A real browser without a window: the installed Chromium, driven by Playwright."""

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage
    from playwright.sync_api import Page as Opened

Scheme = Literal["light", "dark"]

_SECONDS = 60
_SERIOUS = ("serious", "critical")


def chromium() -> str:
    """Return the path of Chromium, or skip the test where it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    return found


class Page:
    """An open page.

    Attributes:
        opened: Playwright's page.
        problems: Errors of its scripts, and what the browser complained of.
    """

    def __init__(self, opened: "Opened") -> None:
        self.opened = opened
        self.problems: list[str] = []
        opened.on("pageerror", lambda error: self.problems.append(str(error)))
        opened.on("console", self._heard)

    def _heard(self, message: "ConsoleMessage") -> None:
        if message.type == "error":
            self.problems.append(message.text)

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, of a promise when it is kept."""
        return self.opened.evaluate(expression)

    def wait(self, expression: str) -> None:
        """Return when a JavaScript expression is true.

        Playwright's own function for it evaluates text in the page, which a policy may forbid.
        """
        deadline = time.monotonic() + _SECONDS
        while not self.value(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Press keys one after the other, such as "Tab" or "Control+Enter"."""
        for key in keys:
            self.opened.keyboard.press(key)

    def focused(self) -> str:
        """Return the ID, else the text, of the element that has the focus."""
        return str(self.value("document.activeElement.id || document.activeElement.textContent"))

    def tab_to(self, name: str, limit: int = 60) -> None:
        """Press Tab until the element with an ID, or with a text, has the focus."""
        for _ in range(limit):
            self.press("Tab")
            if self.focused() == name:
                return
        raise AssertionError(f"{name} is not reached by {limit} times Tab")

    def cut_off(self, scrolling: str = "none") -> list[str]:
        """Return elements that reach beyond the page, or hide some of what is in them.

        Args:
            scrolling: Selector of elements that may scroll sideways, with what is in them.
        """
        found: list[str] = self.opened.evaluate(
            """(scrolling) => [...document.querySelectorAll("body *")].filter((e) => {
              const box = e.getBoundingClientRect();
              if (!box.width || e.closest(scrolling)) return false;
              const clips = getComputedStyle(e).overflowX !== "visible";
              return (clips && e.scrollWidth > e.clientWidth + 1)
                || box.right > document.documentElement.clientWidth + 1;
            }).map((e) => e.outerHTML.slice(0, 200))""",
            scrolling,
        )
        return found

    def shown(self, selector: str) -> list[str]:
        """Return the elements of a selector that are drawn."""
        found: list[str] = self.opened.evaluate(
            """(selector) => [...document.querySelectorAll(selector)]
              .filter((e) => e.checkVisibility() && e.getClientRects().length)
              .map((e) => e.outerHTML.slice(0, 200))""",
            selector,
        )
        return found

    def accessibility_faults(self) -> list[tuple[str, list[str]]]:
        """Return the serious and critical faults that axe-core finds: rule and elements."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.opened).response["violations"]
        return [
            (fault["id"], [node["html"] for node in fault["nodes"][:3]])
            for fault in found
            if fault["impact"] in _SERIOUS
        ]


@contextlib.contextmanager
def page(url: str, headers: Mapping[str, str] | None = None, **options: Any) -> Iterator[Page]:
    """Open a page in a browser with an empty profile.

    Args:
        url: Its address.
        headers: Headers of each request.
        options: Of Playwright's `new_page`, such as `color_scheme="dark"`.
    """
    from playwright.sync_api import sync_playwright

    program = chromium()
    with sync_playwright() as playwright:
        # No sandbox: in containers, Chromium runs as root.
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        try:
            opened = browser.new_page(extra_http_headers=dict(headers or {}), **options)
            shown = Page(opened)
            opened.goto(url)
            yield shown
        finally:
            browser.close()


def run_in_page(file: Path, script: str) -> Any:
    """Open a page, run a script in it, and return what the script returns.

    Args:
        file: HTML file.
        script: Body of an asynchronous function.
    """
    with page(file.resolve().as_uri()) as opened:
        return opened.value(f"(async () => {{ {script} }})()")

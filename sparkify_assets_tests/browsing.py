"""A headless Chromium to look at pages with: the one that is installed, none is downloaded.

Belongs here: starting it, and what a page complains about. Does not belong here: what is looked at.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# It is here to show pages, not to ask its maker for news.
_OPTIONS = ("--disable-background-networking", "--disable-component-update", "--disable-gpu")
# The size of a page in the docs' pictures.
SCREEN = {"width": 1400, "height": 900}
PHONE = {"width": 360, "height": 740}


def installed() -> str | None:
    """The path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for as long as the context lasts; `installed` must have found one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=_OPTIONS)
        yield browser
        browser.close()


def complaints(page: Page) -> list[str]:
    """A list that grows by every error of the page: thrown by its code, or told to the console."""
    found: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            found.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def sideways(page: Page) -> int:
    """By how many pixels the page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")

"""What the browser tests do to a page, and what they read off it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

FIGURES = """() => {
    const shown = [...document.querySelectorAll('[data-testid="stMetricValue"]')].map(one => one.innerText);
    return shown.length > 3 && shown;
}"""


def settle(page: Any, timeout: int = 60_000) -> None:
    """Wait until the script has run to its end and stays there, at most so many milliseconds."""
    idle = page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
    idle.wait_for(timeout=timeout)
    page.get_by_test_id("stMainBlockContainer").get_by_role("heading").first.wait_for()
    page.wait_for_timeout(150)
    idle.wait_for(timeout=timeout)


def chip(page: Any, layer: int) -> Any:
    return page.get_by_role("button", name=re.compile(rf"^L{layer}, position"))


def order(page: Any) -> list[str]:
    """Return the names on the chips, in order."""
    strip = page.get_by_role("list", name="Layers in running order")
    strip.wait_for(state="attached")
    labels = strip.locator(".chip")
    return [label.split(",")[0] for label in labels.evaluate_all("all => all.map(one => one.ariaLabel)")]


def plan(page: Any) -> str:
    return parse_qs(urlsplit(page.url).query, keep_blank_values=True)["plan"][0]


def await_plan(page: Any, notation: str) -> None:
    page.wait_for_function("text => new URLSearchParams(location.search).get('plan') === text", arg=notation)
    settle(page)


def figures(page: Any) -> tuple[str, ...]:
    """Return perplexity, agreement and KL as shown."""
    values = page.wait_for_function(FIGURES).json_value()  # at once: the page may be drawn again meanwhile
    return values[0], values[2], values[3]


def texts(page: Any) -> list[str]:
    """Return what is written before and after."""
    shown = page.locator('[data-testid="stMainBlockContainer"] [data-testid="stHtml"]')
    shown.nth(1).wait_for()
    return shown.all_inner_texts()


def type_notation(page: Any, text: str) -> None:
    field = page.get_by_label("Notation", exact=True)
    field.fill(text)
    field.press("Enter")


def choose(page: Any, field: str, typed: str) -> None:
    """Choose what a field offers first for what is typed, by keyboard; while the page is drawn, fields lose the focus."""
    settle(page)
    page.get_by_label(re.compile(field)).focus()
    page.keyboard.type(typed)
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("Enter")


def wait_until(page: Any, true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so that the page does not show; the browser goes on meanwhile."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so within {seconds:g} s"
        page.wait_for_timeout(50)


def place(element: Any) -> Any:
    """Return an element's box once it stands still: a page that is still being drawn, or waits for its font, moves."""
    element.page.evaluate("document.fonts.ready.then(() => true)")
    element.element_handle().wait_for_element_state("stable")
    return element.bounding_box()


def drag(page: Any, start: Any, end: Any) -> None:
    """Drag with the mouse from the middle of one element to the middle of another."""
    place(start)
    (a, b) = (place(element) for element in (start, end))
    page.mouse.move(a["x"] + a["width"] / 2, a["y"] + a["height"] / 2)
    page.mouse.down()
    page.mouse.move(b["x"] + b["width"] / 2, b["y"] + b["height"] / 2, steps=12)
    page.mouse.up()

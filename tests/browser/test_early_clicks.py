"""Clicks while the page is still being drawn: the plan and the texts of the link stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.driver import order, plan, settle

PLAN = "0,2-4,6-11"
LAYERS = ["L0", "L2", "L3", "L4", "L6", "L7", "L8", "L9", "L10", "L11"]
QUERY = f"?plan={PLAN}&prompt=The+old+woman&lens=A+fox+ran&length=4"
TEXTS = {"prompt": "The old woman", "lens": "A fox ran"}
MAIN = '[data-testid="stMain"]'
PAGES = {
    "": ['[data-testid="stPopover"] button', '[data-testid="stExpander"] summary', "textarea"],
    "lens": ['[data-testid="stCheckbox"] label', '[data-testid="stExpander"] summary', "textarea"],
    "sweep": ['[data-testid="stCheckbox"] label', '[data-testid="stButtonGroup"] button', '[role="tab"]'],
    "skills": ['[data-testid="stButtonGroup"] button', '[data-testid="stMultiSelect"]'],
    "models": ["table", "h2", "h3"],
}
"""What is clicked in the main part of each page: whatever does not itself change the plan, the model or a text."""
PLACES = """selectors => [...document.querySelectorAll(selectors.map(one => '[data-testid="stMain"] ' + one).join(','))]
    .map(one => one.getBoundingClientRect()).filter(box => box.width && box.top >= 0 && box.bottom < innerHeight)
    .map(box => [box.left + Math.min(box.width, 60) / 2, box.top + box.height / 2])"""


@contextmanager
def opened(context: Any, address: str) -> Iterator[Any]:
    """Open a page in a tab of its own, and wait for nothing."""
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto(address, wait_until="commit")
    yield page
    page.close()


def click_as_soon_as_possible(page: Any, name: str, clicks: int, start: int) -> None:
    """Click on what is there in the main part, again and again, without waiting for the run to end."""
    done = 0
    for _ in range(3_000):
        places = page.evaluate(PLACES, PAGES[name])
        if places:
            page.mouse.click(*places[(start + done) % len(places)])
            done += 1
        if done == clicks:
            return
        page.wait_for_timeout(10)
    pytest.fail(f"nothing to click on the page {name!r}")


def check(page: Any) -> None:
    """Check that everything that the link said is still there."""
    page.keyboard.press("Escape")  # an open list hides the rest of the page from screen readers, and from tests
    settle(page, timeout=180_000)  # each click has asked for something, and a busy machine does it all
    assert plan(page) == PLAN
    assert page.get_by_test_id("stSidebar").get_by_test_id("stAlert").count() == 0
    expect(page.get_by_label("Notation", exact=True)).to_have_value(PLAN)
    assert order(page) == LAYERS
    said = page.evaluate("Object.fromEntries(new URLSearchParams(location.search))")
    assert {name: said[name] for name in TEXTS} == TEXTS
    for label, text in (("Text to continue", "The old woman"), ("Text to read", "A fox ran")):
        field = page.get_by_label(label, exact=True)
        if field.count():
            expect(field).to_have_value(text)


def click_and_check(context: Any, server: str, visits: int, clicks: int) -> int:
    """Visit the pages in turn; click early, then once more when all is drawn. Return how many clicks there were."""
    for visit in range(visits):
        name = list(PAGES)[visit % len(PAGES)]
        with opened(context, f"{server}/{name}{QUERY}") as page:
            click_as_soon_as_possible(page, name, clicks - 1, visit)
            check(page)
            click_as_soon_as_possible(page, name, 1, visit + 1)
            check(page)
    return visits * clicks


def test_early_clicks_on_a_cold_and_a_warm_server(chromium: Any, cold_server: str, server: str) -> None:
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    count = click_and_check(context, cold_server, visits=5, clicks=8)
    count += click_and_check(context, server, visits=5, clicks=32)
    context.close()
    assert count == 200


@pytest.mark.parametrize("name", list(PAGES))
def test_clicks_before_the_fields_are_there(chromium: Any, server: str, name: str) -> None:
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    held: list[Any] = []
    # Streamlit fetches each kind of field when it first draws one; here these files come late.
    context.route("**/TextInput.*.js", lambda route: held.append(route))
    with opened(context, f"{server}/{name}{QUERY}") as page:
        click_as_soon_as_possible(page, name, 2, 0)
        page.wait_for_timeout(800)
        click_as_soon_as_possible(page, name, 1, 1)
        page.wait_for_timeout(800)
        assert page.get_by_label("Notation", exact=True).count() == 0
        assert held
        for route in held:
            route.continue_()
        check(page)
        click_as_soon_as_possible(page, name, 1, 2)
        check(page)
    context.close()

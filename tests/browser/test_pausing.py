"""Removal, importance and the least important layer in a browser: paused, reloaded, gone on with, brought into view."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.driver import await_plan, order, plan, settle

Visit = Callable[..., Any]
PAUSED = re.compile(r"^Paused at \d+ of 11 removals$")


def tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    settle(page)


def start(page: Any) -> None:
    page.get_by_role("button", name="Start", exact=True).click()


def labels(page: Any) -> list[str]:
    """Return what the points of a removal's curve say to a screen reader."""
    found = page.locator('path[aria-label*="Layers left: "]')
    return list(found.evaluate_all("all => all.map(one => one.ariaLabel)"))


def in_view(page: Any, place: Any) -> None:
    """Wait until the top of a place is on the screen and stays there."""
    place.wait_for()
    page.wait_for_timeout(2500)
    box = place.bounding_box()
    assert 0 <= box["y"] < page.viewport_size["height"] * 0.75, box


def test_a_removal_is_paused_outlives_a_reload_and_goes_on_while_the_others_does(visit: Visit) -> None:
    # a plan that no other test asks for, so that it is not there at once
    one, other = (visit("/sweep?plan=0-2,4,3,5-11") for _ in range(2))
    for page in (one, other):
        tab(page, "Removal")
        page.get_by_role("radio", name="Pick some").first.click()
        settle(page)
        start(page)
    one.get_by_text(re.compile(r"^[1-9]\d* of 11 removals, \d+ of at most 77 plans tried")).wait_for(timeout=60_000)
    one.get_by_role("button", name="Pause").click()
    one.get_by_text(PAUSED).wait_for()
    settle(one)
    before = one.get_by_text(PAUSED).inner_text()
    one.reload()
    settle(one)
    tab(one, "Removal")
    assert one.get_by_text(PAUSED).inner_text() == before
    other.get_by_text("Done: 11 removals, one layer at a time.").wait_for(timeout=120_000)
    assert one.get_by_text(PAUSED).inner_text() == before
    one.get_by_role("button", name="Go on").click()
    one.get_by_text("Done: 11 removals, one layer at a time.").wait_for(timeout=120_000)
    settle(one)
    for page in (one, other):
        page.get_by_text("Table", exact=True).click()
    points = [labels(page) for page in (one, other)]
    assert len(points[0]) >= 12
    assert points[0] == points[1]


@pytest.mark.parametrize("name", ["Removal", "Importance"])
def test_what_is_started_is_brought_into_view(visit: Visit, name: str) -> None:
    page = visit("/sweep", viewport={"width": 1400, "height": 600})
    tab(page, name)
    start(page)
    shown = {"Removal": "Greedy removal", "Importance": "Importance"}[name]
    in_view(page, page.get_by_role("heading", name=shown, exact=True))


@pytest.mark.parametrize("title", ["Which layers matter?", "What can the middle bear?", "Is damage foreseen?"])
def test_what_a_question_starts_is_brought_into_view_whatever_tab_it_is_in(visit: Visit, title: str) -> None:
    page = visit("/sweep", viewport={"width": 1400, "height": 600})
    page.get_by_role("button", name=title).click()
    tabs = {"Is damage foreseen?": "Importance", "Which layers matter?": "Delete each layer"}
    in_view(page, page.get_by_role("heading", name=tabs.get(title, "Six changes of a growing middle"), exact=True))


def test_the_least_important_layer_goes_with_one_click_and_comes_back_by_undo(visit: Visit) -> None:
    page = visit("/?plan=0-5,7-11")
    button = page.get_by_role("button", name="Find the least important layer and remove it")
    button.click()
    sentence = page.get_by_text(re.compile(r"^L\d+ hurt least and was removed"))
    sentence.wait_for(timeout=90_000)
    settle(page)
    gone = re.match(r"L\d+", sentence.inner_text())
    assert gone is not None
    assert gone[0] not in order(page)
    assert len(order(page)) == 10
    after = plan(page)
    page.get_by_role("button", name="Undo").click()
    await_plan(page, "0-5,7-11")
    assert gone[0] in order(page)
    assert sentence.count() == 0
    # what was measured is there: the second click needs no sweep
    button.click()
    await_plan(page, after)
    button.click()
    page.wait_for_function(
        "text => new URLSearchParams(location.search).get('plan') !== text", arg=after, timeout=90_000
    )
    settle(page)
    assert len(order(page)) == 9

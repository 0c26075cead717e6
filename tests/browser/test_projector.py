"""Larger type for a projector, in a real browser: larger everywhere, kept, and nothing broken by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.driver import settle
from tests.browser.test_accessible import ready

Visit = Callable[..., Any]
SCREENS = {"small": {"width": 1280, "height": 720}, "full": {"width": 1920, "height": 1080}}
PAGES = ("", "lens", "sweep", "skills", "gallery", "compare", "models", "glossary")
PLAN = "plan=0-4,6-11&tray=Without%20L5%090-4,6-11%0ABackwards%0911-0"
BASE = "parseFloat(getComputedStyle(document.documentElement).fontSize)"
LABEL = """() => Math.max(...[...document.querySelectorAll('svg.marks .role-axis-label text')]
    .map(one => parseFloat(getComputedStyle(one).fontSize)))"""
WIDE = """() => {
    const broken = [...document.querySelectorAll('[data-testid="stMain"] button, [data-testid="stSidebar"] button')]
        .filter(one => one.getClientRects().length && one.scrollWidth > one.clientWidth + 2);
    const main = document.querySelector('[data-testid="stMain"]');
    return [document.documentElement.scrollWidth > innerWidth, main.scrollWidth > main.clientWidth + 1,
        broken.map(one => one.innerText)];
}"""
"""Whether the page scrolls sideways, and buttons whose words stand over their edge."""
CUT = """() => [...document.querySelectorAll('[data-testid="stMetricValue"] *, [data-testid="stMetricDelta"] *')]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflow === 'hidden')
    .map(one => one.innerText)"""
"""Headline figures that are cut short."""


def test_type_and_labels_grow_by_a_quarter_and_go_back(visit: Visit) -> None:
    page = visit("/?plan=0-4,6-11")
    ready(page)
    page.locator("svg.marks .role-axis-label text").first.wait_for()
    base, label = page.evaluate(BASE), page.evaluate(LABEL)
    assert base == 15
    switch = page.get_by_test_id("stSidebar").get_by_text("Present", exact=True)
    assert page.get_by_test_id("stSidebar").bounding_box()["width"] == 340
    switch.click()
    page.wait_for_function(f"() => {BASE} === 18.75")
    # at once, and not only after a reload
    page.wait_for_function("() => document.querySelector('.stSidebar').getBoundingClientRect().width === 410")
    page.wait_for_function(f"before => ({LABEL})() >= 1.2 * before", arg=label)
    settle(page)
    assert "present=1" in page.url
    page.get_by_role("link", name="Skills").click()
    settle(page)
    assert page.evaluate(BASE) == 18.75
    page.reload()
    settle(page)
    page.wait_for_function(f"() => {BASE} === 18.75")
    switch.click()
    page.wait_for_function(f"() => {BASE} === 15")
    settle(page)
    assert "present" not in page.url


@pytest.mark.parametrize("name", PAGES)
def test_no_page_breaks(visit: Visit, name: str) -> None:
    usual = visit(f"/{name}?{PLAN}", viewport=SCREENS["small"])
    page = visit(f"/{name}?{PLAN}&present=1", viewport=SCREENS["small"])
    page.wait_for_function(f"() => {BASE} === 18.75")
    for screen, size in SCREENS.items():
        for one in (usual, page):
            one.set_viewport_size(size)
            one.wait_for_timeout(300)
            ready(one)
        assert page.evaluate(WIDE) == [False, False, usual.evaluate(WIDE)[2]], screen
        assert page.evaluate(CUT) == [], screen


def test_words_are_found_from_every_page_and_by_a_link(visit: Visit) -> None:
    page = visit("/?plan=0-4,6-11", viewport={"width": 390, "height": 844})
    page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_role("link", name="What do these words mean?").click()
    settle(page)
    assert "/glossary" in page.url
    # the drawer closes over the chosen page
    expect(page.get_by_role("heading", name="What do these words mean?")).to_be_in_viewport()
    field = page.get_by_label("Search", exact=True)
    field.fill("kl output")
    field.press("Enter")
    expect(page.get_by_role("heading", name="KL to the output")).to_be_visible()
    expect(page.get_by_role("heading", name="Perplexity")).to_have_count(0)
    other = visit("/glossary?model=fable&plan=0-11#jensen-shannon", viewport={"width": 1280, "height": 720})
    expect(other.get_by_role("heading", name="Jensen-Shannon")).to_be_in_viewport()
    # by hand: the address is written anew before the word is drawn
    typed = visit("/glossary#kl", viewport={"width": 1280, "height": 720})
    expect(typed.get_by_role("heading", name="KL", exact=True)).to_be_in_viewport()
    # it is no page of the bar at the top
    assert other.get_by_test_id("stTopNavLink").filter(has_text="Glossary").count() == 0

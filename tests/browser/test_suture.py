"""Cuts in a browser: stitched by the switch where the deleted layers lie, and healed, from a click to a model in the picker."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.browser.driver import await_plan, plan, settle, texts

Visit = Callable[..., Any]


def switch(page: Any) -> Any:
    return page.get_by_role("switch", name="Stitch the cut")


def titles(page: Any) -> list[Any]:
    """Return the titles of the columns of text, from left to right."""
    main = page.get_by_test_id("stMainBlockContainer")
    return [one for name in ("Before", "Cut", "Stitched") for one in main.get_by_text(name, exact=True).all()[:1]]


def boxes(page: Any) -> list[Any]:
    return [one.bounding_box() for one in titles(page)]


def test_the_switch_in_the_tray_stitches_and_the_plain_cut_stands_between(visit: Visit) -> None:
    page = visit("/?plan=0-3,5-11")
    page.get_by_test_id("stMetricValue").first.wait_for()
    before, cut = texts(page)
    assert (
        page.get_by_role("group", name="Deleted layers").get_by_role("switch").get_attribute("aria-checked") == "false"
    )
    switch(page).focus()
    page.keyboard.press("Enter")
    await_plan(page, "0-3,~,5-11")
    assert switch(page).get_attribute("aria-checked") == "true"
    page.get_by_text("Stitched, against cut:").wait_for(timeout=60_000)
    settle(page)
    shown = texts(page)
    assert shown[:2] == [before, cut]
    assert len(shown) == 3
    left, middle, right = boxes(page)
    assert left["x"] < middle["x"] < right["x"]
    assert left["y"] == middle["y"] == right["y"]
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(500)
    above, between, below = boxes(page)
    assert above["y"] < between["y"] < below["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1400, "height": 900})
    switch(page).click()
    await_plan(page, "0-3,5-11")
    assert switch(page).get_attribute("aria-checked") == "false"
    page.get_by_role("button", name="Reset", exact=True).click()
    await_plan(page, "0-11")
    assert not switch(page).is_visible()


BETTER = r"""() => {
    const [, first, best] = document.body.innerText.match(/Held-out loss ([\d.]+) → ([\d.]+) nats a token at best/) ?? [];
    return Number(best) < Number(first);
}"""
"""Whether a reading of the texts held out was better than that of the stitched model."""
DRAWN = """() => new Set(
    [...document.querySelectorAll('path[aria-label*="Step: "]')].map(one => one.ariaLabel)).size > 1"""
"""Whether the chart has more than one reading."""


def test_a_cut_is_healed_from_a_click_to_a_model_that_the_lens_reads(visit: Visit) -> None:
    page = visit("/?plan=0,4-11")
    page.get_by_role("button", name="Heal").click()
    page.get_by_role("radio", name="1 min").click()
    settle(page)
    page.get_by_role("button", name="Start healing").click()
    page.get_by_text(re.compile(r"Healing: step \d+")).wait_for(timeout=60_000)
    page.wait_for_function(BETTER, timeout=60_000)
    page.wait_for_function(DRAWN)
    page.get_by_role("button", name="Stop and keep the best").click()
    opening = page.get_by_role("button", name="Open the healed model")
    opening.wait_for(timeout=60_000)
    table = page.get_by_test_id("stSidebar").locator("table")
    table.get_by_text("Healed").wait_for()
    rows = table.locator("tbody tr").all_inner_texts()
    sides = {name: float(loss) for name, loss, *_ in (row.split() for row in rows)}
    assert list(sides) == ["Base", "Cut", "Stitched", "Healed"]
    assert sides["Base"] < sides["Healed"] < sides["Stitched"] < sides["Cut"]
    page.get_by_text(re.compile(r"Trained on [\d,]+ texts\. The figures are of \d+ that were not: ")).wait_for()
    opening.click()
    await_plan(page, "0-8")
    page.get_by_role("heading", name=re.compile(r"Fable, 9 layers, healed, unchanged")).wait_for()
    page.get_by_role("link", name="Lens").click()
    page.get_by_role("heading", name="What each layer would say next").wait_for()
    page.locator("[role=graphics-document]").first.wait_for(timeout=30_000)
    settle(page)
    assert plan(page) == "0-8"

"""Ways from one figure to the next: from a text's line to its tokens, from a layer in the strip to its row in the lens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from tests.browser.driver import await_plan, chip, settle

Visit = Callable[..., Any]
ROW = 35
"""Height of a line of a table, in pixels."""


def test_a_ticked_line_opens_its_text_below(visit: Visit) -> None:
    page = visit("/?plan=0-4,6-11")
    heading = page.get_by_role("heading", name="Token by token")
    heading.wait_for()
    settle(page)
    grid = page.get_by_test_id("stDataFrame").first
    grid.scroll_into_view_if_needed()
    box = grid.bounding_box()
    # the box before the fourth line
    page.mouse.click(box["x"] + 16, box["y"] + ROW * 4 + ROW // 2)
    field = page.get_by_test_id("stMain").get_by_role("combobox", name="Text", exact=True)
    expect(field).to_have_value("How to make a paper boat")
    expect(heading).to_be_in_viewport()
    expect(page.get_by_test_id("stMain")).to_contain_text("Take a sheet of paper and lay it flat")


def test_a_layers_menu_leads_to_its_row_in_the_lens(visit: Visit) -> None:
    page = visit("/models?plan=0-5,5-11")
    page.get_by_role("button", name="L5, position 6").click()
    page.get_by_role("dialog", name="Layer menu").get_by_role("button", name="See it in the lens").click()
    page.get_by_role("heading", name="Ten likeliest next tokens").wait_for()
    settle(page)
    await_plan(page, "0-5,5-11")
    expect(page.get_by_role("combobox", name="Cell: layer")).to_have_value("L5 (2)")
    expect(page.get_by_role("combobox", name="Map")).to_have_value("After")
    # the field of the notation was not drawn in the run that went on to the lens
    expect(page.get_by_label("Notation", exact=True)).to_have_value("0-5,5-11")
    chip(page, 0).click()
    page.keyboard.press("Delete")
    await_plan(page, "1-5,5-11")


def test_the_lens_starts_with_probability_and_has_the_rest_under_more(visit: Visit) -> None:
    page = visit("/lens")
    page.get_by_role("heading", name="Ten likeliest next tokens").wait_for()
    settle(page)
    statistic = page.get_by_role("combobox", name="Colours and lines show")
    expect(statistic).to_be_hidden()
    page.get_by_role("button", name="More").click()
    expect(statistic).to_have_value("Probability")
    statistic.click()
    page.get_by_role("option", name="Entropy", exact=True).click()
    expect(page.get_by_test_id("stMain")).to_contain_text("How undecided the layer is")

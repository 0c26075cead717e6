"""The first thing that somebody does: a picture of a change is clicked, and a sentence says what it did."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from tests.browser.driver import await_plan, chip, order, settle

Visit = Callable[..., Any]


def test_a_pictured_change_is_one_click_and_a_sentence_says_what_it_did(visit: Visit) -> None:
    page = visit("/")
    settle(page)
    buttons = page.locator(".pictured button")
    expect(buttons).to_have_count(6)
    assert buttons.all_inner_texts() == [
        "Drop a layer", "Drop a quarter", "Reverse the middle", "Swap two", "Repeat the middle", "Shuffle the middle",
    ]  # fmt: skip
    assert buttons.locator("svg g.deleted").count() == 1 + 3
    buttons.filter(has_text="Drop a layer").click()
    await_plan(page, "0-5,7-11")
    assert "L6" not in order(page)
    # by hand: the layers of fable but the sixth; figures are those of the headline below
    said = page.get_by_text(re.compile(r"^Without L6 "))
    expect(said).to_be_visible()
    expect(said).to_contain_text(re.compile(r"surprised.*(on texts like these|decide it)\..* Its text "))
    expect(page.get_by_text("Underlined: from where the two texts differ, to their end.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    await_plan(page, "0-11")
    expect(buttons).to_have_count(6)


def test_the_pictures_are_reached_by_keys(visit: Visit) -> None:
    page = visit("/")
    settle(page)
    page.locator(".pictured button").nth(2).focus()
    page.keyboard.press("Enter")
    await_plan(page, "0-2,8-3,9-11")


def test_a_question_starts_its_sweep_and_brings_the_chart_into_view(visit: Visit) -> None:
    page = visit("/sweep", viewport={"width": 1200, "height": 620})
    settle(page)
    expect(page.locator(".pictured button")).to_have_count(6)
    heading = page.get_by_role("heading", name="Delete each layer")
    assert not heading.evaluate("one => one.getBoundingClientRect().bottom < innerHeight")
    page.get_by_role("button", name="Which layers matter?").click()
    page.get_by_text("All 12 plans measured.").wait_for(timeout=60_000)
    page.wait_for_timeout(2_500)
    # what each deletion cost stands on the chips from now on
    expect(chip(page, 0)).to_have_attribute(
        "aria-label", re.compile(r"^L0, position 0, without it \+\d\.\d{3} nats a token")
    )
    assert page.locator(".list .chip.costly").count() == 12
    top, bottom = heading.evaluate("one => [one.getBoundingClientRect().top, one.getBoundingClientRect().bottom]")
    assert top >= 0
    assert bottom <= 620


def test_a_page_that_is_opened_with_a_sweep_does_not_jump(visit: Visit) -> None:
    page = visit("/sweep", viewport={"width": 1200, "height": 620})
    page.get_by_role("button", name="Which layers matter?").click()
    page.get_by_text("All 12 plans measured.").wait_for(timeout=60_000)
    page.get_by_role("link", name="Models").click()
    settle(page)
    page.get_by_role("link", name="Sweep").click()
    settle(page)
    page.wait_for_timeout(2_500)
    assert (
        page.get_by_role("button", name="Which layers matter?").evaluate("one => one.getBoundingClientRect().top") > 0
    )

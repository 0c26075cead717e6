"""Keep, and the plan's picture, as a person has them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import expect

from tests.browser.driver import await_plan, settle

Visit = Callable[..., Any]
PLAN = "0-3,5,4,6.attn,7-11"


def opened(page: Any) -> Any:
    """Open the popover, and return it once the page's own tables are in it."""
    page.get_by_role("button", name="Keep").click()
    settle(page)
    page.get_by_role("button", name="PARQUET").wait_for()
    return page.get_by_test_id("stPopoverBody")


def downloaded(page: Any, name: str) -> Path:
    with page.expect_download() as found:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(found.value.path())


def test_files_are_what_they_say(visit: Visit) -> None:
    page = visit(f"/?plan={PLAN}")
    opened(page)
    recipe = tomllib.loads(downloaded(page, "Recipe").read_text(encoding="utf-8"))
    assert recipe["plan"] == PLAN
    assert "import surgery_core as sc" in downloaded(page, "Script").read_text(encoding="utf-8")
    table = pd.read_parquet(downloaded(page, "PARQUET"))
    assert {"perplexity_before", "perplexity_after"} <= set(table)
    assert downloaded(page, "SVG").read_text(encoding="utf-8").startswith("<svg")


def test_a_table_is_copied_as_markdown(visit: Visit) -> None:
    page = visit(f"/?plan={PLAN}", permissions=["clipboard-read", "clipboard-write"])
    opened(page)
    page.get_by_role("button", name="Copy as Markdown").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("| title | kind | tokens |")


def test_a_dropped_recipe_is_opened(visit: Visit, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('version = 1\nmodel = "fable"\nplan = "0-4,7-11"\nprompts = ["The old king"]\n', encoding="utf-8")
    page = visit()
    body = opened(page)
    body.locator("input[type=file]").set_input_files(recipe)
    await_plan(page, "0-4,7-11")
    expect(page.get_by_role("textbox", name="Text to continue")).to_have_value("The old king")


@pytest.mark.parametrize(("width", "drawn", "hidden"), [(1400, "wide", "narrow"), (390, "narrow", "wide")])
def test_the_picture_that_fits_is_seen_and_says_what_it_shows(
    visit: Visit, width: int, drawn: str, hidden: str
) -> None:
    page = visit(f"/?plan={PLAN}", viewport={"width": width, "height": 844})
    shown = page.locator(f"svg.{drawn}")
    expect(shown).to_be_visible()
    expect(page.locator(f"svg.{hidden}")).to_be_hidden()
    expect(page.get_by_role("img", name=f"The plan {PLAN}")).to_have_count(1)
    assert shown.locator("desc").text_content() == "Out of order: L5 before L4. Changed: L6.attn."
    box = shown.bounding_box()
    assert box["x"] + box["width"] <= width


def test_the_unchanged_model_has_no_picture(visit: Visit) -> None:
    page = visit()
    expect(page.locator("svg.wide")).to_have_count(0)


def test_on_a_phone_it_is_a_sheet_with_room_to_read(visit: Visit) -> None:
    page = visit(f"/?plan={PLAN}", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.get_by_test_id("stExpandSidebarButton").click()
    box = opened(page).bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert box["height"] > 844 / 2
    assert box["y"] + box["height"] <= 844

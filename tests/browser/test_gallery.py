"""The Gallery page in a real browser: a card is found and run by keyboard, a recipe is dropped, broken and whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from surgery_core.recipes.gallery import card_of
from tests.browser.driver import order, settle

KEY = "keep-the-last"
"""A card whose study takes a few seconds."""
SHIFT = """
() => new Promise(done => {
    let total = 0;
    new PerformanceObserver(list => list.getEntries().forEach(one => { if (!one.hadRecentInput) total += one.value }))
        .observe({ type: 'layout-shift', buffered: true });
    setTimeout(() => done(total), 300);
})
"""
"""What of the page moved by itself so far: cumulative layout shift."""


def outcome(page: Any) -> Any:
    return page.get_by_test_id("stMarkdown").get_by_text(
        re.compile(r"^.*(Seen here too|Not seen here|Too few texts to say)$")
    )


def test_a_card_is_opened_by_keyboard_and_run_on_the_model(visit: Any) -> None:
    page = visit("/gallery")
    card = card_of(KEY)
    # from the model that was measured: a picture at once, the paper's number beside ours
    page.get_by_text("Which layers can a model do without?").wait_for()
    page.get_by_text("72 to 95 %").first.wait_for()
    page.locator("canvas, svg.marks").first.wait_for()
    opener = page.get_by_role("button", name=re.compile(rf"^{re.escape(card.recipe.title)}"))
    opener.focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=card.recipe.title).wait_for()
    settle(page)
    assert f"recipe={KEY}" in page.url
    page.get_by_role("button", name="Run it on Fable").click()
    page.get_by_text("measured on Fable just now").wait_for(timeout=120_000)
    settle(page)
    meaning = card.recipe.meaning
    assert meaning is not None
    shown = page.get_by_test_id("stMainBlockContainer").inner_text()
    assert dict(card.recipe.expected)["fable"].capitalize() in shown
    assert meaning.of(dict(card.recipe.expected)["fable"]) in shown  # type: ignore[arg-type]
    # a link opens the same card in another session, with what was measured for everybody
    other = visit(page.url)
    other.get_by_text("measured on Fable just now").wait_for()
    # and back to all of them
    page.get_by_role("button", name="All experiments").click()
    page.get_by_text("Experiments of papers, run again").wait_for()
    settle(page)
    assert "recipe=" not in page.url


def test_set_up_goes_to_the_page_where_it_is_done(visit: Any) -> None:
    page = visit("/gallery?recipe=delete-each")
    page.get_by_role("button", name="Set it up on the Sweep page").click()
    page.get_by_role("heading", name="Every layer tried").wait_for()
    settle(page)
    assert page.get_by_role("combobox", name=re.compile("Sweep")).first.input_value() == "Delete each layer"
    assert len(order(page)) == 12


def test_a_dropped_recipe_opens_and_a_broken_one_names_line_and_key(visit: Any, tmp_path: Path) -> None:
    text = card_of(KEY).text
    line = next(
        at
        for at, one in enumerate(text.splitlines(), 1)
        if one.startswith("name =") and "[study]" in text.splitlines()[at - 2]
    )
    broken = tmp_path / "mine.toml"
    broken.write_text(text.replace(text.splitlines()[line - 1], 'name = "drop-them-all"'), encoding="utf-8")
    page = visit("/gallery")
    page.locator('[data-testid="stFileUploaderDropzoneInput"]').set_input_files(str(broken))
    error = page.get_by_test_id("stMainBlockContainer").get_by_role("alert")
    error.wait_for()
    said = error.inner_text()
    assert said.startswith(
        f"Line {line}: The recipe's field 'study.name' is not known. There is no study 'drop-them-all'"
    )
    field = page.get_by_label("Its text")
    assert "drop-them-all" in field.input_value()
    field.fill(text.replace(card_of(KEY).recipe.title, "My own experiment"))
    page.get_by_role("button", name="Open it").click()
    page.get_by_role("heading", name="My own experiment").wait_for()
    settle(page)
    page.get_by_role("button", name="All experiments").click()
    page.get_by_role("button", name=re.compile("^My own experiment")).wait_for()


def test_nothing_jumps_and_a_phone_has_one_column(visit: Any) -> None:
    page = visit("/gallery", viewport={"width": 390, "height": 844})
    page.get_by_text("Which layers can a model do without?").wait_for()
    page.wait_for_timeout(1500)
    assert page.evaluate(SHIFT) <= 0.1
    titles = (card_of(key).recipe.title for key in ("delete-each", "first-layer"))
    boxes = [page.get_by_role("button", name=title, exact=True).bounding_box() for title in titles]
    assert boxes[0]["x"] == boxes[1]["x"]
    assert boxes[1]["y"] > boxes[0]["y"] + 100
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

"""Sweeps in a browser: bars appear while it runs, a click takes a plan over, cancel answers, nothing is cut off."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.driver import await_plan, figures, order, plan, settle

Visit = Callable[..., Any]
Expected = Callable[[str], tuple[str, ...]]


def bar(page: Any, words: str) -> Any:
    """Return the place to click of a bar or a cell, by what its tooltip says."""
    return page.locator(f'path[aria-label*="{words}"]').last


def start(page: Any) -> None:
    page.get_by_role("button", name="Start", exact=True).click()


def finish(page: Any, plans: int) -> None:
    page.get_by_text(f"All {plans} plans measured.").wait_for(timeout=120_000)
    settle(page)


def surgery_figures(page: Any) -> tuple[str, ...]:
    """Return what the Surgery page says of the plan in the strip."""
    page.get_by_role("link", name="Surgery").click()
    page.get_by_test_id("stMetricValue").nth(3).wait_for()
    settle(page)
    return figures(page)


def test_bars_appear_while_it_runs_and_a_click_takes_a_plan_over(visit: Visit, expected: Expected) -> None:
    # a sweep that no other test asks for: what somebody has measured already is there at once
    first = expected("1-3,5,4,6-11")[0]
    page = visit("/sweep?plan=0-3,5,4,6-11")
    page.get_by_text(re.compile(r"12 plans over .* tokens: ")).wait_for()
    bar(page, "Deleted layer: L0; Perplexity: not run yet").wait_for(state="attached")
    chart = page.locator(".stVegaLiteChart svg.marks").element_handle()
    start(page)
    bar(page, f"Deleted layer: L0; Perplexity: {first}").wait_for(state="attached")
    assert chart.evaluate("drawn => drawn.isConnected"), "the empty chart was drawn anew instead of filled"
    assert page.get_by_text("All 12 plans measured.").count() == 0
    assert bar(page, "Deleted layer: L11; Perplexity: not run yet").count() == 1
    finish(page, 12)
    perplexity = expected("0-4,6-11")[0]
    fifth = bar(page, f"Deleted layer: L5; Perplexity: {perplexity}; 95 % interval: ")
    assert re.search(r"95 % interval: [\d.]+ to [\d.]+; Plan: 0-4,6-11$", fifth.get_attribute("aria-label"))
    fifth.click()
    await_plan(page, "0-4,6-11")
    assert "L5" not in order(page)
    page.get_by_text("The strip now has").wait_for()
    page.get_by_role("button", name="Undo").click()
    await_plan(page, "0-3,5,4,6-11")
    bar(page, "Deleted layer: L5;").click()
    await_plan(page, "0-4,6-11")
    assert surgery_figures(page) == expected("0-4,6-11")


def test_cancel_answers_at_once_and_pause_goes_on(visit: Visit, cold_server: str) -> None:
    page = visit(cold_server + "/sweep")
    page.get_by_role("button", name="Which block can go?").click()
    bar(page, "First layer of the block: L0; Layers skipped: 2; Perplexity: ").wait_for(state="attached")
    page.get_by_text(re.compile(r"^[1-9]\d* of 77")).wait_for(timeout=60_000)
    page.get_by_role("button", name="Pause").click()
    page.get_by_text(re.compile(r"^Paused at \d+ of 77$")).wait_for()
    settle(page)
    before = page.get_by_text(re.compile(r"^Paused at \d+ of 77$")).inner_text()
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.wait_for_timeout(1500)
    began = time.monotonic()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel").wait_for(state="detached")
    assert time.monotonic() - began < 5
    settle(page)
    after = page.get_by_text(re.compile(r"Cancelled at \d+ of 77")).inner_text()
    numbers = [int(re.search(r"at (\d+) of", text)[1]) for text in (before, after)]  # type: ignore[index]
    assert numbers[1] >= numbers[0] > 0
    assert plan(page) == "0-11"


def test_a_sweep_goes_on_under_another_page(visit: Visit, cold_server: str) -> None:
    page = visit(cold_server + "/sweep")
    page.get_by_role("button", name="What can the middle bear?").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_role("link", name="Models").click()
    status = page.get_by_test_id("stSidebar").get_by_text(re.compile(r"Six changes of a growing middle: \d+ of 55"))
    status.wait_for()
    page.get_by_role("link", name="Sweep").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel").wait_for(state="detached")


def test_files_are_saved_and_reopened(visit: Visit, tmp_path: Path) -> None:
    page = visit("/sweep", accept_downloads=True)
    start(page)
    finish(page, 12)
    for kind, begins in (("CSV", b"sweep_"), ("JSON", b"{"), ("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("HTML", b"<")):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.read_bytes().lstrip().startswith(begins), kind
    page.get_by_role("button", name="Open a file").click()
    page.locator('[data-testid="stFileUploaderDropzoneInput"]').set_input_files(str(tmp_path / "delete-each-layer.csv"))
    page.get_by_text("Opened from a file.").wait_for()
    settle(page)
    assert page.get_by_role("heading", name="delete-each-layer").is_visible()


@pytest.mark.parametrize(
    ("address", "scheme"), [("/sweep", "light"), ("/sweep?plan=0,2-11", "dark"), ("/skills?plan=0,2-11", "dark")]
)
def test_a_phone_has_nothing_cut_off_and_no_request_leaves(
    visit: Visit, address: str, scheme: str, server: str
) -> None:
    page = visit("/models", viewport={"width": 390, "height": 844}, color_scheme=scheme)
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(server + address)
    settle(page)
    if "sweep" in address:
        start(page)
        page.get_by_text(re.compile(r"All \d+ plans measured")).wait_for(timeout=120_000)
        settle(page)
    main = page.get_by_test_id("stMain")
    assert main.evaluate("main => Math.max(main.scrollWidth, document.documentElement.scrollWidth)") <= 390
    assert not failed
    assert {urlsplit(url).netloc for url in asked if url.startswith("http")} == {urlsplit(server).netloc}


def test_skill_by_layer_is_clicked(visit: Visit) -> None:
    page = visit("/skills")
    page.get_by_role("button", name="Ask without each layer").click()
    cell = bar(page, "Deleted layer: L2; skill: Opposites; Skill: Opposites; Accuracy: ")
    expect(cell).to_have_attribute("aria-label", re.compile(r"Accuracy: [\d.]+%"), timeout=60_000)
    page.get_by_role("button", name="Pause").click()
    page.get_by_text(re.compile("Paused at")).first.wait_for()
    settle(page)
    cell.click()
    await_plan(page, "0-1,3-11")


def test_what_somebody_else_measured_is_there_as_soon_as_it_is_asked_for(visit: Visit) -> None:
    for _ in range(2):
        page = visit("/sweep?plan=0-2")
        page.get_by_role("tab", name="Importance").click()
        settle(page)
        start(page)
        page.get_by_role("button", name="Measure it").click()
        page.get_by_test_id("stMetricValue").nth(2).wait_for(timeout=60_000)
    for _ in range(2):
        page = visit("/skills?plan=0-2")
        page.get_by_text(re.compile("plans over .* tokens: ")).wait_for(timeout=60_000)
        page.get_by_role("button", name="Ask without each layer").click()
        page.get_by_text("With nothing more taken out").wait_for(timeout=60_000)
        page.get_by_text(re.compile("plans over .* tokens: ")).wait_for(state="detached", timeout=60_000)


def test_the_atlas_has_three_maps_and_a_cell_of_each_is_taken_over(visit: Visit, expected: Expected) -> None:
    page = visit("/sweep?plan=0-3")
    page.get_by_text("Repeat", exact=True).first.click()
    settle(page)
    field = page.get_by_role("combobox", name="Sweep", exact=True)
    field.click()
    field.fill("Atlas")
    page.get_by_role("option").first.click()
    settle(page)
    start(page)
    finish(page, 27)
    assert page.locator(".stVegaLiteChart svg.marks").count() == 3
    cells = page.locator(
        'path[aria-label*="First layer of the block: L1; Layers in the block: 2;"][aria-label*="Plan: "]'
    )
    labels = cells.evaluate_all("all => all.map(one => one.ariaLabel)")
    assert {label.split("Plan: ")[1] for label in labels} == {"0,3", "0-2,1-3", "0,[1-2]*0.5x2,3"}
    for taken in ("0,[1-2]*0.5x2,3", "0-2,1-3", "0,3"):
        bar(page, f"Plan: {taken}").click()
        await_plan(page, taken)
    assert surgery_figures(page) == expected("0,3")

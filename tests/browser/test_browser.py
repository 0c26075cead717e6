"""What a person does in the browser: the strip, notation, pages, links, bad input, phones."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.driver import await_plan, chip, drag, figures, order, place, plan, settle, texts, type_notation

Visit = Callable[..., Any]
Expected = Callable[[str], tuple[str, ...]]


def test_a_dragged_chip_moves_its_layer_and_the_numbers_are_the_cores(visit: Visit, expected: Expected) -> None:
    page = visit()
    drag(page, chip(page, 9), chip(page, 1))
    await_plan(page, "0,9,1-8,10-11")
    assert order(page)[:4] == ["L0", "L9", "L1", "L2"]
    expect(page.get_by_label("Notation", exact=True)).to_have_value("0,9,1-8,10-11")
    assert figures(page) == expected("0,9,1-8,10-11")
    assert len(texts(page)) == 2


def test_a_chip_is_dragged_to_the_tray_and_back(visit: Visit) -> None:
    page = visit()
    drag(page, chip(page, 3), page.get_by_text("Drop a layer here to delete it."))
    await_plan(page, "0-2,4-11")
    back = page.get_by_role("button", name="Put L3 back")
    drag(page, back, chip(page, 11))
    await_plan(page, "0-2,4-10,3,11")
    drag(page, chip(page, 3), page.get_by_text("Drop a layer here to delete it."))
    await_plan(page, "0-2,4-11")
    page.get_by_role("button", name="Put L3 back").click()
    await_plan(page, "0-11")


def test_the_keyboard_moves_deletes_and_keeps_its_place(visit: Visit, expected: Expected) -> None:
    page = visit()
    chip(page, 5).focus()
    page.keyboard.press("Shift+ArrowRight")
    await_plan(page, "0-4,6,5,7-11")
    page.keyboard.press("Shift+ArrowRight")
    await_plan(page, "0-4,6-7,5,8-11")
    assert chip(page, 5).evaluate("chip => chip.getRootNode().activeElement === chip")
    page.keyboard.press("Delete")
    await_plan(page, "0-4,6-11")
    page.keyboard.press("ArrowLeft")
    for key in ("Space", "ArrowLeft", "ArrowLeft", "Space"):
        page.keyboard.press(key)
    await_plan(page, "0-3,7,4,6,8-11")
    assert figures(page) == expected("0-3,7,4,6,8-11")


def test_a_lifted_chip_is_put_back_by_escape(visit: Visit) -> None:
    page = visit()
    chip(page, 5).focus()
    for key in ("Space", "ArrowLeft", "ArrowLeft", "Escape"):
        page.keyboard.press(key)
    assert order(page) == [f"L{n}" for n in range(12)]
    assert plan(page) == "0-11"


def test_the_chips_menu_repeats_halves_scales_and_replaces(visit: Visit) -> None:
    page = visit()
    chip(page, 7).focus()
    page.keyboard.press("Enter")
    menu = page.get_by_role("dialog", name="Layer menu")
    menu.get_by_role("button", name="Attention").click()
    await_plan(page, "0-6,7.attn,8-11")
    menu.get_by_label("Scale its contribution").fill("0.5")
    menu.get_by_label("Scale its contribution").press("Enter")
    await_plan(page, "0-6,7.attn*0.5,8-11")
    menu.get_by_role("button", name="Whole").click()
    menu.get_by_label("Replace by").select_option("2")
    await_plan(page, "0-6,2*0.5,8-11")
    menu.get_by_role("button", name="Repeat").click()
    await_plan(page, "0-6,2*0.5x2,8-11")
    page.keyboard.press("Escape")
    assert menu.is_hidden()


def test_quick_edits_end_at_the_last_one(visit: Visit, expected: Expected) -> None:
    page = visit()
    chip(page, 1).focus()
    for _ in range(6):
        page.keyboard.press("Shift+ArrowRight")
    await_plan(page, "0,2-7,1,8-11")
    assert order(page) == ["L0", *(f"L{n}" for n in range(2, 8)), "L1", *(f"L{n}" for n in range(8, 12))]
    assert figures(page) == expected("0,2-7,1,8-11")


def test_notation_undo_redo_reset_and_the_back_button(visit: Visit, expected: Expected) -> None:
    page = visit()
    type_notation(page, "0-4, 6, 5, 7-11")
    await_plan(page, "0-4,6,5,7-11")
    assert figures(page) == expected("0-4,6,5,7-11")
    page.get_by_role("button", name="Undo").click()
    await_plan(page, "0-11")
    page.get_by_role("button", name="Redo").click()
    await_plan(page, "0-4,6,5,7-11")
    page.get_by_role("button", name="Reset", exact=True).click()
    await_plan(page, "0-11")
    page.wait_for_timeout(400)
    page.go_back()
    await_plan(page, "0-4,6,5,7-11")
    assert order(page)[5:7] == ["L6", "L5"]


def test_pages_and_a_reload_keep_the_plan_and_its_results(visit: Visit, expected: Expected) -> None:
    page = visit("/?plan=0-6,8-11")
    before = figures(page), texts(page)
    page.get_by_role("link", name="Lens").click()
    page.get_by_role("heading", name="What each layer would say next").wait_for()
    await_plan(page, "0-6,8-11")
    page.reload()
    settle(page)
    assert plan(page) == "0-6,8-11"
    page.get_by_role("link", name="Models").click()
    page.get_by_role("heading", name="Ready to open").wait_for()
    page.get_by_role("link", name="Surgery").click()
    page.get_by_test_id("stMetricValue").first.wait_for()
    await_plan(page, "0-6,8-11")
    assert (figures(page), texts(page)) == before
    assert before[0] == expected("0-6,8-11")


def test_a_copied_link_shows_the_same_to_somebody_else(visit: Visit) -> None:
    page = visit("/?plan=0-3,5-11&prompt=The+old+woman&length=12", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    page.get_by_role("button", name="Link copied").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    other = visit(link)
    assert plan(other) == "0-3,5-11"
    assert texts(other) == texts(page)
    assert figures(other) == figures(page)
    assert texts(other)[0].startswith("The old woman")


def test_two_people_see_their_own_results(visit: Visit, expected: Expected) -> None:
    first, second = visit("/?plan=0-5,7-11"), visit("/?plan=11-0")
    type_notation(second, "0-9,11")
    type_notation(first, "0,2-11")
    await_plan(first, "0,2-11")
    await_plan(second, "0-9,11")
    assert figures(first) == expected("0,2-11")
    assert figures(second) == expected("0-9,11")


@pytest.mark.parametrize(("typed", "said"), [("0-99", "no layer 99"), ("0-4,,5", "")])
def test_bad_notation_is_explained_and_loses_nothing(visit: Visit, typed: str, said: str) -> None:
    page = visit("/?plan=0-10")
    before = figures(page), texts(page)
    type_notation(page, typed)
    message = page.get_by_test_id("stSidebar").get_by_test_id("stAlert")
    message.wait_for()
    settle(page)
    assert said in message.inner_text()
    assert "^" in page.get_by_test_id("stSidebar").get_by_test_id("stCode").inner_text()
    assert plan(page) == "0-10"
    assert (figures(page), texts(page)) == before


def test_a_hand_edited_address_is_explained(visit: Visit) -> None:
    page = visit("/?plan=0-3,zebra&model=no-such-model&length=-5")
    said = page.get_by_test_id("stSidebar").get_by_test_id("stAlert").all_inner_texts()
    assert len(said) == 3
    # The plan is the other model's; it is shown and applied to none.
    assert page.get_by_test_id("stSidebar").get_by_test_id("stCode").inner_text() == "0-3,zebra"
    expect(page.get_by_label("Notation", exact=True)).to_have_value("0-11")
    assert figures(page)[1] == "100.0%"


def test_an_own_text_is_scored_and_its_tokens_speak(visit: Visit) -> None:
    page = visit("/?plan=0-8,10-11")
    page.get_by_text("Your own texts", exact=True).click()
    field = page.get_by_label("Paste a text")
    field.fill("x")
    page.get_by_role("button", name="Score this text").click()
    page.get_by_text("at least 2 are needed").wait_for()
    field.fill("The little mouse ran up the clock.")
    page.get_by_role("button", name="Score this text").click()
    page.get_by_text("at least 2 are needed").wait_for(state="detached")
    settle(page)
    text = page.get_by_role("group", name="Text coloured by change of loss")
    assert text.inner_text() == "The little mouse ran up the clock."
    text.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.get_by_text(re.compile(r"nats before, .* after")).wait_for()


def test_a_click_on_a_lens_cell_shows_its_ten_likeliest_tokens(visit: Visit) -> None:
    page = visit("/lens?plan=0-10")
    cells = page.locator('.st-key-map path[aria-label*="After layer: L4; Token read: ·was"]')
    cells.last.scroll_into_view_if_needed()
    cells.last.click()  # of the map on the right
    page.get_by_text(re.compile(r"After L4, having read")).wait_for()
    settle(page)
    # The pointer is on one cell, and the same cell of the other map is outlined too.
    assert page.locator('.st-key-map path[stroke="#b4532a"]').count() == 2


def test_a_word_is_swapped_at_a_clicked_cell_and_the_text_goes_another_way(visit: Visit) -> None:
    """The fox becomes a wolf, which fable writes of by itself in neither text."""
    text = "Once upon a time there was a fox who lived in the forest. One day the"
    page = visit(f"/lens?plan=0-4,6-11&reading=jacobian&length=24&lens={quote(text)}")
    page.get_by_text("Click a cell of the map, or choose one above").wait_for()
    cell = page.locator('.st-key-map path[aria-label*="After layer: L7; Token read: ·fox"]').first
    cell.scroll_into_view_if_needed()
    cell.click()
    page.get_by_text("What leaves L7 at token 7, “·fox”").wait_for()
    settle(page)
    page.get_by_label("In its place", exact=True).fill("wolf")
    page.get_by_label("In its place", exact=True).press("Enter")
    settle(page)
    page.get_by_text("At every token", exact=True).click()
    settle(page)
    page.get_by_role("button", name="Swap", exact=True).click()
    page.get_by_text("In what leaves L7 before surgery, at every token").wait_for()
    page.wait_for_function("() => document.body.innerText.match(/24 tokens/g)?.length === 3")
    before, after, swapped = texts(page)
    assert before.startswith(text)
    assert " wolf" in swapped
    assert " wolf" not in before + after
    page.get_by_role("button", name="Take the swap back").click()
    page.get_by_text("With the word swapped").wait_for(state="detached")


def test_two_lens_maps_fit_a_small_laptop(visit: Visit) -> None:
    page = visit("/lens?plan=0-4,6-11", viewport={"width": 1280, "height": 800})
    page.get_by_label("Text to read", exact=True).fill("word " * 40)
    page.get_by_label("Text to read", exact=True).press("Control+Enter")
    page.get_by_text("Tokens shown, of").wait_for()
    settle(page)
    drawn = page.locator(".st-key-map svg.marks").bounding_box()
    main = page.get_by_test_id("stMainBlockContainer").bounding_box()
    assert drawn["x"] + drawn["width"] <= main["x"] + main["width"]
    cell = page.locator('.st-key-map path[aria-label*="After layer: L4;"]').last
    cell = place(cell)
    assert cell["y"] + cell["height"] < 900


def test_a_finger_drags_after_a_long_press_and_taps_open_the_menu(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.get_by_test_id("stExpandSidebarButton").tap()
    page.wait_for_timeout(500)
    start, end = place(chip(page, 8)), place(chip(page, 2))
    touch = page.context.new_cdp_session(page)

    def send(kind: str, x: float, y: float) -> None:
        points = [] if kind == "touchEnd" else [{"x": x, "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    to_x, to_y = end["x"] + end["width"] / 2, end["y"] + end["height"] / 2
    send("touchStart", x, y)
    page.wait_for_timeout(400)
    for step in range(1, 11):
        send("touchMove", x + (to_x - x) * step / 10, y + (to_y - y) * step / 10)
    send("touchEnd", to_x, to_y)
    await_plan(page, "0-1,8,2-7,9-11")
    chip(page, 4).tap()
    page.get_by_role("dialog", name="Layer menu").get_by_role("button", name="Delete").tap()
    await_plan(page, "0-1,8,2-3,5-7,9-11")


@pytest.mark.parametrize(
    ("address", "scheme"),
    [
        ("/?plan=0,2,1,3-11", "light"),
        ("/?plan=0,2,1,3-11", "dark"),
        ("/lens?plan=0,2-11", "dark"),
        ("/models", "light"),
    ],
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
    main = page.get_by_test_id("stMain")
    assert main.evaluate("main => Math.max(main.scrollWidth, document.documentElement.scrollWidth)") <= 390
    assert not failed
    assert {urlsplit(url).netloc for url in asked if url.startswith("http")} == {urlsplit(server).netloc}


def test_text_streams_in_while_it_is_written(visit: Visit) -> None:
    page = visit("/?length=500")  # so long that it is not all there before a busy machine has drawn the page
    chip(page, 6).focus()
    lengths = page.evaluate(
        """async () => {
            const after = () => [...document.querySelectorAll('[data-testid="stMain"] [data-testid="stHtml"]')][1]?.innerText.length ?? 0;
            const seen = new Set();
            document.activeElement.shadowRoot.activeElement.dispatchEvent(
                new KeyboardEvent('keydown', {key: 'Delete', bubbles: true, composed: true}));
            for (const start = performance.now(); performance.now() - start < 20000 && seen.size < 8; ) {
                seen.add(after());
                await new Promise((done) => setTimeout(done, 20));
            }
            return [...seen];
        }"""
    )
    assert len(lengths) >= 5
    assert lengths == sorted(lengths)

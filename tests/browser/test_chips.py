"""The strip with the keyboard and several chips, names that need room, undo by keyboard, reloads, and a phone's drawer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import TWIN
from tests.browser.driver import await_plan, chip, drag, order, place, plan, settle, type_notation

Visit = Callable[..., Any]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
MODELS = "/models"
"""The page with the least work; what is tested here is the sidebar's."""


def menu(page: Any) -> Any:
    return page.get_by_role("dialog", name="Layer menu")


def test_the_first_step_of_the_readme(visit: Visit) -> None:
    page = visit(MODELS)
    chip(page, 5).click()
    page.keyboard.press("Delete")
    await_plan(page, "0-4,6-11")
    page.get_by_role("button", name="Undo").click()
    await_plan(page, "0-11")
    chip(page, 0).click()
    page.keyboard.press("Backspace")
    await_plan(page, "1-11")


def test_an_open_menu_takes_the_strips_keys_but_not_in_its_number_field(visit: Visit) -> None:
    page = visit(MODELS)
    chip(page, 5).click()
    page.keyboard.press("ArrowRight")
    expect(menu(page).get_by_role("heading")).to_have_text("L6, position 6")
    page.keyboard.press("Shift+ArrowRight")
    await_plan(page, "0-5,7,6,8-11")
    expect(menu(page).get_by_role("heading")).to_have_text("L6, position 7")
    field = menu(page).get_by_label("Scale its contribution")
    field.fill("25")
    for key in ("Backspace", "ArrowLeft", "Delete"):
        field.press(key)
    field.press("Control+z")
    assert len(order(page)) == 12
    assert plan(page) == "0-5,7,6,8-11"
    menu(page).get_by_role("button", name="Repeat").focus()
    page.keyboard.press("Delete")
    expect(menu(page)).to_be_hidden()
    assert "L6" not in order(page)


def test_a_click_on_a_button_counts_while_a_typed_scale_is_taken(visit: Visit) -> None:
    page = visit(MODELS)
    chip(page, 5).click()
    menu(page).get_by_label("Scale its contribution").fill("0.5")
    box = place(menu(page).get_by_role("button", name="Repeat"))
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()  # the field loses the focus here, and the menu is drawn anew
    page.wait_for_timeout(600)
    page.mouse.up()
    await_plan(page, "0-4,5*0.5x2,6-11")


def test_a_second_click_on_the_chip_closes_its_menu(visit: Visit) -> None:
    page = visit(MODELS)
    chip(page, 5).click()
    expect(menu(page)).to_be_visible()
    chip(page, 5).click()
    expect(menu(page)).to_be_hidden()


def test_several_chips_are_selected_moved_scaled_repeated_and_deleted(visit: Visit) -> None:
    page = visit(MODELS)
    tools = page.get_by_role("group", name="Selected layers")
    expect(tools).to_be_hidden()
    chip(page, 3).click()
    chip(page, 5).click(modifiers=["Shift"])
    expect(menu(page)).to_be_hidden()
    expect(tools.get_by_role("heading")).to_contain_text("3 layers selected")
    assert page.get_by_role("button", name=re.compile("selected$")).count() == 3
    tools.get_by_role("button", name="Move them later").click()
    await_plan(page, "0-2,6,3-5,7-11")
    tools.get_by_label("Scale their contributions").fill("0.5")
    tools.get_by_label("Scale their contributions").press("Enter")
    await_plan(page, "0-2,6,(3-5)*0.5,7-11")
    tools.get_by_role("button", name="Repeat").click()
    await_plan(page, "0-2,6,(3-5)*0.5x2,7-11")
    tools.get_by_role("button", name="Delete").click()
    await_plan(page, "0-2,6,(3-5)*0.5,7-11")
    expect(tools).to_be_hidden()


def test_a_range_is_selected_and_changed_by_keyboard(visit: Visit) -> None:
    page = visit(MODELS)
    chip(page, 4).focus()
    for key in ("Shift+Space", "ArrowRight", "ArrowRight", "Shift+Space"):
        page.keyboard.press(key)
    live = page.get_by_text("Selected: L4 to L6, 3 layers.")
    expect(live).to_have_count(1)
    page.keyboard.press("Shift+ArrowLeft")
    await_plan(page, "0-2,4-6,3,7-11")
    page.keyboard.press("Shift+Home")
    await_plan(page, "4-6,0-3,7-11")
    page.keyboard.press("Delete")
    await_plan(page, "0-3,7-11")
    assert chip(page, 0).evaluate("chip => chip.getRootNode().activeElement === chip")
    page.keyboard.press("Shift+Space")
    page.keyboard.press("Escape")
    assert page.get_by_role("button", name=re.compile("selected$")).count() == 0
    assert plan(page) == "0-3,7-11"


def test_several_chips_are_dragged_together(visit: Visit) -> None:
    page = visit(MODELS)
    chip(page, 8).click()
    chip(page, 9).click(modifiers=["Shift"])
    drag(page, chip(page, 8), chip(page, 1))
    await_plan(page, "0,8-9,1-7,10-11")
    drag(page, chip(page, 9), chip(page, 10))
    await_plan(page, "0-7,10,8-9,11")
    drag(page, chip(page, 8), page.get_by_text("Drop a layer here to delete it."))
    await_plan(page, "0-7,10-11")


@pytest.mark.parametrize("meta", ["Control", "Meta"])
def test_undo_and_redo_by_keyboard_from_anywhere_but_a_text_field(visit: Visit, meta: str) -> None:
    page = visit(MODELS)
    for notation in ("0-10", "0-9", "0-8"):
        type_notation(page, notation)
        await_plan(page, notation)
    page.get_by_role("heading", name="Ready to open").click()
    page.evaluate("document.activeElement.blur()")
    for keys, notation in (
        (["z"], "0-9"), (["z", "z"], "0-11"), (["y"], "0-10"), (["Shift+Z"], "0-9"), (["y", "y", "y"], "0-8"),
    ):  # fmt: skip
        for key in keys:
            page.keyboard.press(f"{meta}+{key}")
        await_plan(page, notation)
        expect(page.get_by_label("Notation", exact=True)).to_have_value(notation)
    chip(page, 3).focus()
    page.keyboard.press(f"{meta}+z")
    await_plan(page, "0-9")
    field = page.get_by_label("Notation", exact=True)
    field.click()
    page.keyboard.type(",0")
    page.keyboard.press(f"{meta}+z")
    page.wait_for_timeout(400)
    assert plan(page) == "0-9"


def test_a_reload_brings_undo_redo_and_sweeps_back_and_a_link_does_not(visit: Visit, cold_server: str) -> None:
    page = visit(cold_server + "/sweep?plan=0-10")
    page.get_by_role("button", name="What can the middle bear?").click()
    page.get_by_text(re.compile(r"^[1-9]\d* of 55")).first.wait_for(timeout=60_000)
    type_notation(page, "0-9")
    await_plan(page, "0-9")
    page.get_by_role("button", name="Undo").click()
    await_plan(page, "0-10")
    page.reload()
    page.get_by_text(re.compile(r"^[1-9]\d* of 55")).first.wait_for(timeout=60_000)
    assert page.get_by_role("button", name="Pause").count() == 1
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text(re.compile(r"Cancelled at [1-9]\d* of 55")).wait_for()
    settle(page)
    page.get_by_role("button", name="Redo").click()
    await_plan(page, "0-9")
    for notation in ("0-10", "0-11"):
        page.get_by_role("button", name="Undo").click()
        await_plan(page, notation)
    other = visit(page.url)
    settle(other)
    other.wait_for_timeout(1_000)
    assert other.get_by_role("button", name="Redo").is_disabled()
    assert other.get_by_role("button", name="Undo").is_disabled()
    assert other.get_by_text("Cancelled at").count() == 0


def test_a_new_tab_of_the_same_person_starts_with_the_link_alone(visit: Visit) -> None:
    page = visit(f"{MODELS}?plan=0-10")
    type_notation(page, "0-9")
    await_plan(page, "0-9")
    with page.context.expect_page() as opened:
        page.evaluate("window.open(location.href)")  # copies the tab's storage
    copy = opened.value
    settle(copy)
    copy.wait_for_timeout(1_000)
    settle(copy)
    copy.get_by_role("button", name="Undo").click()
    await_plan(copy, "0-11")
    assert plan(page) == "0-9"


def test_models_of_one_title_open_as_they_are_named(visit: Visit) -> None:
    page = visit(MODELS)
    picker = page.get_by_role("combobox", name="Model")
    for name in (TWIN, "fable"):
        picker.click()
        page.get_by_role("option", name=f"Fable ({name})", exact=True).click()
        page.wait_for_function("name => new URLSearchParams(location.search).get('model') === name", arg=name)
        settle(page)
        expect(page.get_by_role("button", name="In use")).to_have_count(1)


def test_a_donor_in_quotes_runs_and_its_chip_says_whose_layer_it_is(visit: Visit) -> None:
    visit(f"{MODELS}?model={quote(TWIN)}").close()
    notation = f'0-2,"{TWIN}":3.mlp,mean(9),4-11'
    page = visit(f"{MODELS}?plan={quote(notation)}")
    assert plan(page) == notation
    donated = page.get_by_role("button", name=f"L3 of {TWIN}, position 3, mlp", exact=True)
    mean = page.get_by_role("button", name="mean of L9, position 4", exact=True)
    for one in (donated, mean):
        assert one.locator("small").evaluate("small => small.scrollWidth <= small.clientWidth"), "cut off"
    donated.click()
    menu(page).get_by_role("button", name="Whole").click()
    await_plan(page, f'0-2,"{TWIN}":3,mean(9),4-11')
    menu(page).get_by_label("Scale its contribution").fill("2")
    menu(page).get_by_label("Scale its contribution").press("Enter")
    await_plan(page, f'0-2,"{TWIN}":3*2,mean(9),4-11')
    page.keyboard.press("Escape")
    drag(page, page.get_by_role("button", name="mean of L9, position 4"), chip(page, 0))
    await_plan(page, f'mean(9),0-2,"{TWIN}":3*2,4-11')


@pytest.mark.parametrize("options", [{}, PHONE])
def test_a_long_plan_stands_in_rows_of_ten_and_nothing_is_cut(visit: Visit, options: dict[str, Any]) -> None:
    page = visit(f"{MODELS}?plan=(0-11)x10", **options)
    if options:
        page.get_by_test_id("stExpandSidebarButton").click()
        page.wait_for_timeout(500)
    found = page.get_by_role("list", name="Layers in running order")
    assert found.evaluate("list => list.clientHeight") < 400
    assert found.evaluate("list => list.scrollWidth <= list.clientWidth")
    chips = found.locator(".chip span")
    assert chips.count() == 120
    assert chips.evaluate_all("all => all.every(one => one.scrollWidth <= one.clientWidth)")
    tops = chips.evaluate_all("all => all.map(one => one.closest('li').getBoundingClientRect().top)")
    assert all(len(set(tops[at : at + 10])) == 1 for at in range(0, 120, 10))
    assert len(set(tops)) == 12
    # the keys go by rows of ten too
    page.get_by_role("button", name=re.compile(r"^L0, position 0(,|$)")).focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("button", name=re.compile(r"^L10, position 10(,|$)"))).to_be_focused()
    page.get_by_role("button", name=re.compile(r"^L11, position 119")).click()
    expect(menu(page)).to_be_visible()
    box = menu(page).bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= page.viewport_size["width"]
    page.keyboard.press("Delete")
    await_plan(page, "(0-11)x9,0-10")
    if not options:
        drag(
            page,
            page.get_by_role("button", name=re.compile(r"^L2, position 2(,|$)")),
            page.get_by_role("button", name=re.compile(r"^L8, position 20(,|$)")),
        )
        expect(page.get_by_role("button", name=re.compile(r"^L2, position 20(,|$)"))).to_be_visible()


@pytest.mark.parametrize("options", [{"viewport": PHONE["viewport"]}, PHONE])
def test_a_narrow_screens_drawer_closes_over_the_chosen_page(visit: Visit, options: dict[str, Any]) -> None:
    page = visit(MODELS, **options)
    page.get_by_test_id("stExpandSidebarButton").click()
    page.wait_for_timeout(500)
    page.get_by_test_id("stSidebar").get_by_role("link", name="Skills").click()
    page.get_by_role("heading", name="Which skills survive").wait_for()
    expect(page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "true")


def test_a_drawer_closes_too_where_a_page_is_chosen_before_the_tabs_code_is_there(chromium: Any, server: str) -> None:
    context = chromium.new_context(**PHONE)
    page = context.new_page()
    held: list[Any] = []
    # which brings what belongs to a tab, among others
    page.route("**/BidiComponent.*.js", lambda route: held.append(route))
    page.goto(server + MODELS)
    settle(page)
    page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_test_id("stSidebar").get_by_role("link", name="Skills").click()
    page.get_by_role("heading", name="Which skills survive").wait_for()
    expect(page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "false")
    assert held
    for route in held:
        route.continue_()
    expect(page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "true")
    context.close()


def test_a_wide_screens_sidebar_stays(visit: Visit) -> None:
    page = visit(MODELS)
    page.get_by_role("link", name="Skills").click()
    page.get_by_role("heading", name="Which skills survive").wait_for()
    settle(page)
    expect(page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "false")
    # from anywhere but a field
    sheet = page.get_by_test_id("stPopoverBody")
    page.get_by_label("Notation", exact=True).press("?")
    expect(sheet).to_have_count(0)
    page.get_by_role("heading", name="Which skills survive").click()
    page.keyboard.press("?")
    expect(sheet).to_contain_text("undo and redo, anywhere on the page")


def test_what_is_wrong_with_a_tool_is_said_in_its_popover(visit: Visit) -> None:
    page = visit(MODELS)
    page.get_by_role("button", name="Permute").click()
    popover = page.get_by_test_id("stPopoverBody")
    popover.get_by_label("New order of the positions").fill("0, 99")
    popover.get_by_role("button", name="Permute").click()
    alert = popover.get_by_test_id("stAlert")
    expect(alert).to_contain_text("99 is not a position here; allowed: 0 to 11")
    box = alert.bounding_box()
    middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    on_top = "([x, y]) => document.elementFromPoint(x, y)?.closest('[data-testid=stAlert]') !== null"
    assert page.evaluate(on_top, middle)

"""The tour in a real browser: it points at controls, waits for real clicks, and is in nobody's way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.driver import await_plan, chip, choose, order, settle
from tests.browser.test_accessible import RUN, VIEWS, axe

Visit = Callable[..., Any]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
RING = """() => {
    const host = [...document.body.children].find(one => one.shadowRoot?.querySelector('.card .words'));
    const ring = host.shadowRoot.querySelector('.ring');
    const { left, top, right, bottom } = ring.getBoundingClientRect();
    return { hidden: ring.hidden, box: [left, top, right, bottom], moves: ring.getAnimations().length };
}"""
COVERED = """() => {
    const host = [...document.body.children].find(one => one.shadowRoot?.querySelector('.card .words'));
    const roots = [document, ...[...document.querySelectorAll('*')].map(one => one.shadowRoot).filter(Boolean)];
    return roots.filter(one => one.host !== host)
        .flatMap(one => [...one.querySelectorAll('button, a, input, textarea, [role=tab]')])
        .filter(one => {
            const { left, top, width, height } = one.getBoundingClientRect();
            return width && height && document.elementFromPoint(left + width / 2, top + height / 2) === host;
        }).map(one => one.outerHTML.slice(0, 120));
}"""
"""Controls whose middle lies under the card."""
PLACES = """() => [...document.querySelectorAll('[data-testid="stMain"] *, [data-testid="stSidebar"] *')]
    .map(one => one.getBoundingClientRect()).map(({ left, top, width, height }) => [left, top, width, height].join(' '))"""


def card(page: Any) -> Any:
    return page.get_by_role("region", name="Tour")


def at_step(page: Any, number: int, of: int = 5) -> None:
    expect(card(page)).to_contain_text(f"Step {number} of {of}")


def act(page: Any, name: str) -> None:
    card(page).get_by_role("button", name=name).click()


def delete_by_menu(page: Any) -> None:
    page.get_by_role("dialog", name="Layer menu").get_by_role("button", name="Delete").click()


def seen(page: Any) -> Any:
    return json.loads(page.evaluate("localStorage.getItem('model-surgery-tour')") or "{}")


def rings(page: Any, target: Any) -> None:
    """Check that the ring is around an element."""
    target.wait_for()
    page.wait_for_function(f"""([left, top, width, height]) => {{
        const {{ hidden, box }} = ({RING})();
        const middle = [left + width / 2, top + height / 2];
        return !hidden && box[0] < middle[0] && middle[0] < box[2] && box[1] < middle[1] && middle[1] < box[3];
    }}""", arg=list(target.bounding_box().values()))  # fmt: skip


def leaves_links_free(page: Any) -> None:
    """Wait until the card covers no way to another page."""
    page.wait_for_function("""() => {
        const host = [...document.body.children].find(one => one.shadowRoot?.querySelector('.card'));
        const card = host.shadowRoot.querySelector('.card').getBoundingClientRect();
        const links = [...document.querySelectorAll('[data-testid=stSidebarNavLink]')].map(one => one.getBoundingClientRect());
        return links.length > 0 && links.every(one => one.bottom <= card.top || card.bottom <= one.top
            || one.right <= card.left || card.right <= one.left);
    }""")


def test_real_clicks_lead_through_a_first_visit_and_it_stays_away_then(visit: Visit) -> None:
    page = visit("/")
    at_step(page, 1)
    rings(page, chip(page, 5))
    chip(page, 5).click()
    at_step(page, 2)
    rings(page, page.get_by_role("dialog", name="Layer menu").get_by_role("button", name="Delete"))
    delete_by_menu(page)
    await_plan(page, "0-4,6-11")
    at_step(page, 3)
    rings(page, page.get_by_text(re.compile("^Without L5 ")))
    act(page, "Next")
    at_step(page, 4)
    undo = page.get_by_role("button", name="Undo")
    rings(page, undo)
    undo.click()
    await_plan(page, "0-11")
    at_step(page, 5)
    expect(card(page)).to_contain_text("Go to the Sweep page.")
    link = page.get_by_role("link", name="Sweep")
    rings(page, link)
    link.click()
    settle(page)
    question = page.get_by_role("button", name="Which layers matter?")
    rings(page, question)
    question.click()
    expect(card(page)).to_contain_text("That is all it takes")
    assert seen(page) == {"": "done"}
    act(page, "Not now")
    expect(card(page)).to_be_hidden()
    page.goto(page.url.partition("/sweep")[0])
    settle(page)
    page.wait_for_timeout(1_000)
    expect(card(page)).to_be_hidden()


def test_a_step_is_not_passed_by_anything_else(visit: Visit) -> None:
    page = visit("/")
    at_step(page, 1)
    page.get_by_role("link", name="Models").click()
    settle(page)
    page.get_by_role("link", name="Surgery").click()
    settle(page)
    at_step(page, 1)
    chip(page, 5).click()
    at_step(page, 2)
    page.keyboard.press("Escape")  # closes the menu, and not the tour
    expect(page.get_by_role("dialog", name="Layer menu")).to_be_hidden()
    page.wait_for_timeout(600)
    at_step(page, 2)
    rings(page, chip(page, 5))
    page.reload()
    settle(page)
    at_step(page, 2)


@pytest.mark.parametrize("how", ["button", "Escape", "keyboard"])
def test_it_can_be_left_and_begun_again(visit: Visit, how: str) -> None:
    page = visit("/")
    at_step(page, 1)
    if how == "Escape":
        page.keyboard.press("Escape")
    elif how == "button":
        act(page, "Skip the tour")
    else:
        card(page).get_by_role("button", name="Skip the tour").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_test_id("stSidebar").get_by_role("button", name="Tour")).to_be_focused()
    expect(card(page)).to_be_hidden()
    assert seen(page) == {"": "skipped"}
    page.goto(page.url.partition("?")[0])
    settle(page)
    page.wait_for_timeout(1_000)
    expect(card(page)).to_be_hidden()
    page.get_by_test_id("stSidebar").get_by_role("button", name="Tour").click()
    at_step(page, 1)


def test_it_leaves_the_keyboard_to_whoever_uses_it(visit: Visit) -> None:
    page = visit("/")
    at_step(page, 1)
    field = page.get_by_label("Notation", exact=True)
    field.fill("0-5,7-11")
    field.press("Escape")  # an open field's
    at_step(page, 1)
    field.fill("0-5,7-11")
    field.press("Enter")
    await_plan(page, "0-5,7-11")
    at_step(page, 3)
    expect(field).to_be_focused()
    # by keys alone: the step's button is reached, and keeps the focus as long as there is one
    button = card(page).get_by_role("button", name="Next")
    button.focus()
    page.keyboard.press("Enter")
    at_step(page, 4)
    expect(card(page).get_by_role("button", name="Skip the tour")).to_be_focused()


@pytest.mark.parametrize("address", ["/?plan=0-5,7-11", "/?present=1", "/lens", "/sweep"])
def test_a_link_and_other_pages_begin_without_it(visit: Visit, address: str) -> None:
    page = visit(address)
    page.wait_for_timeout(1_500)
    expect(card(page)).to_be_hidden()


@pytest.mark.parametrize("view", list(VIEWS))
def test_nothing_moves_no_control_is_covered_and_axe_finds_nothing_serious(visit: Visit, view: str) -> None:
    page = visit("/", **VIEWS[view])
    at_step(page, 1)
    page.get_by_test_id("stMetricValue").nth(3).wait_for()
    settle(page)
    page.wait_for_timeout(700)
    assert page.evaluate(COVERED) == []
    page.evaluate(axe())
    serious = [one for one in page.evaluate(RUN) if one["impact"] in ("serious", "critical")]
    assert serious == []
    with_card = page.evaluate(PLACES)
    act(page, "Skip the tour")
    assert page.evaluate(PLACES) == with_card


def test_whoever_wants_less_motion_has_none(visit: Visit) -> None:
    for motion, moves in (("no-preference", 1), ("reduce", 0)):
        page = visit("/", reduced_motion=motion)
        at_step(page, 1)
        rings(page, chip(page, 5))
        assert page.evaluate(RING)["moves"] == moves


def test_a_phone_opens_and_closes_its_sidebar_on_the_way(visit: Visit) -> None:
    page = visit("/", **PHONE)
    at_step(page, 1)
    expect(card(page)).to_contain_text("First open the sidebar")
    opener, closer = page.get_by_test_id("stExpandSidebarButton"), page.get_by_test_id("stSidebarCollapseButton")
    rings(page, opener)
    opener.click()
    expect(card(page)).to_contain_text("Click one.")
    leaves_links_free(page)
    chip(page, 5).tap()
    at_step(page, 2)
    leaves_links_free(page)
    delete_by_menu(page)
    await_plan(page, "0-4,6-11")
    at_step(page, 3)
    expect(card(page)).to_contain_text("Close the sidebar")
    rings(page, closer)
    closer.get_by_role("button").click()
    act(page, "Next")
    expect(card(page)).to_contain_text("First open the sidebar")
    opener.click()
    page.get_by_role("button", name="Undo").click()
    at_step(page, 5)
    link = page.get_by_test_id("stSidebar").get_by_role("link", name="Sweep")
    rings(page, link)
    leaves_links_free(page)
    link.click()
    settle(page)
    page.get_by_role("button", name="Which layers matter?").click()
    expect(card(page)).to_contain_text("That is all it takes")
    box = card(page).bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_lens_has_a_chapter(visit: Visit) -> None:
    page = visit("/lens")
    page.locator("svg.marks, canvas").first.wait_for()
    settle(page)
    page.get_by_test_id("stSidebar").get_by_role("button", name="Tour").click()
    at_step(page, 1, 3)
    cells = page.locator(".st-key-map svg.marks .mark-rect path")
    cells.nth(20).click()
    at_step(page, 2, 3)
    page.get_by_role("button", name="More").click()
    page.locator(".st-key-lens-metric").get_by_role("combobox").click()
    page.get_by_role("option", name="Entropy", exact=True).click()
    at_step(page, 3, 3)
    chip(page, 5).click()
    delete_by_menu(page)
    expect(card(page)).to_contain_text("That is this page")
    assert seen(page) == {"lens": "done"}
    act(page, "Close")
    expect(card(page)).to_be_hidden()


def test_the_sweep_offers_its_chapter_at_the_end_of_the_tour(visit: Visit) -> None:
    page = visit("/sweep")
    page.evaluate("localStorage.setItem('model-surgery-tour', JSON.stringify({ '': 'done' }))")
    page.get_by_role("link", name="Skills").click()
    settle(page)
    page.get_by_role("link", name="Sweep").click()
    settle(page)
    expect(card(page)).to_contain_text("New here?")
    act(page, "Show me this page")
    at_step(page, 1, 3)
    page.get_by_role("button", name="Which layers matter?").click()
    page.get_by_text("All 12 plans measured.").wait_for(timeout=60_000)
    at_step(page, 2, 3)
    choose(page, "Take a plan over into the strip", "L5")
    await_plan(page, "0-4,6-11")
    assert "L5" not in order(page)
    at_step(page, 3, 3)
    act(page, "Next")
    expect(card(page)).to_contain_text("That is this page")

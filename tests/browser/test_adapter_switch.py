"""An adapter in the strip: its switch in a chip's menu and for several chips, where there is one and only there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import started
from tests.browser.driver import await_plan, chip, settle, type_notation
from tests.core.support.adapters import save_adapter

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def adapted_server(chromium: Any, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of an app that offers the bundled model and an adapter on its layers 3 to 8."""
    folder = tmp_path_factory.mktemp("adapters")
    (folder / "fable").symlink_to(models / "fable")
    save_adapter(folder / "fable", folder / "tuned", layers_to_transform=list(range(3, 9)), lora_alpha=2)
    with started(folder, tmp_path_factory.mktemp("server") / "log.txt") as address:
        yield address


@pytest.fixture
def page(visit: Open, adapted_server: str) -> Any:
    return visit(f"{adapted_server}/models?model=tuned")


def switch(page: Any, group: str, state: str) -> Any:
    return page.get_by_role("group", name=group).get_by_role("button", name=state, exact=True)


def test_one_layer_is_switched_off_and_on_in_its_menu(page: Any) -> None:
    chip(page, 5).click()
    expect(switch(page, "Its adapter", "On")).to_have_attribute("aria-pressed", "true")
    switch(page, "Its adapter", "Off").click()
    await_plan(page, "0-4,5.bare,6-11")
    expect(switch(page, "Its adapter", "Off")).to_have_attribute("aria-pressed", "true")
    expect(chip(page, 5)).to_have_accessible_name("L5, position 5, bare")
    page.get_by_role("dialog", name="Layer menu").get_by_role("button", name="Attention").click()
    await_plan(page, "0-4,5.bare.attn,6-11")
    page.get_by_label("Scale its contribution").fill("0.5")
    page.get_by_label("Scale its contribution").press("Enter")
    await_plan(page, "0-4,5.bare.attn*0.5,6-11")
    switch(page, "Its adapter", "On").click()
    await_plan(page, "0-4,5.attn*0.5,6-11")


def test_a_layer_without_an_adapter_has_no_switch(page: Any) -> None:
    chip(page, 1).click()
    expect(page.get_by_role("dialog", name="Layer menu")).to_be_visible()
    expect(page.get_by_role("group", name="Its adapter")).to_have_count(0)


def test_several_layers_are_switched_together_those_that_have_one(page: Any) -> None:
    chip(page, 1).click(modifiers=["Control"])
    chip(page, 4).click(modifiers=["Shift"])
    switch(page, "Their adapters", "Off").click()
    await_plan(page, "0-2,(3-4).bare,5-11")
    expect(switch(page, "Their adapters", "Off")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Undo").click()
    await_plan(page, "0-11")


def test_typed_notation_shows_on_the_chips_and_a_model_without_an_adapter_refuses_it(
    visit: Open, adapted_server: str, page: Any
) -> None:
    type_notation(page, "(0-11).bare")
    await_plan(page, "(0-11).bare")
    expect(chip(page, 7)).to_have_accessible_name("L7, position 7, bare")
    plain = visit(f"{adapted_server}/models?model=fable")
    chip(plain, 5).click()
    expect(plain.get_by_role("group", name="Its adapter")).to_have_count(0)
    type_notation(plain, "0-4,5.bare,6-11")
    settle(plain)
    expect(plain.get_by_text("this model has none")).to_be_visible()

"""Every page with a real model, as somebody opens it: thirty layers, 49,152 tokens, a context of 8,192.

Figures are compared with those of plain transformers over the bundled texts.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import expect

from surgery_core import LayerPlan
from tests.browser import driver
from tests.browser.conftest import started
from tests.browser.driver import chip, figures, order, texts
from tests.real_model import NAME, NoRealModel, real_folder

pytestmark = pytest.mark.real
PLAN = "0-14,16-29"
OTHER = "0-19,21,20,22-29"
"""What the second of two people does."""
ONE = "The lantern in the wood"
"""A bundled text of 140 tokens to predict: long enough that nobody's sweep is over before both have begun."""
WAIT = 240_000
"""Milliseconds: a busy machine takes ten seconds for what a quiet one does in three."""


@pytest.fixture(scope="module")
def real_server(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the app with the real model among its models."""
    try:
        folder = real_folder()
    except NoRealModel as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    with started(folder.parent, tmp_path_factory.mktemp("real") / "log.txt") as address:
        yield address


@pytest.fixture
def page_at(chromium: Any, real_server: str) -> Iterator[Callable[..., Any]]:
    """Return the function that opens a page with the real model, as another person."""
    contexts: list[Any] = []

    def open_page(name: str, plan: str | None = None, **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1440, "height": 1000}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        asked = f"&plan={plan}" if plan else ""
        page.goto(f"{real_server}/{name}?model={NAME}{asked}")
        page.get_by_text("30 layers, 576 wide").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def by_definition() -> Callable[[str], tuple[str, ...]]:
    """Return the function from a plan without repeats to its figures over the bundled texts, as the page writes them.

    They are perplexity, agreement and KL from whole logits of plain transformers.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from surgery_core.text import bundled_texts

    base = AutoModelForCausalLM.from_pretrained(real_folder(), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(real_folder())
    other = AutoModelForCausalLM.from_pretrained(real_folder(), dtype=torch.float32).eval()
    layers = list(other.model.layers)
    texts = [torch.tensor([tokenizer(text.text).input_ids]) for text in bundled_texts()]

    def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = model(ids, use_cache=False).logits[0, :-1]
        return found

    before = [logits(base, ids) for ids in texts]

    def measure(notation: str) -> tuple[str, ...]:
        running = LayerPlan.parse(notation, len(layers))
        other.model.layers = torch.nn.ModuleList([layers[slot.layers[0].index] for slot in running])
        other.config.num_hidden_layers = len(running)
        nats, kl, kept = [], [], []
        for ids, raw in zip(texts, before, strict=True):
            operated = logits(other, ids)
            p, q = raw.double().log_softmax(-1), operated.double().log_softmax(-1)
            nats.append(-q.gather(-1, ids[0, 1:, None])[:, 0])
            kl.append((p.exp() * (p - q)).sum(-1))
            kept.append((raw.argmax(-1) == operated.argmax(-1)).double())
        perplexity, mean, share = (math.exp(torch.cat(nats).mean()), torch.cat(kl).mean(), torch.cat(kept).mean())
        return f"{perplexity:.1f}", f"{share:.1%}", f"{mean:.3f} nats"

    return cache(measure)


def settle(page: Any) -> None:
    driver.settle(page, timeout=WAIT)


def no_error(page: Any) -> None:
    assert page.get_by_text("Something went wrong").count() == 0
    assert page.get_by_test_id("stException").count() == 0


def test_an_edit_shows_all_figures(
    page_at: Callable[..., Any], by_definition: Callable[[str], tuple[str, ...]]
) -> None:
    page = page_at("")
    chip(page, 15).click()
    page.keyboard.press("Delete")
    page.wait_for_function("text => new URLSearchParams(location.search).get('plan') === text", arg=PLAN)
    page.get_by_test_id("stMetricValue").nth(3).wait_for()
    settle(page)
    assert figures(page) == by_definition(PLAN)
    before, after = texts(page)[:2]
    assert before != after
    assert min(len(before), len(after)) > 100
    expect(page.get_by_role("heading", name="Token by token")).to_be_visible()
    expect(page.get_by_role("heading", name="Layer by layer")).to_be_visible()
    no_error(page)


def test_the_lens_map_before_and_after(page_at: Callable[..., Any]) -> None:
    page = page_at("lens", PLAN)
    page.get_by_role("heading", name="Ten likeliest next tokens").wait_for()
    settle(page)
    maps = page.locator(".stVegaLiteChart").first
    expect(maps).to_contain_text("L29")
    # 31 rows before, 30 after, six tokens each
    assert maps.locator('path[aria-label*="Token"], path[aria-label*="token"]').count() >= 366
    no_error(page)


def test_a_sweep_to_its_end(page_at: Callable[..., Any]) -> None:
    page = page_at("sweep")
    pick_one(page)
    page.get_by_text(re.compile(r"30 plans over 140 tokens: ")).wait_for()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("All 30 plans measured.").wait_for()
    settle(page)
    assert page.locator('path[aria-label*="Deleted layer: L29; Perplexity: "]').count() > 0
    assert page.get_by_text("not proved").count() == 0
    no_error(page)


def test_skills_before_and_after(page_at: Callable[..., Any]) -> None:
    page = page_at("skills", PLAN)
    page.get_by_role("heading", name="Every prompt").wait_for()
    settle(page)
    assert re.fullmatch(r"\d+\.\d%", page.get_by_test_id("stMetricValue").first.inner_text())
    no_error(page)


def test_preflight_on_the_models_page(page_at: Callable[..., Any]) -> None:
    page = page_at("models")
    page.get_by_text(re.compile(r"All 12 checks passed")).wait_for()
    expect(page.get_by_text("49,152 tokens")).to_be_visible()
    no_error(page)


def test_a_lens_is_trained_stopped_and_read_through(page_at: Callable[..., Any], tmp_path: Path) -> None:
    page = page_at("lens")
    page.get_by_role("heading", name="Ten likeliest next tokens").wait_for()
    page.get_by_text("Train, fit, open or save a lens").click()
    page.get_by_role("button", name="Train a lens").click()
    # a step is 1,024 tokens at thirty layers, each with 49,152 logits
    page.get_by_text(re.compile(r"Step [1-9] of 40")).wait_for()
    page.get_by_role("button", name="Stop and keep the best so far").click()
    page.get_by_text(re.compile(r"Trained, \d+ steps")).first.wait_for()
    # closed, the panel does not measure how good the lens is over all texts
    page.get_by_text("Train, fit, open or save a lens").click()
    settle(page)
    expect(page.get_by_label("Lens", exact=True).first).to_be_visible()
    no_error(page)


def test_two_people_at_once(page_at: Callable[..., Any], by_definition: Callable[[str], tuple[str, ...]]) -> None:
    people = {plan: page_at("", plan) for plan in (PLAN, OTHER)}  # nobody waits for the other's figures
    shown = {}
    for plan, page in people.items():
        page.get_by_test_id("stMetricValue").nth(3).wait_for()
        settle(page)
        assert driver.plan(page) == plan
        assert order(page) == [f"L{slot.layers[0].index}" for slot in LayerPlan.parse(plan, 30)]
        expect(page.get_by_label("Notation", exact=True)).to_have_value(plan)
        shown[plan] = figures(page), texts(page)[:2]
        no_error(page)
    (first, second) = shown.values()
    assert first[0] != second[0]
    assert first[1][0] == second[1][0]  # both see what the unchanged model writes
    assert first[1][1] != second[1][1]
    assert [one[0] for one in (first, second)] == [by_definition(PLAN), by_definition(OTHER)]


def test_one_stops_a_sweep_that_both_asked_for_and_the_others_goes_on(page_at: Callable[..., Any]) -> None:
    # nobody else may have measured it: what the server knows is there at once
    start = "0-17,19,18,20-29"
    people = [page_at("sweep", start) for _ in range(2)]
    for page in people:
        pick_one(page)
        page.get_by_text(re.compile(r"\d\d plans over 140 tokens: ")).wait_for()
    for page in people:
        page.get_by_role("button", name="Start", exact=True).click()
    first, second = people
    first.get_by_text(re.compile(r"^[1-9]\d* of \d\d")).wait_for()
    first.get_by_role("button", name="Cancel", exact=True).click()
    first.get_by_text(re.compile(r"Cancelled at \d+ of \d\d")).wait_for()
    second.get_by_text("All 30 plans measured.").wait_for()
    settle(second)
    bar = second.locator('path[aria-label*="Deleted layer: L29; Perplexity: "]').last.get_attribute("aria-label")
    assert f"Perplexity: {one_row(start.removesuffix('9') + '8')};" in bar
    assert first.get_by_text(re.compile(r"Cancelled at \d+ of \d\d")).count() == 1
    assert [driver.plan(page) for page in people] == [start, start]
    for page in people:
        no_error(page)


def pick_one(page: Any) -> None:
    """Choose one text in place of all."""
    page.get_by_role("radio", name="Pick some").or_(page.get_by_role("button", name="Pick some")).first.click()
    field = page.get_by_label("Texts to score", exact=True)
    field.press("Backspace")
    field.press("Backspace")
    field.press("Backspace")
    field.fill(ONE)
    page.get_by_role("option", name=ONE).click()
    page.keyboard.press("Escape")
    settle(page)


def one_row(plan: str) -> str:
    """Return the perplexity of a plan over that text, as a bar writes it."""
    from surgery_core import bundled_texts, compare, load_model, operate
    from surgery_core.sweeps.frames import figure

    loaded = load_model(str(real_folder()))
    texts = [text for text in bundled_texts() if text.title == ONE]
    result = compare(loaded.model, operate(loaded.model, plan), loaded.tokenizer, texts)
    return figure(result.operated.perplexity, "perplexity")

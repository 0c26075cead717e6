"""A report as whoever gets it opens it: from a folder, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from surgery_core.keeping.report.asked import PARTS, Asked, AskedSweep
from surgery_core.keeping.report.findings import find
from surgery_core.keeping.report.page import report_page
from surgery_core.recipes.recipe import Recipe

HOSTILE = 'A title</title></script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
CHARTS = ["scores", "lens", "lens-loss", "skills", "sweep"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(
        "fable", "0-4,7,6,8.attn,9-11", HOSTILE, HOSTILE, prompts=(HOSTILE, "The old king"), lens="Once " * 9
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(report_page(find(recipe, Asked(tuple(PARTS), "tuned", AskedSweep("delete")))).encode())
    return path


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 390)])
def test_it_draws_everything_without_a_network(chromium: Any, report: Path, scheme: str, width: int) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-drawn=yes]", timeout=60_000)
    assert page.evaluate("window.hacked") is None
    assert page.locator("h1").text_content() == HOSTILE
    for name in CHARTS:
        drawn = page.locator(f'[data-chart="{name}"] svg.marks:visible')
        assert drawn.count() == 1, name
        assert drawn.locator("path, text").count() > 10, name
    assert page.locator(".picture svg:visible").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (said, asked) == ([], [report.as_uri()])
    context.close()


def test_a_pointed_mark_tells_its_figure(chromium: Any, report: Path) -> None:
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-drawn=yes]", timeout=60_000)
    page.locator('[data-chart="scores"] .light .mark-symbol.role-mark path').first.hover()
    page.locator("#vg-tooltip-element.visible").wait_for(timeout=10_000)
    assert "Perplexity after" in page.locator("#vg-tooltip-element").inner_text()
    context.close()

"""Pages keep still while they load, and on paper they are what they show, dark on white."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.layout_shift import WATCH, cls
from tests.browser.test_accessible import PLAN, VIEWS, ready

Visit = Callable[..., Any]


@pytest.mark.parametrize(
    ("view", "name"), [("light", "sweep"), ("phone", "sweep"), ("light", "gallery"), ("phone", "models")]
)
def test_nothing_jumps_while_a_page_loads(visit: Visit, view: str, name: str) -> None:
    page = visit("/glossary", **VIEWS[view])
    # the second page of one browser, which has the code of widgets already
    page.add_init_script(f"({WATCH})()")
    page.goto(page.url.replace("glossary", name).split("?")[0] + f"?{PLAN}")
    ready(page)
    assert cls(page.evaluate("window.shifts")) <= 0.1


def test_charts_follow_when_the_system_goes_dark_and_light_again(visit: Visit) -> None:
    page = visit(f"/lens?{PLAN}")
    ready(page)
    page.locator("svg.marks").first.wait_for()
    ink = """() => {
        const titles = [...document.querySelectorAll(".stVegaLiteChart svg text")].filter((one) => one.textContent === "Before");
        return titles.length && Math.max(...getComputedStyle(titles[0]).fill.match(/[\\d.]+/g).slice(0, 3).map(Number));
    }"""
    assert 0 < page.evaluate(ink) < 110
    for scheme, wanted in (("dark", "> 150"), ("light", "< 110")):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"() => {{ const found = ({ink})(); return found && found {wanted}; }}")


def test_a_dark_page_is_printed_dark_on_white_without_its_controls(visit: Visit) -> None:
    page = visit(f"/?{PLAN}", **VIEWS["dark"])
    ready(page)
    page.locator("svg.marks").first.wait_for()
    page.emulate_media(media="print")
    for hidden in ("stSidebar", "stHeader", "stTextArea", "stPopover"):
        assert not page.get_by_test_id(hidden).first.is_visible(), hidden
    found = page.evaluate("""() => {
        const luminance = (element, of) => getComputedStyle(element)[of].match(/[\\d.]+/g).map(Number);
        const heading = document.querySelector('[data-testid=stMain] h2');
        const chart = document.querySelector('.stVegaLiteChart');
        const svg = chart.querySelector('svg.marks');
        return {
            ink: luminance(heading, "color"), paper: luminance(document.querySelector('.stApp'), "backgroundColor"),
            filter: getComputedStyle(chart).filter, fits: svg.getBoundingClientRect().width <= chart.clientWidth + 1,
        };
    }""")
    assert max(found["ink"][:3]) < 60
    assert found["paper"][3] == 0  # clear, so that it is the paper's
    assert "invert(1)" in found["filter"]
    assert found["fits"]


def test_the_score_adds_shifts_that_come_in_a_row_and_takes_the_largest_row() -> None:
    """By hand, after web.dev/articles/cls: rows end at a pause of a second, and after five seconds."""
    assert cls([]) == 0
    assert cls([[0, 0.1], [900, 0.1], [2_500, 0.15]]) == pytest.approx(0.2)
    assert cls([[at * 900, 0.1] for at in range(7)]) == pytest.approx(0.6)

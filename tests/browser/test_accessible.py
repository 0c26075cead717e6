"""What axe-core finds on every page, light, dark and as wide as a phone.

No serious or critical finding may be there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from tests.browser.driver import settle

Visit = Callable[..., Any]
PAGES = ("", "lens", "sweep", "skills", "gallery", "compare", "models", "room", "glossary")
VIEWS = {
    "light": {"viewport": {"width": 1400, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1400, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
PLAN = "plan=0-4,6-11&tray=Without%20L5%090-4,6-11%0ABackwards%0911-0"
RUN = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations.map((one) => ({
    id: one.id, impact: one.impact, help: one.help,
    where: one.nodes.slice(0, 4).map((node) => [node.target.flat().join(" "), node.html.slice(0, 300)]),
  }));
}"""


def axe() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def ready(page: Any) -> None:
    """Wait until nothing on the page is still being computed."""
    settle(page)
    for busy in ("stSkeleton", "stProgress"):
        page.get_by_test_id(busy).first.wait_for(state="detached", timeout=60_000)
    settle(page)


def see(page: Any, view: dict[str, Any]) -> None:
    """Look at a page that is open in another view; what is drawn for the theme is drawn anew."""
    page.emulate_media(color_scheme=view["color_scheme"])
    page.set_viewport_size(view["viewport"])
    page.wait_for_timeout(300)
    ready(page)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_serious_stands_in_anybodys_way(visit: Visit, name: str) -> None:
    page = visit(f"/{name}?{PLAN}", **VIEWS["light"])
    page.evaluate(axe())
    serious = []
    for view, how in VIEWS.items():
        see(page, how)
        shown = page.evaluate("getComputedStyle(document.querySelector('.stApp')).colorScheme")
        assert shown == how["color_scheme"]
        found = page.evaluate(RUN)
        serious += [(view, one) for one in found if one["impact"] in ("serious", "critical")]
    said = [f"{view}: {one['id']} ({one['impact']}): {one['help']} {one['where']}" for view, one in serious]
    assert not said, "\n".join(said)

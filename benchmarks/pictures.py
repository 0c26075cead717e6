"""The README's pictures, taken of the running app.

    python -m benchmarks.pictures        # needs Chromium; writes docs/img

Each is the page as somebody sees it on a laptop, after its work is done.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.subjects import ROOT, subject
from benchmarks.surgery_page import app, opened

WITHOUT = "0-4,6-11"
TRAY = "Without L5\t0-4,6-11\nA quarter dropped\t0-7,11\nThe middle reversed\t0-2,8-3,9-11"
SIZE = {"width": 1440, "height": 900}


def sweep(page: Any) -> None:
    """Have every block skipped."""
    page.get_by_role("button", name="Which block can go?").click()
    page.get_by_text("All 77 plans measured.").wait_for(timeout=240_000)
    page.wait_for_timeout(3_000)


def wait(page: Any) -> None:
    """Wait until nothing is being computed."""
    for busy in ("stSkeleton", "stProgress"):
        page.get_by_test_id(busy).first.wait_for(state="detached", timeout=120_000)
    page.wait_for_timeout(2_500)


PICTURES: dict[str, tuple[str, dict[str, str], Callable[[Any], None]]] = {
    "surgery": ("", {"plan": WITHOUT}, wait),
    "lens": ("lens", {"plan": WITHOUT}, wait),
    "sweep": ("sweep", {}, sweep),
    "gallery": ("gallery", {}, wait),
    "compare": ("compare", {"plan": WITHOUT, "tray": TRAY}, wait),
}
"""By the file's name: the page, its address, and what is waited for."""


def main() -> None:
    """Take all of them."""
    of = subject("fable")
    with app(of) as address, opened(f"{address}/models") as first:
        browser = first.context.browser
        for name, (path, parameters, until) in PICTURES.items():
            page = browser.new_page(viewport=SIZE, color_scheme="light")
            page.goto(f"{address}/{path}?{urlencode(parameters)}")
            page.get_by_role("heading").first.wait_for(timeout=120_000)
            wait(page)
            until(page)
            page.screenshot(path=Path(ROOT) / "docs" / "img" / f"{name}.png")
            page.close()
            print(name, flush=True)


if __name__ == "__main__":
    main()

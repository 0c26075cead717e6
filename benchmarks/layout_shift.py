"""How much pages move while they load, and how long they are blank on the way from one to the next.

    python -m benchmarks.layout_shift            # a server and a Chromium of its own; about six minutes

Layout shift is cumulative layout shift as browsers define it (web.dev/articles/cls): the largest sum of shifts that
nobody asked for, in five seconds without a pause of one. Each page is opened twice in one browser, at the width of a
laptop and of a phone, and edited where it shows a plan. At most 0.1 counts as good.

A page counts as blank as long as nothing of its main part can be seen, neither words nor a placeholder. Each page is
gone to from the one before by its link, once all were seen.
"""

from __future__ import annotations

from typing import Any

from benchmarks.record import Result, keep
from benchmarks.subjects import subject
from benchmarks.surgery_page import app, opened

PAGES = {
    "": "Surgery", "lens": "Lens", "sweep": "Sweep", "skills": "Skills", "gallery": "Gallery", "compare": "Compare",
    "models": "Models",
}  # fmt: skip
"""Titles of the pages by their paths."""
EDITED = ("", "lens", "skills")
PLAN = "plan=0-4,6-11&tray=Without%20L5%090-4,6-11%0ABackwards%0911-0"
EDIT = "0-6,8-11"
SIZES = {"laptop": {"width": 1400, "height": 900}, "phone": {"width": 390, "height": 844}}
WATCH = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) if (!one.hadRecentInput) window.shifts.push([one.startTime, one.value]);
  }).observe({ type: "layout-shift", buffered: true });
  window.blank = 0;
  let since = null;
  const shown = "h1, h2, h3, h5, p, canvas, svg, button, input, table, [data-testid=stSkeletonElement], [data-testid=stSkeleton]";
  const isSeen = (element) => {
    const { width, height, bottom, top } = element.getBoundingClientRect();
    const inView = width > 0 && height > 0 && bottom > 60 && top < innerHeight;
    return inView && element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  };
  const look = (now) => {
    const page = document.querySelector("[data-testid=stMainBlockContainer]");
    if (page !== null && [...page.querySelectorAll(shown)].some(isSeen)) since = null;
    else window.blank = Math.max(window.blank, now - (since ??= now));
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
SECONDS = 7
"""How long a page is watched."""


def cls(shifts: list[list[float]]) -> float:
    """Return the cumulative layout shift of shifts, each with its time in milliseconds and its value."""
    windows: list[list[list[float]]] = []
    for shift in shifts:
        if windows and shift[0] - windows[-1][-1][0] < 1_000 and shift[0] - windows[-1][0][0] < 5_000:
            windows[-1].append(shift)
        else:
            windows.append([shift])
    return max((sum(value for _, value in window) for window in windows), default=0.0)


def loaded(context: Any, address: str, name: str) -> dict[str, float]:
    """Return how much a page moves while it loads, and after an edit."""
    page = context.new_page()
    page.add_init_script(f"({WATCH})()")
    page.goto(f"{address}/{name}?{PLAN}")
    page.wait_for_timeout(1_000 * SECONDS)
    found = {"load": cls(page.evaluate("window.shifts"))}
    if name in EDITED and page.viewport_size["width"] > SIZES["phone"]["width"]:
        page.evaluate("window.shifts = []")
        field = page.get_by_label("Notation", exact=True)
        field.fill(EDIT)
        field.press("Enter")
        page.wait_for_timeout(1_000 * SECONDS)
        found["edit"] = cls(page.evaluate("window.shifts"))
    page.close()
    return found


def shifts(browser: Any, address: str) -> dict[str, float]:
    """Print the layout shift of all pages and return the largest of each."""
    worst: dict[str, float] = dict.fromkeys(PAGES.values(), 0.0)
    for size, viewport in SIZES.items():
        context = browser.new_context(viewport=viewport)
        for visit in ("first", "second"):
            for name, title in PAGES.items():
                found = loaded(context, address, name)
                worst[title] = max(worst[title], *found.values())
                print(
                    f"{size}, {visit} visit, {title}:",
                    *(f"{how} {value:.3f}" for how, value in found.items()),
                    flush=True,
                )
        context.close()
    return worst


def blanks(browser: Any, address: str) -> tuple[float, ...]:
    """Return for how many seconds each page is blank when it is gone to from another; all were seen before."""
    context = browser.new_context(viewport=SIZES["laptop"])
    page = context.new_page()
    page.add_init_script(f"({WATCH})()")
    page.goto(f"{address}/?{PLAN}")
    page.wait_for_timeout(1_000 * SECONDS)
    found = []
    for round_ in (1, 2):
        for title in [*list(PAGES.values())[1:], "Surgery"]:
            page.evaluate("window.blank = 0")
            page.get_by_test_id("stTopNavLink").filter(has_text=title).click()
            page.wait_for_timeout(4_000)
            seconds = page.evaluate("window.blank") / 1e3
            print(f"round {round_}, on the way to {title}: blank for {seconds:.2f} s", flush=True)
            if round_ == 2:
                found.append(seconds)
    context.close()
    return tuple(found)


def main() -> None:
    """Measure both and keep the lines."""
    of = subject("fable")
    with app(of) as address, opened(f"{address}/models") as page:
        browser = page.context.browser
        worst = shifts(browser, address)
        blank = blanks(browser, address)
    said = ", ".join(f"{title} {value:.3f}" for title, value in worst.items())
    keep(
        Result("layout shift, the largest of loads and edits on laptop and phone, fable", said, (0.0,), 0),
        Result(
            "blank on the way from page to page, seen before, fable", f"longest {max(blank) * 1e3:.0f} ms", blank, 0
        ),
    )


if __name__ == "__main__":
    main()

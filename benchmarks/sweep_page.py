"""How long a person waits for a sweep over the 12 bundled texts, in the app and in a plain loop.

The app runs as it is shipped, in Chromium; time counts from the click on Start to the first bar and to the last.
The plain loop deletes each layer in turn and scores every text with `labels=`.

    python -m benchmarks.sweep_page           # fable; needs Chromium
    python -m benchmarks.sweep_page smollm2   # the real model of the tests
"""

from __future__ import annotations

import sys
import time

from torch import nn

from benchmarks.record import Result, keep
from benchmarks.subjects import Subject, plain_losses, subject
from benchmarks.surgery_page import app, opened
from surgery_core import bundled_texts

RUNS = 3
WATCH = """() => {
    const began = performance.now();
    window.seen = {};
    const look = () => {
        const bars = [...document.querySelectorAll('path[aria-label*="Deleted layer"]')].map(e => e.ariaLabel);
        const ready = bars.filter(t => !t.includes('not run yet'));
        if (!window.seen.first && ready.length) window.seen.first = performance.now() - began;
        if (document.body.innerText.match(/All \\d+ plans measured/)) {
            window.seen.whole = performance.now() - began; return;
        }
        requestAnimationFrame(look);
    };
    look();
}"""


def in_the_app(of: Subject) -> tuple[float, float]:
    """Return the seconds to the first bar and to the end, in an app that was just started."""
    with app(of) as address, opened(f"{address}/sweep?model={of.name}") as page:
        page.get_by_text(f"{of.n_layers} plans over").first.wait_for(timeout=240_000)
        page.wait_for_timeout(6_000)
        page.evaluate(WATCH)
        page.get_by_role("button", name="Start", exact=True).click()
        page.wait_for_function("window.seen.whole !== undefined", timeout=600_000)
        seen = page.evaluate("window.seen")
        return seen["first"] / 1e3, seen["whole"] / 1e3


def plain(of: Subject) -> float:
    """Return the seconds of a plain loop over the same layers and texts."""
    loaded = of.load()
    model, layers = loaded.model, loaded.model.model.layers
    began = time.perf_counter()
    for gone in (None, *range(len(layers))):
        model.model.layers = nn.ModuleList(layer for index, layer in enumerate(layers) if index != gone)
        model.config.num_hidden_layers = len(model.model.layers)
        plain_losses(model, loaded.tokenizer, bundled_texts())
    return time.perf_counter() - began


def main() -> None:
    """Measure both and keep the lines."""
    of = subject(*sys.argv[1:])
    runs = RUNS if of.n_layers <= 12 else 1
    ours = [in_the_app(of) for _ in range(runs)]
    theirs = tuple(plain(of) for _ in range(runs))
    what = f"delete-each sweep of {of.name}, 12 texts"
    keep(
        Result(f"{what}, first bar", "the app, in Chromium", tuple(first for first, _ in ours), 0),
        Result(
            f"{what}, all bars", "the app, in Chromium (also KL and agreement)", tuple(whole for _, whole in ours), 0
        ),
        Result(f"{what}, all losses", "plain loop, losses alone", theirs, 0),
    )


if __name__ == "__main__":
    main()

"""How long a person waits for a sweep of fable over the 12 bundled texts, in the app and in a plain loop.

The app runs as it is shipped, in Chromium; time counts from the click on Start to the first bar and to the last.
The plain loop deletes each layer in turn and scores every text with `labels=`.

    python -m benchmarks.sweep_page   # needs Chromium
"""

from __future__ import annotations

import time

import torch
from torch import nn

from benchmarks.record import Result, keep
from benchmarks.surgery_page import app, opened
from surgery_core import bundled_texts, load_model

RUNS = 3
WATCH = """() => {
    const began = performance.now();
    window.seen = {};
    const look = () => {
        const bars = [...document.querySelectorAll('path[aria-label*="Deleted layer"]')].map(e => e.ariaLabel);
        const ready = bars.filter(t => !t.includes('not run yet'));
        if (!window.seen.first && ready.length) window.seen.first = performance.now() - began;
        if (document.body.innerText.includes('All 12 plans measured')) {
            window.seen.whole = performance.now() - began; return;
        }
        requestAnimationFrame(look);
    };
    look();
}"""


def in_the_app() -> tuple[float, float]:
    """Return the seconds to the first bar and to the end, in an app that was just started."""
    with app() as address, opened(f"{address}/sweep?model=fable") as page:
        page.get_by_text("12 plans over").first.wait_for(timeout=60_000)
        page.wait_for_timeout(4_000)
        page.evaluate(WATCH)
        page.get_by_role("button", name="Start", exact=True).click()
        page.wait_for_function("window.seen.whole !== undefined", timeout=120_000)
        seen = page.evaluate("window.seen")
        return seen["first"] / 1e3, seen["whole"] / 1e3


def plain() -> float:
    """Return the seconds of a plain loop over the same layers and texts."""
    loaded = load_model("fable")
    texts = [torch.tensor([loaded.tokenizer(text.text)["input_ids"]]) for text in bundled_texts()]
    model, layers = loaded.model, loaded.model.model.layers
    began = time.perf_counter()
    for gone in (None, *range(len(layers))):
        model.model.layers = nn.ModuleList(layer for index, layer in enumerate(layers) if index != gone)
        model.config.num_hidden_layers = len(model.model.layers)
        with torch.inference_mode():
            for ids in texts:
                float(model(ids, labels=ids, use_cache=False).loss)
    model.model.layers, model.config.num_hidden_layers = layers, len(layers)
    return time.perf_counter() - began


def main() -> None:
    """Measure both and keep the lines."""
    ours = [in_the_app() for _ in range(RUNS)]
    torch.set_num_threads(1)
    theirs = tuple(plain() for _ in range(RUNS))
    what = "delete-each sweep of fable, 12 texts"
    keep(
        Result(f"{what}, first bar", "the app, in Chromium", tuple(first for first, _ in ours), 0),
        Result(
            f"{what}, all bars", "the app, in Chromium (also KL and agreement)", tuple(whole for _, whole in ours), 0
        ),
        Result(f"{what}, all losses", "plain loop, losses alone", theirs, 0),
    )


if __name__ == "__main__":
    main()

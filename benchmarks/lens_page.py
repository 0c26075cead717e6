"""How long a person waits after an edit on the Lens page, and how much memory a reading takes.

The app runs as it is shipped, in Chromium, with a text of 200 tokens; each edit is one that it has not seen, and the
base side is there already. It counts until the map of the operated model is drawn and the script has ended. The plain
script is what one would write otherwise: copy the model, delete the layer, take `output_hidden_states` of both, apply
norm and head to each, and take the likeliest tokens.

    python -m benchmarks.lens_page          # fable; needs Chromium
    python -m benchmarks.lens_page smollm2  # the real model of the tests
    python -m benchmarks.lens_page memory   # 12 layers, 768 wide, 50,257 tokens, a text of 256
"""

from __future__ import annotations

import copy
import multiprocessing
import statistics
import sys
import time
from typing import Any

import psutil
import torch

from benchmarks.record import Result, keep
from benchmarks.subjects import Subject, delete_by_hand, subject
from benchmarks.surgery_page import app, opened
from benchmarks.sweeps import peak_rss, reset_peak, shaped
from surgery_core import bundled_texts

TOKENS = 200
WATCH = """plan => {
    const began = performance.now();
    const drawn = () => [...document.querySelectorAll('.st-key-map svg')].map(e => e.textContent).join('');
    const before = drawn();
    window.seen = undefined;
    const look = () => {
        const idle = document.querySelector('[data-test-script-state="notRunning"]');
        const address = new URLSearchParams(location.search).get('plan');
        const now = drawn();
        if (now && now !== before && idle && address === plan) { window.seen = performance.now() - began; return; }
        requestAnimationFrame(look);
    };
    look();
}"""


def text_of(tokenizer: Any, n_tokens: int) -> str:
    """Return the beginning of the bundled texts that has so many tokens."""
    whole = " ".join(text.text for text in bundled_texts())
    offsets = tokenizer(whole, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return " ".join(whole[: offsets[n_tokens - 1][1]].split())


def edits(of: Subject) -> list[float]:
    """Return the seconds from an edit to the drawn map, an entry an edit."""
    text = text_of(of.load().tokenizer, TOKENS)
    with app(of) as address, opened(f"{address}/lens?model={of.name}&plan={of.warm}&chat=0") as page:
        page.get_by_label("Text to read", exact=True).fill(text)
        page.get_by_label("Text to read", exact=True).press("Control+Enter")
        page.locator(".st-key-map svg").first.wait_for(timeout=240_000)
        page.wait_for_timeout(20_000 if of.n_layers > 12 else 3_000)
        return [_edit(page, of.without(layer)) for layer in of.layers]


def _edit(page: Any, notation: str) -> float:
    field = page.get_by_label("Notation", exact=True)
    field.fill(notation)
    page.evaluate(WATCH, notation)
    field.press("Enter")
    page.wait_for_function("window.seen !== undefined", timeout=240_000)
    seconds: float = page.evaluate("window.seen") / 1e3
    page.wait_for_timeout(500)
    return seconds


def plain(of: Subject, layer: int) -> float:
    """Return the seconds of a plain script for both sides, tokens only, without a chart."""
    loaded = of.load()
    ids = torch.tensor([loaded.tokenizer(text_of(loaded.tokenizer, TOKENS))["input_ids"]])
    began = time.perf_counter()
    operated = copy.deepcopy(loaded.model)
    delete_by_hand(operated, layer)
    for model in (loaded.model, operated):
        with torch.inference_mode():
            output = model(ids, output_hidden_states=True, use_cache=False)
            for state in output.hidden_states[:-1]:
                model.lm_head(model.model.norm(state))[0].softmax(-1).max(-1)
            output.logits[0].softmax(-1).max(-1)
    return time.perf_counter() - began


def memory() -> list[Result]:
    """Return the peak memory of a reading over the model's own, beside keeping all rows' logits, as a plain script does."""
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for way in ("lens", "plain"):
        with context.Pool(1) as pool:
            peaks[way] = pool.apply(_peak, (way,))
    what = "peak memory over the model's, logit lens, 12 layers, 256 tokens, 50,257-token vocabulary"
    return [
        Result(what, "`read_lens`, every statistic", (0.0,), peaks["lens"]),
        Result(what, "softmax of all layers' logits at once", (0.0,), peaks["plain"]),
    ]


class _Bytes:
    """A tokenizer with ids of its own making."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def __call__(self, text: str, **more: Any) -> dict[str, Any]:
        """Return the ids, whatever the text."""
        return {"input_ids": self.ids}

    def decode(self, ids: Any, **more: Any) -> str:
        """Return something to read for ids."""
        return " ".join(map(str, ids))

    def convert_ids_to_tokens(self, index: int) -> str:
        """Return a name of an id."""
        return f"t{index}"


def _peak(way: str) -> int:
    from surgery_core import LogitLens, Text, read_lens

    torch.set_num_threads(1)
    model = shaped("gpt2")
    ids = torch.randint(0, 50257, (1, 256), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model(ids[:, :8])
    before = psutil.Process().memory_info().rss
    reset_peak()
    if way == "lens":
        read_lens(LogitLens(model), model, _Bytes(ids[0].tolist()), Text("Random", "x" * 256))
    else:
        with torch.inference_mode():
            states = torch.stack(model(ids, output_hidden_states=True, use_cache=False).hidden_states)
            model.lm_head(model.transformer.ln_f(states)).softmax(-1).max(-1)
    return peak_rss() - before


def main() -> None:
    """Measure what the command line asks for and keep the lines."""
    if sys.argv[1:] == ["memory"]:
        keep(*memory())
        return
    of = subject(*sys.argv[1:])
    ours = edits(of)
    theirs = [plain(of, layer) for layer in of.layers]
    what = f"edit on the Lens page, {of.name}, {TOKENS} tokens, both sides"
    keep(
        Result(what, "the app, in Chromium", tuple(ours), 0),
        Result(what, "plain script, both sides, no chart", tuple(theirs), 0),
    )
    print("median:", statistics.median(ours))


if __name__ == "__main__":
    main()

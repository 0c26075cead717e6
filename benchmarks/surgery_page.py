"""How long a person waits after an edit on the Surgery page: the app in Chromium, beside a plain script.

The app runs as it is shipped, and each edit is one that it has not seen. A length of 128 tokens and the 12 bundled
texts; the base side is there already, as it is after the first look at the page. The plain script is what one would
write otherwise: copy the model, delete the layer, generate, and score the texts one after the other on both sides.
Run with `python -m benchmarks.surgery_page`; it needs Chromium.
"""

from __future__ import annotations

import copy
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.record import Result, keep
from surgery_core import GenerationSettings, bundled_texts, complete, load_model

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (3, 4, 5, 6, 7, 8, 9)
LENGTH = 128
PROMPT = "Once upon a time there was"
WATCH = """layer => {
    const began = performance.now();
    const texts = () => [...document.querySelectorAll('[data-testid="stHtml"]')].map(e => e.innerText);
    const before = texts()[1];
    window.seen = {};
    const look = () => {
        const now = texts()[1];
        if (!window.seen.first && now && now !== before) window.seen.first = performance.now() - began;
        const notes = [...document.querySelectorAll('[data-testid="stCaptionContainer"]')].map(e => e.innerText);
        const done = notes.filter(t => /^\\d+ tokens/.test(t)).length >= 2;
        const plan = new URLSearchParams(location.search).get('plan');
        const idle = document.querySelector('[data-test-script-state="notRunning"]');
        const metrics = document.querySelectorAll('[data-testid="stMetricDelta"]').length >= 2;
        if (window.seen.first && done && idle && metrics && plan === layer) {
            window.seen.whole = performance.now() - began; return;
        }
        requestAnimationFrame(look);
    };
    look();
}"""


@contextmanager
def app() -> Iterator[str]:
    """Run the app on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1"]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _until_healthy(address)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def opened(address: str) -> Iterator[Any]:
    """Open an address in Chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        page = browser.new_page(viewport={"width": 1400, "height": 1400})
        page.goto(address)
        yield page
        browser.close()


def edits(address: str) -> list[tuple[float, float]]:
    """Return the seconds to the first new text and to the whole page, an entry an edit."""
    with opened(f"{address}/?model=fable&plan=0-9,11&length={LENGTH}") as page:
        page.get_by_test_id("stMetricDelta").nth(1).wait_for(timeout=60_000)
        page.wait_for_timeout(3_000)
        return [_edit(page, f"0-{layer - 1},{layer + 1}-11") for layer in LAYERS]


def plain(layer: int) -> tuple[float, float]:
    """Return the same two times for a plain script with transformers."""
    loaded = load_model("fable")
    began = time.perf_counter()
    operated = copy.deepcopy(loaded.model)
    del operated.model.layers[layer]
    for position, block in enumerate(operated.model.layers):
        block.self_attn.layer_idx = position
    operated.config.num_hidden_layers -= 1
    settings = GenerationSettings(LENGTH)
    after = complete(operated, loaded.tokenizer, PROMPT, settings)
    first = time.perf_counter() - began - after.seconds + after.first_token_seconds
    complete(loaded.model, loaded.tokenizer, PROMPT, settings)
    for model in (loaded.model, operated):
        for text in bundled_texts():
            ids = torch.tensor([loaded.tokenizer(text.text)["input_ids"]])
            with torch.inference_mode():
                logits = model(ids).logits[0, :-1]
            nn.functional.cross_entropy(logits, ids[0, 1:])
    return first, time.perf_counter() - began


def main() -> None:
    """Measure both ways and keep the lines."""
    with app() as address:
        ours = edits(address)
    torch.set_num_threads(1)
    theirs = [plain(layer) for layer in LAYERS]
    for name, which in (("first new token", 0), ("whole page: 128 tokens, 12 texts", 1)):
        keep(
            Result(f"edit on the Surgery page, {name}", "the app, in Chromium", tuple(t[which] for t in ours), 0),
            Result(f"edit on the Surgery page, {name}", "plain script, both sides", tuple(t[which] for t in theirs), 0),
        )
    print("median of the whole page:", statistics.median(t[1] for t in ours))


def _edit(page: Any, notation: str) -> tuple[float, float]:
    field = page.get_by_label("Notation", exact=True)
    field.fill(notation)
    page.evaluate(WATCH, notation)
    field.press("Enter")
    page.wait_for_function("window.seen.whole !== undefined", timeout=60_000)
    seen = page.evaluate("window.seen")
    page.wait_for_timeout(500)
    return seen["first"] / 1e3, seen["whole"] / 1e3


def _until_healthy(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("The app did not start.")


if __name__ == "__main__":
    main()

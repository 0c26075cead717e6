"""How long a person waits after an edit on the Surgery page: the app in Chromium, beside a plain script.

The app runs as it is shipped, and each edit is one that it has not seen. A length of 128 tokens and the 12 bundled
texts; the base side is there already, as it is after the first look at the page. The plain script is what one would
write otherwise: copy the model, delete the layer, generate, and score the texts one after the other on both sides.

    python -m benchmarks.surgery_page            # fable; needs Chromium
    python -m benchmarks.surgery_page smollm2    # the real model of the tests
"""

from __future__ import annotations

import copy
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from benchmarks.record import Result, keep
from benchmarks.subjects import ROOT, Subject, delete_by_hand, plain_losses, subject
from surgery_core import GenerationSettings, bundled_texts, complete

LENGTH = 128
PROMPT = "Once upon a time there was"
WATCH = """([plan, prompt]) => {
    // the clock starts with the key press, as a person's does, and not with what the test does before
    let began, before;
    addEventListener('keydown', (event) => { [began, before] = [event.timeStamp, texts()[1]]; }, {capture: true, once: true});
    const texts = () => [...document.querySelectorAll('.stMain [data-testid="stHtml"]')].map(e => e.innerText.trim());
    window.seen = {};
    const look = () => {
        const now = texts()[1];
        // the prompt alone, which stands there first, is no text yet
        if (began && !window.seen.first && now && now !== before && now.length > prompt.length)
            window.seen.first = performance.now() - began;
        const notes = [...document.querySelectorAll('[data-testid="stCaptionContainer"]')].map(e => e.innerText);
        const done = notes.filter(t => /^\\d+ tokens/.test(t)).length >= 2;
        const address = new URLSearchParams(location.search).get('plan');
        const idle = document.querySelector('[data-test-script-state="notRunning"]');
        const metrics = document.querySelectorAll('[data-testid="stMetricDelta"]').length >= 2;
        if (window.seen.first && done && idle && metrics && address === plan) {
            window.seen.whole = performance.now() - began; return;
        }
        requestAnimationFrame(look);
    };
    look();
}"""


@contextmanager
def app(of: Subject) -> Iterator[str]:
    """Run the app on a free port, with a subject among its models."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--server.headless=true", f"--server.port={port}", "--server.address=127.0.0.1"]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", *options]
    environment = os.environ | {"MODEL_SURGERY_MODELS": str(of.folder)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, **quiet)  # type: ignore[call-overload]
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
        page = browser.new_page(viewport={"width": 1400, "height": 1400}, bypass_csp=True)  # its waits are evaluated
        page.goto(address)
        yield page
        browser.close()


def edits(address: str, of: Subject) -> list[tuple[float, float]]:
    """Return the seconds to the first new text and to the whole page, an entry an edit."""
    with opened(f"{address}/?model={of.name}&plan={of.warm}&length={LENGTH}&prompt={quote(PROMPT)}&chat=0") as page:
        page.get_by_test_id("stMetricDelta").nth(1).wait_for(timeout=240_000)
        page.wait_for_timeout(6_000)
        return [_edit(page, of.without(layer)) for layer in of.layers]


def plain(of: Subject, layer: int) -> tuple[float, float]:
    """Return the same two times for a plain script with transformers."""
    loaded = of.load()
    began = time.perf_counter()
    operated = copy.deepcopy(loaded.model)
    delete_by_hand(operated, layer)
    settings = GenerationSettings(LENGTH)
    after = complete(operated, loaded.tokenizer, PROMPT, settings)
    first = time.perf_counter() - began - after.seconds + after.first_token_seconds
    complete(loaded.model, loaded.tokenizer, PROMPT, settings)
    for model in (loaded.model, operated):
        plain_losses(model, loaded.tokenizer, bundled_texts())
    return first, time.perf_counter() - began


def main() -> None:
    """Measure both ways and keep the lines."""
    of = subject(*sys.argv[1:])
    with app(of) as address:
        ours = edits(address, of)
    theirs = [plain(of, layer) for layer in of.layers]
    for name, which in (("first new token", 0), (f"whole page: {LENGTH} tokens, 12 texts", 1)):
        what = f"edit on the Surgery page, {of.name}, {name}"
        keep(
            Result(what, "the app, in Chromium", tuple(t[which] for t in ours), 0),
            Result(what, "plain script, both sides", tuple(t[which] for t in theirs), 0),
        )
    print("median of the whole page:", statistics.median(t[1] for t in ours))


def _edit(page: Any, notation: str) -> tuple[float, float]:
    field = page.get_by_label("Notation", exact=True)
    field.fill(notation)
    page.evaluate(WATCH, [notation, PROMPT])
    field.press("Enter")
    page.wait_for_function("window.seen.whole !== undefined", timeout=240_000)
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

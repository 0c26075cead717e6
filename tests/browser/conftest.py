"""A real server on a free port and a real Chromium.

Without Chromium these tests are skipped with a line that says how to install it. In CI they must run.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.browser.driver import settle

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
INSTALL = "no Chromium found: install it (Debian and Ubuntu: apt-get install chromium) or set CHROMIUM to its path"
TWIN = "9 fables+one"
STREAMLITS_OWN = "RuntimeError: dictionary changed size during iteration"
"""How a run ends now and then that a click has replaced already: Streamlit 1.67 lists the session's state in it while
the run that took its place writes there (`SafeSessionState.filtered_state` has a lock a run). Nobody sees it."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What a traceback is coloured with where the environment says that its reader likes it."""
POLICY = "Content Security Policy"
"""What a browser's console says of everything that a page wants to do and may not."""
MEDIA = {"color_scheme", "reduced_motion", "accept_downloads"}
"""What a page of a shared browser can have of its own, besides its size."""
STORED = "cookies,local_storage,indexeddb,service_workers"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.browser)


def find_chromium() -> str | None:
    """Return the path of a Chromium on this machine, if there is one."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Return a running browser."""
    path = find_chromium()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with copies of the bundled model, which nothing changes while the tests run.

    The second has the same title on its card, and a name that the notation writes in quotes.
    """
    folder = tmp_path_factory.mktemp("models")
    for name in ("fable", TWIN):
        shutil.copytree(ROOT / "models" / "fable", folder / name)
    return folder


@pytest.fixture(scope="session")
def expected(models: Path) -> Callable[[str], tuple[str, ...]]:
    """Return the function from a plan to perplexity, agreement and KL over the bundled texts, as the page writes them."""
    from surgery_core.measure.compare import compare
    from surgery_core.models.opening import load_model
    from surgery_core.surgery.view import operate
    from surgery_core.text import bundled_texts

    loaded = load_model(str(models / "fable"))

    def measure(notation: str) -> tuple[str, ...]:
        operated = operate(loaded.model, notation)
        result = compare(loaded.model, operated, loaded.tokenizer, bundled_texts())
        perplexity = result.operated.perplexity
        digits = 2 if perplexity < 10 else 1 if perplexity < 100 else 0
        return f"{perplexity:,.{digits}f}", f"{result.top1:.1%}", f"{result.kl:.3f} nats"

    return cache(measure)


@contextmanager
def started(models: Path, log: Path) -> Iterator[str]:
    """Start the app as a person does in the repository and give its address; its log has no traceback in the end."""
    environment = os.environ | {"MODEL_SURGERY_MODELS": str(models)}
    with served(_streamlit_run, log, cwd=ROOT, env=environment) as address:
        yield address


def _streamlit_run(port: int) -> list[str]:
    where = [f"--server.port={port}", "--server.address=127.0.0.1"]
    return [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", *where]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def served(
    command: Callable[[int], list[str]], log: Path, *, cwd: Path, env: dict[str, str], base: str = ""
) -> Iterator[str]:
    """Start a server by the command for a port and give its address, with the path `base`, as soon as it answers.

    Its log has no traceback in the end.
    """
    port = free_port()
    said = env | {"MODEL_SURGERY_LOG_TEXTS": "1"}  # what an error says, to be told from others
    with log.open("wb") as output:
        process = subprocess.Popen(command(port), cwd=cwd, env=said, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_healthy(f"http://127.0.0.1:{port}{base}", process, log)
        yield f"http://127.0.0.1:{port}{base}"
    finally:
        process.terminate()
        process.wait(20)
    said = COLOURS.sub("", log.read_text(encoding="utf-8", errors="replace"))
    assert said.count("Traceback") == said.count(STREAMLITS_OWN), said


class Server:
    """A server that can be killed and started again at the same address.

    Args:
        models: folder whose models it offers.
        folder: for its log, rooms and state.
        environment: what its environment has besides.
    """

    def __init__(self, models: Path, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log.txt"
        places = {"MODEL_SURGERY_MODELS": str(models), "MODEL_SURGERY_STATE": str(folder)}
        self._environment = os.environ | places | environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                _streamlit_run(self.port), cwd=ROOT, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )
        _wait_until_healthy(self.address, self.process, self.log)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture(scope="session")
def server(chromium: Any, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the app, started as a person starts it."""
    with started(models, tmp_path_factory.mktemp("server") / "log.txt") as address:
        yield address


@pytest.fixture
def cold_server(chromium: Any, models: Path, tmp_path: Path) -> Iterator[str]:
    """Return the address of another server that has only just begun to open the first model.

    A test that must see a sweep of the unchanged model running needs one: what any other test has measured is there at once.
    """
    with started(models, tmp_path / "log.txt") as address:
        yield address


@pytest.fixture(scope="session")
def profile(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a browser that keeps the app's own code between pages, as a person's does; the code is half of a visit."""
    folder = tmp_path_factory.mktemp("profile")
    path = find_chromium()
    context = chromium.browser_type.launch_persistent_context(
        folder, executable_path=path, args=FLAGS, no_viewport=True
    )
    yield context
    context.close()


@pytest.fixture
def visit(chromium: Any, profile: Any, server: str) -> Iterator[Any]:
    """Return the function that opens the app as another person: own tab, own session, nothing that others have stored.

    What a tab cannot have of its own (a finger, permissions) gets a context of its own.
    """
    contexts: list[Any] = []
    origins: set[str] = set()
    refused: list[str] = []

    def new_page(viewport: dict[str, int], **options: Any) -> Any:
        if set(options) - MEDIA:
            contexts.append(chromium.new_context(viewport=viewport, **options))
            return contexts[-1].new_page()
        page = profile.new_page()
        page.set_viewport_size(viewport)
        page.emulate_media(
            color_scheme=options.get("color_scheme", "light"), reduced_motion=options.get("reduced_motion")
        )
        return page

    def open_page(address: str = "/", **options: Any) -> Any:
        page = new_page(**{"viewport": {"width": 1400, "height": 900}} | options)
        page.on("console", lambda said: refused.append(said.text) if POLICY in said.text else None)
        page.set_default_timeout(20_000)
        whole = address if address.startswith("http") else server + address
        origins.add("/".join(whole.split("/")[:3]))
        page.goto(whole)
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    _forget(profile, origins)
    assert not refused, "the content security policy forbids what a page does"


def _forget(profile: Any, origins: set[str]) -> None:
    """Close every page of the shared browser, and forget what pages of these servers stored there."""
    blank = profile.new_page()
    for page in profile.pages:
        if page is not blank:
            page.close()
    devtools = profile.new_cdp_session(blank)
    for origin in origins:
        devtools.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": STORED})


def _wait_until_healthy(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"The server did not start:\n{log.read_text(encoding='utf-8', errors='replace')}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what a test's first try failed with where it ran once more: its name alone explains nothing."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"first try of {report.nodeid}")
        terminalreporter.write_line(report.longreprtext[-4000:])

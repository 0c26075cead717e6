"""Words of the texts come by a way of their own, before the page; and the page is right with it, without it and late.

The server is under a path, as behind a proxy; in `test_wheel.py` it is not.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from surgery_ui.work.channel import PATH
from tests.browser.conftest import ROOT, served
from tests.browser.driver import await_plan, plan, settle, texts, type_notation, wait_until

PAGE, WORDS = re.compile(r"_stcore/stream"), re.compile(PATH)
FIRST, B, C = "0-2,4-11", "0-5,7-11", "0-8,10-11"
WATCH = """() => {
    window.shown = [];
    const look = () => {
        const now = document.querySelectorAll('[data-testid="stHtml"]')[1]?.innerText;
        if (now && now !== window.shown.at(-1)) window.shown.push(now);
        requestAnimationFrame(look);
    };
    look();
}"""
"""Writes down what the text after surgery is in every frame."""


class Gate:
    """What a browser's socket gets, kept back while it is shut."""

    def __init__(self) -> None:
        self.shut, self.came, self.passed, self.left = False, 0, 0, 0
        self._waiting: list[tuple[Any, Any]] = []

    def route(self, socket: Any) -> None:
        self.came += 1
        server = socket.connect_to_server()
        server.on_message(lambda message: self._take(socket, message))
        socket.on_close(lambda code, reason: self._end(server))

    def open(self) -> None:
        self.shut = False
        for socket, message in self._waiting:
            socket.send(message)
        self._waiting.clear()

    def _end(self, server: Any) -> None:
        self.left += 1
        server.close()

    def _take(self, socket: Any, message: Any) -> None:
        self.passed += not self.shut
        if self.shut:
            self._waiting.append((socket, message))
        else:
            socket.send(message)


@pytest.fixture(scope="module")
def below(chromium: Any, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the app under a path."""

    def command(port: int) -> list[str]:
        where = [f"--server.port={port}", "--server.address=127.0.0.1", "--server.baseUrlPath=deep/down"]
        return [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", *where]

    log = tmp_path_factory.mktemp("below") / "log.txt"
    environment = os.environ | {"MODEL_SURGERY_MODELS": str(models)}
    with served(command, log, cwd=ROOT, env=environment, base="/deep/down") as address:
        yield address


@pytest.fixture
def visit(chromium: Any, below: str) -> Iterator[Callable[..., Any]]:
    """Return the function that opens the app on a plan, with handlers of its two sockets."""
    contexts: list[Any] = []

    def open_page(page_socket: Callable[[Any], None] | None, words_socket: Callable[[Any], None]) -> Any:
        context = chromium.new_context(viewport={"width": 1400, "height": 900})
        contexts.append(context)
        page = context.new_page()
        if page_socket is not None:
            page.route_web_socket(PAGE, page_socket)
        page.route_web_socket(WORDS, words_socket)
        page.goto(f"{below}/?plan={FIRST}")
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def written(models: Path) -> Callable[[str], str]:
    """Return the function from a plan to what the page says of it, from the model alone."""
    from surgery_core.measure.generation import complete
    from surgery_core.models.opening import load_model
    from surgery_core.surgery.view import operate
    from surgery_ui.session.first import default_prompt

    loaded = load_model(str(models / "fable"))

    def text(notation: str) -> str:
        return default_prompt() + complete(operate(loaded.model, notation), loaded.tokenizer, default_prompt()).text

    return text


def _await_text(page: Any, text: str) -> None:
    page.wait_for_function(
        "text => document.querySelectorAll('[data-testid=stHtml]')[1]?.innerText.trim() === text", arg=text.strip()
    )


def test_words_are_there_before_the_page_is_drawn(visit: Any, written: Callable[[str], str]) -> None:
    whole, words = Gate(), Gate()
    page = visit(whole.route, words.route)
    assert texts(page)[1].strip() == written(FIRST).strip()
    whole.shut = True
    type_notation(page, B)
    _await_text(page, written(B))
    assert plan(page) == FIRST, "the page was drawn"
    whole.open()
    await_plan(page, B)
    assert texts(page)[1].strip() == written(B).strip()


def test_the_page_is_whole_where_that_way_is_blocked(visit: Any, written: Callable[[str], str]) -> None:
    page = visit(None, lambda socket: socket.close())
    type_notation(page, B)
    await_plan(page, B)
    assert texts(page)[1].strip() == written(B).strip()


def test_what_was_written_for_an_earlier_plan_does_not_come_back(visit: Any, written: Callable[[str], str]) -> None:
    whole, words = Gate(), Gate()
    page = visit(whole.route, words.route)
    # words that come late, when the page shows a newer plan
    words.shut = True
    type_notation(page, B)
    await_plan(page, B)
    type_notation(page, C)
    await_plan(page, C)
    page.evaluate(WATCH)
    words.open()
    page.wait_for_timeout(300)
    assert {shown.strip() for shown in page.evaluate("window.shown")} == {written(C).strip()}
    # a page that is drawn late, when the words of a newer plan are there
    whole.shut = True
    for notation in (B, FIRST):
        type_notation(page, notation)
        _await_text(page, written(notation))
    before = len(page.evaluate("window.shown"))
    whole.open()
    await_plan(page, FIRST)
    assert {shown.strip() for shown in page.evaluate("window.shown")[before - 1 :]} == {written(FIRST).strip()}


def test_another_page_listens_no_more_and_the_first_one_again(visit: Any, written: Callable[[str], str]) -> None:
    words = Gate()
    page = visit(None, words.route)
    wait_until(page, lambda: words.came > 0)  # a page that is left before it listens has nothing to close
    page.get_by_role("link", name="Models").click()
    page.wait_for_url("**/models*")
    settle(page)
    wait_until(page, lambda: words.left > 0)
    heard = words.passed
    type_notation(page, B)
    await_plan(page, B)
    assert words.passed == heard
    page.get_by_role("link", name="Surgery").click()
    _await_text(page, written(B))
    settle(page)
    type_notation(page, C)
    await_plan(page, C)
    assert words.passed > heard
    assert texts(page)[1].strip() == written(C).strip()

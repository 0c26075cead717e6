"""Several people at a time on one server, each over a connection of their own, as browsers have them; with both engines.

`benchmarks/room_load.py` is the same with thirty, and with a clock.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.visitor import KL, NOTATION, PERPLEXITY, Visitor
from tests.browser.conftest import ROOT, started

PEOPLE = 5
PROMPT = "Text to continue"
FIRST = [f"{','.join(str(layer) for layer in range(12) if layer != gone)}" for gone in range(2, 2 + PEOPLE)]
LAST = [f"{','.join(str(layer) for layer in range(12) if layer not in (1, gone))}" for gone in range(2, 2 + PEOPLE)]
CANARIES = [f"canary {at}f3 in a coal mine" for at in range(PEOPLE)]


def seen(folder: Path, engine: str) -> tuple[list[Visitor], str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_SURGERY_LOG", str(folder / "lines.jsonl"))
        patch.setenv("MODEL_SURGERY_ENGINE", engine)
        patch.setenv("MODEL_SURGERY_WORKERS", "2")
        with started(ROOT / "models", folder / "log.txt") as address:
            people = asyncio.run(everybody(address))
    return people, (folder / "lines.jsonl").read_text() + (folder / "log.txt").read_text()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Visitor], str]:
    """Return what five people have at the end, who each wrote a prompt and two plans, and what the server wrote down."""
    return seen(tmp_path_factory.mktemp("people"), "threads")


def test_workers_elsewhere_do_the_same(tmp_path: Path) -> None:
    found = seen(tmp_path, "ray")
    test_each_has_the_figures_and_the_text_of_their_own_plan(found)
    test_what_one_writes_is_nowhere_else(found, tmp_path)
    test_what_they_did_was_written_down_without_it(found)


async def everybody(address: str) -> list[Visitor]:
    return await asyncio.gather(*(one(address, at) for at in range(PEOPLE)))


async def one(address: str, at: int) -> Visitor:
    person = Visitor(address)
    try:
        await person.open()
        await person.type(PROMPT, CANARIES[at])
        for plan in (FIRST[at], LAST[at]):
            await person.type(NOTATION, plan)
            assert await person.until(lambda: {PERPLEXITY, KL} <= person.metrics.keys()), "no figures"
        assert await person.until(lambda: person.idle and "after" in person.texts)
    finally:
        await person.close()
    return person


def test_each_has_the_figures_and_the_text_of_their_own_plan(shown: Any) -> None:
    from surgery_core import bundled_texts, compare, complete, load_model, operate

    loaded = load_model("fable")
    for person, plan, prompt in zip(shown[0], LAST, CANARIES, strict=True):
        view = operate(loaded.model, plan)
        result = compare(loaded.model, view, loaded.tokenizer, bundled_texts())
        assert person.metrics[PERPLEXITY][0] in (
            f"{result.operated.perplexity:.1f}",
            f"{result.operated.perplexity:.0f}",
        )
        assert person.metrics[KL][0] == f"{result.kl:.3f} nats"
        assert person.texts["after"] == prompt + complete(view, loaded.tokenizer, prompt).text
        assert not person.errors


def test_what_one_writes_is_nowhere_else(shown: Any, tmp_path: Path) -> None:
    people, written = shown
    for at, person in enumerate(people):
        received = b"".join(person.received).decode("utf-8", "replace")
        assert CANARIES[at] in received
        assert not [other for other in CANARIES if other != CANARIES[at] and other in received]
    assert "canary" not in written


def test_what_they_did_was_written_down_without_it(shown: Any) -> None:
    lines = [json.loads(line) for line in shown[1].splitlines() if line.startswith("{")]
    edits = [line for line in lines if line["event"] == "edit"]
    assert len(edits) == 2 * PEOPLE
    assert len({line["session"] for line in edits}) == PEOPLE
    assert [line["model"] for line in lines if line["event"] == "load"] == ["fable"]
    assert not [line for line in lines if line["event"] == "error"]

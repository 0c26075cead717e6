"""A server whose workers are processes on Ray: they are killed while people work, and again while nobody does."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from benchmarks.visitor import KL, NOTATION, PERPLEXITY, Visitor
from tests.browser.conftest import ROOT, started

PLANS = ["0-4,6-11", "0-5,7-11", "0-6,8-11", "0-7,9-11"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("lost")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_SURGERY_ENGINE", "ray")
        patch.setenv("MODEL_SURGERY_WORKERS", "2")
        with started(ROOT / "models", folder / "log.txt") as found:
            yield found


def workers() -> list[psutil.Process]:
    """Return the processes on Ray below this one that are workers of the app."""
    found = []
    for one in psutil.Process().children(recursive=True):
        try:
            if "PageWorker" in " ".join(one.cmdline()):
                found.append(one)
        except psutil.Error:  # it has ended in the meantime
            continue
    return found


async def figures(person: Visitor) -> bool:
    return await person.until(lambda: {PERPLEXITY, KL} <= person.metrics.keys() and person.idle, 300.0)


def test_people_see_their_figures_though_workers_are_killed(address: str) -> None:
    from surgery_core import bundled_texts, compare, complete, load_model, operate

    async def one(at: int) -> Visitor:
        person = Visitor(address)
        try:
            await person.open()
            for plan in (PLANS[at], PLANS[at + 1], PLANS[at + 2]):
                await person.type(NOTATION, plan)
                if at == 0:  # in the middle of everybody's work
                    for process in workers():
                        os.kill(process.pid, signal.SIGKILL)
                assert await figures(person), f"no figures of {plan}"
        finally:
            await person.close()
        return person

    async def everybody() -> list[Visitor]:
        return await asyncio.gather(one(0), one(1))

    people, loaded = asyncio.run(everybody()), load_model("fable")
    for person, plan in zip(people, PLANS[2:], strict=True):
        view = operate(loaded.model, plan)
        result = compare(loaded.model, view, loaded.tokenizer, bundled_texts())
        assert person.metrics[KL][0] == f"{result.kl:.3f} nats"
        assert person.texts["after"].endswith(complete(view, loaded.tokenizer, prompt()).text)
        assert not person.errors


def prompt() -> str:
    from surgery_ui.session.first import default_prompt

    return default_prompt()

"""Thirty people on one small server: how long each waits for the first words and figures of an edit, and whether they are right.

Each person is a tab that speaks Streamlit's protocol (`visitor`): types a plan that nobody had, waits for the figures at
the head of the page, thinks for up to three seconds, and goes on. In the end everybody's figures and text are compared
with what the library computes for the plan, and everybody types one plan that somebody had before. Beside it, in the
same run and with as many threads, the same edits in one process without a web server: text, figures and proof of each.

    python -m benchmarks.room_load                           # 30 people, 20 edits each, fable
    python -m benchmarks.room_load --people 10 --edits 5 --model FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path

import psutil

from benchmarks.record import Result, keep
from benchmarks.subjects import ROOT
from benchmarks.visitor import KL, NOTATION, PERPLEXITY, Visitor
from surgery_core import GenerationSettings, bundled_texts, compare, complete, load_model, operate, prove, reference
from surgery_ui.session.first import default_prompt

THINK = 3.0
"""Seconds that a person thinks at most before the next edit."""
PATIENCE = 180.0
"""Seconds after which an edit counts as lost."""


@dataclass
class Seen:
    """What one person saw: seconds to the first words and to the figures of each edit, and what went wrong."""

    first: list[float] = field(default_factory=list)
    figures: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Room:
    """What came of everybody's work: what each saw, their tabs, seconds in all, and memory by the number of edits."""

    seen: list[Seen]
    people: list[Visitor] = field(default_factory=list)
    took: float = 0.0
    memory: list[tuple[int, int]] = field(default_factory=list)

    def after(self, edits: int) -> int:
        """Return the bytes that the server had after so many edits."""
        return next((taken for count, taken in self.memory if count >= edits), self.memory[-1][1])


def plans(n_layers: int, count: int) -> list[str]:
    """Return so many different plans: up to three layers deleted, and two neighbours swapped."""
    found: list[str] = []
    for gone, swapped in product((1, 2, 3), range(n_layers - 1)):
        for deleted in combinations(range(n_layers), gone):
            order = list(range(n_layers))
            order[swapped], order[swapped + 1] = order[swapped + 1], order[swapped]
            found.append(",".join(str(layer) for layer in order if layer not in deleted))
    different = list(dict.fromkeys(found))
    random.Random(7).shuffle(different)
    return different[:count]


async def edit(person: Visitor, plan: str, seen: Seen) -> None:
    """Have a person type a plan and wait for its figures."""
    turn = max(person.first_words, default=0)
    began = await person.type(NOTATION, plan)
    if not await person.until(lambda: {PERPLEXITY, KL} <= person.metrics.keys(), PATIENCE):
        seen.wrong.append(f"no figures of {plan}")
        return
    seen.figures.append(max(person.metrics[name][1] for name in (PERPLEXITY, KL)) - began)
    if await person.until(lambda: max(person.first_words, default=0) > turn, PATIENCE):
        seen.first.append(min(when for one, when in person.first_words.items() if one > turn) - began)
    else:
        seen.wrong.append(f"no words of {plan}")


async def visit(address: str, own: Sequence[str], known: str, seen: Seen, finished: asyncio.Barrier) -> Visitor:
    """Be a person: the edits, and when everybody is done, a plan that is known."""
    person, chance = Visitor(address), random.Random(own[0])
    await asyncio.sleep(chance.uniform(0, THINK))
    await person.open()
    for plan in own:
        await asyncio.sleep(chance.uniform(0, THINK))
        await edit(person, plan, seen)
    async with finished:
        pass
    await asyncio.sleep(chance.uniform(0, 4 * THINK))
    began = await person.type(NOTATION, known)
    await person.until(lambda: {PERPLEXITY, KL} <= person.metrics.keys(), PATIENCE)
    seen.again.append(max((when for _, when in person.metrics.values()), default=began + PATIENCE) - began)
    await person.type(NOTATION, own[-1])
    await person.until(lambda: {PERPLEXITY, KL} <= person.metrics.keys() and person.idle, PATIENCE)
    seen.wrong += person.errors
    return person


async def everybody(address: str, process: int, each: Sequence[Sequence[str]]) -> Room:
    """Have everybody work at a time."""
    finished, began = asyncio.Barrier(len(each) + 1), time.monotonic()
    room = Room([Seen() for _ in each])
    people = [
        asyncio.create_task(visit(address, own, each[0][0], seen, finished))
        for own, seen in zip(each, room.seen, strict=True)
    ]
    weighing = asyncio.create_task(weigh(process, room))
    async with finished:
        room.took = time.monotonic() - began
    room.people = await asyncio.gather(*people)
    weighing.cancel()
    return room


async def weigh(process: int, room: Room) -> None:
    """Note the memory of the server by the number of edits."""
    while True:
        await asyncio.sleep(1.0)
        room.memory.append((sum(len(seen.figures) for seen in room.seen), psutil.Process(process).memory_info().rss))


@contextmanager
def app(model: str) -> Iterator[tuple[str, int]]:
    """Run the app with a model, warmed; give its address and the id of its process."""
    from tests.browser.conftest import served

    def command(port: int) -> list[str]:
        import sys

        where = [f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true"]
        return [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "app.py",
            *where,
            "--",
            *([model] if Path(model).is_dir() else []),
        ]

    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with served(command, Path(folder) / "log.txt", cwd=ROOT, env=environment) as address:
            process = next(one for one in psutil.Process().children() if "app.py" in " ".join(one.cmdline()))
            while process.cpu_percent(2.0) > 20:
                pass
            yield address, process.pid


def by_hand(model: str, every: Sequence[str]) -> float:
    """Do the same edits in one process without a web server, by as many threads; return the seconds."""
    loaded = load_model(model)
    texts, prompt = bundled_texts(), default_prompt()
    base = reference(loaded.model, loaded.tokenizer, texts)

    def one(plan: str) -> None:
        view = operate(loaded.model, plan)
        complete(view, loaded.tokenizer, prompt, GenerationSettings())
        compare(base, view, loaded.tokenizer, texts)
        prove(loaded.model, loaded.tokenizer, plan)

    one(every[0])
    began = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(one, every))
    return time.monotonic() - began


def right(model: str, people: Sequence[Visitor], each: Sequence[Sequence[str]]) -> list[str]:
    """Return what anybody saw in the end that is not what the library computes."""
    loaded = load_model(model)
    wrong = []
    for person, own in zip(people, each, strict=True):
        view = operate(loaded.model, own[-1])
        result = compare(loaded.model, view, loaded.tokenizer, bundled_texts())
        value = result.operated.perplexity
        digits = 2 if value < 10 else 1 if value < 100 else 0
        text = default_prompt() + complete(view, loaded.tokenizer, default_prompt(), GenerationSettings()).text
        shown = person.metrics[PERPLEXITY][0], person.metrics[KL][0]
        if shown != (f"{value:,.{digits}f}", f"{result.kl:.3f} nats"):
            wrong.append(f"{own[-1]}: {shown} and not {value:.3f}, {result.kl:.3f}")
        if person.texts["after"].strip() != text.strip():
            wrong.append(f"{own[-1]}: another text")
    return wrong


def main() -> None:
    """Measure, and keep the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=30)
    parser.add_argument("--edits", type=int, default=20)
    parser.add_argument("--model", default="fable")
    parser.add_argument("--no-record", action="store_true")
    given = parser.parse_args()
    n_layers = load_model(given.model).info.n_layers
    every = plans(n_layers, given.people * given.edits)
    each = [every[at :: given.people] for at in range(given.people)]
    with app(given.model) as (address, process):
        room = asyncio.run(everybody(address, process, each))
    wrong = [one for seen in room.seen for one in seen.wrong] + right(given.model, room.people, each)
    some = every[: max(20, len(every) // 10)]
    alone = by_hand(given.model, some) / len(some)
    what = f"{given.people} people, {given.edits} edits each, {Path(given.model).name}"
    results = []
    for name, part in (
        ("first words", "first"),
        ("figures", "figures"),
        ("figures of a plan that somebody had", "again"),
    ):
        seconds = sorted(one for seen in room.seen for one in getattr(seen, part))
        p95 = seconds[min(len(seconds) - 1, round(0.95 * len(seconds)))]
        print(
            f"{name}: p50 {statistics.median(seconds):.2f} s, p95 {p95:.2f} s, most {seconds[-1]:.2f} s, {len(seconds)} edits"
        )
        results.append(Result(what, f"{name}, p95 {p95:.2f} s, most {seconds[-1]:.2f} s", tuple(seconds), 0))
    rate = len(every) / room.took
    first, last = room.after(100), room.memory[-1][1]
    print(f"{rate:.2f} edits a second in the room, {1 / alone:.2f} without a web server")
    print(f"memory: {first / 1e6:.0f} MB after 100 edits, {last / 1e6:.0f} MB at the end ({last / first - 1:+.1%})")
    print("wrong:", wrong or "nothing")
    how = f"an edit of the room: {rate:.2f} a second, {len(wrong)} wrong; memory is what was added after 100 edits"
    results.append(Result(what, how, (room.took / len(every),), max(0, last - first)))
    results.append(Result(what, f"the same without a web server: {1 / alone:.2f} a second", (alone,), 0))
    if not given.no_record:
        keep(*results)


if __name__ == "__main__":
    main()

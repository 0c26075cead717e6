"""A server that people work on for a while: memory and threads are flat, and figures come as soon at the end as at first.

Visitors edit plans, go to other pages and back, are cut off, and close their tabs; others come in their place. Every ten
seconds the server's memory and threads are noted. After a first quarter, in which caches fill, both must stay.

    python -m benchmarks.soak 10
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import statistics
import time
from dataclasses import dataclass, field

import psutil

from benchmarks.room_load import app, plans
from benchmarks.visitor import KL, NOTATION, PERPLEXITY, Visitor
from surgery_core import load_model

PEOPLE = 6
STAY = 8
"""Things that a person does before they close their tab."""
GROWTH, THREADS = 0.10, 6
"""Memory (a share) and threads that may be added after the first quarter."""
PAGES = ("Lens", "Skills", "Compare", "Models", "Gallery", "Sweep")


@dataclass
class Soaked:
    """What was noted: seconds, bytes and threads at a time; seconds of each edit with its time; what went wrong."""

    noted: list[tuple[float, int, int]] = field(default_factory=list)
    edits: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    tabs: int = 0


async def live(address: str, every: list[str], end: float, chance: random.Random, soaked: Soaked) -> None:
    """Be one person after another until the time is over."""
    while time.monotonic() < end:
        person = Visitor(address, secrets.token_hex(16))
        soaked.tabs += 1
        try:
            await person.open()
            for _ in range(STAY):
                if time.monotonic() < end:
                    await act(person, chance.choice(every), chance, soaked)
            soaked.wrong += person.errors
        finally:
            await person.close()


async def act(person: Visitor, plan: str, chance: random.Random, soaked: Soaked) -> None:
    """Do one thing: mostly an edit."""
    await asyncio.sleep(chance.uniform(0, 2))
    what = chance.random()
    if what < 0.2:
        await person.go(chance.choice(PAGES))
        await person.go("Surgery")
    elif what < 0.3:
        person.cut()
        await asyncio.sleep(0.2)
        await person.come_back()
    began = await person.type(NOTATION, plan)
    if await person.until(lambda: {PERPLEXITY, KL} <= person.metrics.keys(), 120):
        soaked.edits.append((time.monotonic(), max(when for _, when in person.metrics.values()) - began))
    else:
        soaked.wrong.append(f"no figures of {plan}")


async def weigh(process: psutil.Process, soaked: Soaked) -> None:
    """Note memory and threads every ten seconds."""
    began = time.monotonic()
    while True:
        soaked.noted.append((time.monotonic() - began, process.memory_info().rss, process.num_threads()))
        await asyncio.sleep(10)


async def soak(address: str, process: int, minutes: float) -> Soaked:
    """Have people work for so many minutes."""
    depth = load_model("fable").info.n_layers
    every, soaked, end = plans(depth, 4_000), Soaked(), time.monotonic() + 60 * minutes
    weighing = asyncio.create_task(weigh(psutil.Process(process), soaked))
    await asyncio.gather(*(live(address, every, end, random.Random(at), soaked) for at in range(PEOPLE)))
    weighing.cancel()
    return soaked


def told(soaked: Soaked) -> list[str]:
    """Print what was noted, and return what is not as it should be."""
    quarter = soaked.noted[len(soaked.noted) // 4 :]
    (_, first, threads), (seconds, last, end_threads) = quarter[0], quarter[-1]
    most = max(bytes_ for _, bytes_, _ in quarter)
    half = len(soaked.edits) // 2
    early, late = (statistics.median(took for _, took in part) for part in (soaked.edits[:half], soaked.edits[half:]))
    print(f"{seconds / 60:.1f} minutes, {soaked.tabs} tabs, {len(soaked.edits)} edits")
    print(f"memory: {first / 1e6:.0f} MB after a quarter, {last / 1e6:.0f} MB at the end, {most / 1e6:.0f} MB at most")
    print(f"threads: {threads} after a quarter, {end_threads} at the end")
    print(f"figures: p50 {early:.2f} s in the first half, {late:.2f} s in the second")
    wrong = list(soaked.wrong)
    if last > first * (1 + GROWTH):
        wrong.append(f"memory grew by {last / first - 1:.0%}")
    if end_threads > threads + THREADS:
        wrong.append(f"{end_threads - threads} threads more")
    print("wrong:", wrong or "nothing")
    return wrong


def main() -> None:
    """Soak, and end with a status that says whether all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float)
    given = parser.parse_args()
    with app("fable") as (address, process):
        soaked = asyncio.run(soak(address, process, given.minutes))
    raise SystemExit(bool(told(soaked)))


if __name__ == "__main__":
    main()

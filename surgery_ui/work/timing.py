"""How long work will take: the model is timed once, and every page counts from that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from surgery_core.measure.encoding import encode_texts
from surgery_core.measure.skills import load_skills
from surgery_core.models.offered import weight_bytes
from surgery_core.models.opening import LoadedModel
from surgery_core.sweeps.estimate import Costs, Span, corrected, costs_of, costs_of_long, remaining
from surgery_core.sweeps.speeds import Speeds, measure_speeds
from surgery_core.text import Text
from surgery_ui.work.job import Job, Key, Work
from surgery_ui.work.kinds import Lane
from surgery_ui.work.plan_jobs import WORK
from surgery_ui.work.task import Task

BEGINNING = 40_000
"""Characters of each text that are encoded to count how long it takes: some windows of most models."""
READ, UNPACKED = 300e6, 13e6
"""Bytes of weights that are read a second, and of packed ones that are unpacked (SmolLM2 on two cores)."""
LONG_TEXT = 20_000
"""Characters from which on texts are worth a timing of the model before they are read."""


def speeds_job(owner: str, loaded: LoadedModel) -> Job[Speeds]:
    """Time a model, once for everybody."""
    ((key, work),) = _speeds(loaded).items()
    return WORK.request(owner, Lane.SPEEDS, key, work)


def costs_job(owner: str, loaded: LoadedModel, texts: tuple[Text, ...]) -> Job[Costs]:
    """Count how long work over these texts takes."""
    key = ("costs", loaded.info.key, texts)
    return WORK.request(owner, Lane.COSTS, key, Task(_costs, loaded, texts), _speeds(loaded))


def _costs(job: Job[Costs], loaded: LoadedModel, texts: tuple[Text, ...]) -> Costs:
    return costs_of(job.needs[0].result, encode_texts(loaded.model, loaded.tokenizer, texts))


def reading_job(owner: str, loaded: LoadedModel, texts: tuple[Text, ...], lane: Lane) -> Job[Costs]:
    """Count how long texts take to be read, from the beginning of each: a long text takes a while to encode alone."""
    key = ("reading", loaded.info.key, texts)
    return WORK.request(owner, lane, key, Task(_reading, loaded, texts), _speeds(loaded))


def _reading(job: Job[Costs], loaded: LoadedModel, texts: tuple[Text, ...]) -> Costs:
    begun = [replace(text, text=text.text[:BEGINNING]) for text in texts]
    share = sum(len(text.text) for text in begun) / sum(len(text.text) for text in texts)
    return costs_of_long(job.needs[0].result, encode_texts(loaded.model, loaded.tokenizer, begun), share)


def are_long(texts: Sequence[Text]) -> bool:
    """Return whether texts take long enough to be read that a time is wanted before they are."""
    return sum(len(text.text) for text in texts) >= LONG_TEXT


def known_costs(loaded: LoadedModel, texts: tuple[Text, ...]) -> Costs | None:
    """Return what work over these texts costs, where that was counted before; nothing is timed here."""
    return known(WORK.outcome(("costs", loaded.info.key, texts)))  # type: ignore[no-any-return]


def opening_seconds(name: str) -> float | None:
    """Return how long a model takes to be opened, from the size of its weights; None where they have to be fetched."""
    found = weight_bytes(name)
    if found is None:
        return None
    size, packed = found
    return size / (UNPACKED if packed else READ)


def known(job: Job[Any] | None) -> Any:
    """Return a timing's result, or None where it is not there (yet); who asks is still looking at it."""
    if job is not None:
        job.look()
    return job.result if job is not None and job.done and job.error is None else None


def left(job: Job[Any], expected: float | None = None, begun: float = 0.0) -> Span | None:
    """Return how long a job goes on, from how fast it went so far and from what was expected of it, in seconds.

    Args:
        job: that runs, or waits.
        expected: of the whole work, where that is known.
        begun: share of the whole work that was done before the job began.
    """
    expected_here = None if expected is None else (1 - begun) * expected
    began = job.working
    if job.done or began is None:
        return None if job.done or expected_here is None else Span.about(expected_here)
    done, total = job.progress
    share = min(1.0, done / total) if total else 0.0
    if share <= begun:
        return None if expected_here is None else _less(Span.about(expected_here), time.monotonic() - began)
    heard = job.heard_at
    took, since = heard - began, time.monotonic() - heard
    new = share - begun
    parts = (new, took, 1 - share) if expected is None else (new * expected, took, (1 - share) * expected)
    found = remaining(*parts) if expected is None else corrected(*parts)
    return None if found is None else _less(found, since)


def longest(spans: Sequence[Span | None]) -> Span | None:
    """Return the span that ends last, of those that are known."""
    return max((span for span in spans if span is not None), key=lambda span: span.high, default=None)


def _less(span: Span, seconds: float) -> Span:
    return Span(max(0.0, span.low - seconds), max(1.0, span.high - seconds))


def _speeds(loaded: LoadedModel) -> dict[Key, Work[Speeds]]:
    return {("speeds", loaded.info.key): Task(_timed, loaded)}


def _timed(job: Job[Speeds], loaded: LoadedModel) -> Speeds:
    return measure_speeds(loaded.model, loaded.tokenizer, load_skills(), stop=job.stop, on_progress=job.report)

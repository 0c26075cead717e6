"""Checks that are stopped end before the next layer of a view, or the next token of the model itself, and say how far they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest

import surgery_core as sc
from surgery_core.errors import Stopped
from surgery_core.proof.nearest import nearest_plan
from surgery_core.proof.preflight import preflight, prove
from tests.core.support.stopping import stop_at
from tests.tiny import build_model, build_tokenizer

model = cache(partial(build_model, "llama"))
tokenizer = cache(build_tokenizer)
PLAN = sc.LayerPlan.parse("0,2-3", 4)
WAYS: dict[str, Callable[..., Any]] = {
    "preflight": lambda **given: preflight(model(), tokenizer(), **given),
    "prove": lambda **given: prove(model(), tokenizer(), PLAN, **given),
    "nearest": lambda **given: nearest_plan(model(), tokenizer(), PLAN, **given),
}


@pytest.mark.parametrize("after", [1, 20, 40])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_stopped_runs_no_more_layers_than_a_token_has(
    way: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    ran = stop_at(stop, after, monkeypatch)
    with pytest.raises(Stopped):
        WAYS[way](stop=stop)
    assert sum(ran) <= 4


@pytest.mark.parametrize("way", ["preflight", "prove"])
def test_every_check_is_told_and_the_last_is_the_end(way: str) -> None:
    told: list[tuple[int, int]] = []
    WAYS[way](on_progress=lambda done, total: told.append((done, total)))
    total = told[0][1]
    assert told == [(done, total) for done in range(1, total + 1)]

"""Whoever stops long work has its worker back within one layer's time: no other layer runs behind the one that is running.

A text ends with its token, a check of the model itself with its token, and a training with its step, which it keeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

import surgery_core as sc
from surgery_core.errors import Stopped
from surgery_core.lenses.averages import lens_averages
from surgery_core.lenses.before_after import distances
from surgery_core.lenses.quality import lens_quality
from surgery_core.lenses.reading import LogitLens, read_lens
from surgery_core.lenses.training import LensTraining, train_lens
from surgery_core.measure.encoding import encode_texts
from surgery_core.measure.importance import read_on
from surgery_core.measure.skills import load_skills, score_skill
from surgery_core.sweeps.kinds import sweep_points
from surgery_core.sweeps.removal import remove_greedily
from surgery_core.sweeps.speeds import measure_speeds
from surgery_core.sweeps.sweep import Sweep
from tests.core.support.stopping import stop_at
from tests.tiny import build_model, build_tokenizer

LAYERS = 4
TEXTS = ["It was a dark night and the wolf came.", "Once upon a time.", "x" * 200]
tokenizer = cache(build_tokenizer)


@cache
def model() -> Any:
    return build_model("llama")


@cache
def view() -> Any:
    return sc.operate(model(), "0,2-3")


@cache
def reference() -> Any:
    return sc.reference(model(), tokenizer(), TEXTS)


@cache
def lens() -> Any:
    return train_lens(model(), tokenizer(), TEXTS, LensTraining(steps=1))


def encoded() -> Any:
    return encode_texts(model(), tokenizer(), TEXTS)


def sweep(stop: threading.Event) -> Any:
    points = sweep_points("delete", sc.LayerPlan.identity(LAYERS), None)
    return list(Sweep(model(), tokenizer(), TEXTS, points, stop=stop).rows())


WAYS: dict[str, tuple[int, Callable[[threading.Event], Any]]] = {
    "reference": (0, lambda stop: sc.reference(model(), tokenizer(), TEXTS, stop=stop)),
    "compare": (0, lambda stop: sc.compare(reference(), view(), tokenizer(), TEXTS, stop=stop)),
    "compare whole": (0, lambda stop: sc.compare(model(), view(), tokenizer(), TEXTS, stop=stop)),
    "lens": (0, lambda stop: read_lens(LogitLens(view()), view(), tokenizer(), TEXTS[2], stop=stop)),
    "distances": (
        0,
        lambda stop: distances(
            (LogitLens(model()), LogitLens(view())), (model(), view()), tokenizer(), sc.Text("a", TEXTS[2]), stop=stop
        ),
    ),
    "averages": (
        0,
        lambda stop: lens_averages(LogitLens(view()), view(), tokenizer(), [sc.Text("a", TEXTS[2])], stop=stop),
    ),
    "quality": (0, lambda stop: lens_quality(model(), tokenizer(), lens(), TEXTS, stop=stop)),
    "skill": (0, lambda stop: score_skill(view(), tokenizer(), load_skills()[0], stop=stop)),
    "importance": (0, lambda stop: list(read_on(view(), encoded(), None, stop))),
    "sweep": (0, sweep),
    "removal": (0, lambda stop: list(remove_greedily(model(), tokenizer(), encoded(), stop=stop))),
    "speeds": (LAYERS - 1, lambda stop: measure_speeds(model(), tokenizer(), load_skills()[:1], stop=stop)),
    "text": (LAYERS - 1, lambda stop: sc.complete(view(), tokenizer(), "Once", stop=stop)),
}


@pytest.mark.parametrize("number", [2, 40])
@pytest.mark.parametrize("way", WAYS)
def test_no_other_layer_runs(way: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    most, call = WAYS[way]
    reference(), lens()  # made before layers are counted
    stop = threading.Event()
    ran = stop_at(stop, number, monkeypatch)
    try:
        call(stop)
    except Stopped:
        pass
    else:
        assert way == "text" or len(ran) < number, "it went on to its end"
    assert sum(ran) <= most

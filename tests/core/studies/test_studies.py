"""What every study has to do, whatever it is about."""

from __future__ import annotations

import copy
import math
import threading
from typing import Any

import numpy as np
import pytest
import torch

from surgery_core.errors import SettingsError, Stopped
from surgery_core.lenses.tuned import TunedLens, untrained
from surgery_core.studies import deleting, dropping, edits, few_items, growing, painting, skill_layers, through_lenses
from surgery_core.studies.every import STUDIES
from surgery_core.studies.finding import Claim
from surgery_core.studies.study import Study, settled

OURS = [
    study
    for module in (deleting, edits, painting, dropping, growing, skill_layers, few_items, through_lenses)
    for study in module.STUDIES
]
# the random model does better than chance at these two, so that there is something to lose
SMALL: dict[str, Any] = {"skills": ["colours", "pattern"], "plans_at_most": 3}


def small(study: Study) -> dict[str, Any]:
    """Return options that make a study short."""
    return {name: value for name, value in SMALL.items() if name in study.options}


def test_keys_are_different() -> None:
    keys = [study.key for study in STUDIES]
    assert len(set(keys)) == len(keys)
    assert {study.key for study in OURS} <= set(keys)


@pytest.mark.parametrize("study", OURS, ids=lambda study: study.key)
def test_a_study_says_what_it_found_and_how_far_it_is(study: Study, setup_of: Any, six_layers: Any) -> None:
    told: list[tuple[int, int]] = []
    lens = TunedLens(six_layers, untrained(six_layers))
    setup = setup_of(study.key, lens=lens, on_progress=lambda done, of: told.append((done, of)), **small(study))
    found = study.run(setup)
    assert study.about.endswith(".")
    assert found.figure.name
    if "no better than guessing" in found.note:
        # what a random model answers can be worth nothing, and is then said to be
        assert study.key == "block-influence"
        assert math.isnan(found.figure.value)
    else:
        assert found.figure.low <= found.figure.value <= found.figure.high
    assert found.figure.n_units >= 6
    picture = found.picture
    columns = {picture.x, picture.y, picture.series, picture.value, picture.low, picture.high} - {""}
    assert columns <= set(found.frame.columns)
    assert len(found.frame) >= 2
    marks = [picture.x, picture.series] if picture.series else [picture.x]
    if picture.form in ("bars", "lines"):
        assert not found.frame.duplicated(marks).any(), "two marks at one place"
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert told[-1][0] == told[-1][1]
    assert {of for _, of in told} == {told[0][1]}


@pytest.mark.parametrize("study", OURS, ids=lambda study: study.key)
def test_a_study_stops(study: Study, setup_of: Any, six_layers: Any) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        study.run(setup_of(study.key, lens=TunedLens(six_layers, untrained(six_layers)), stop=stop, **small(study)))


@pytest.mark.parametrize("study", OURS, ids=lambda study: study.key)
def test_a_model_that_computes_no_numbers_decides_nothing(study: Study, setup_of: Any, six_layers: Any) -> None:
    broken = copy.deepcopy(six_layers)
    with torch.no_grad():
        broken.model.layers[2].mlp.down_proj.weight[0, 0] = math.nan
    found = study.run(setup_of(study.key, model=broken, lens=TunedLens(broken, untrained(broken)), **small(study)))
    assert math.isnan(found.figure.value)
    assert Claim(at_least=0.0).outcome(found.figure) == "too few texts to say"


@pytest.mark.parametrize("study", OURS, ids=lambda study: study.key)
def test_a_model_that_is_too_shallow_is_refused_in_a_sentence(study: Study, setup_of: Any, tiny_model: Any) -> None:
    one = tiny_model("llama", num_hidden_layers=1)
    with pytest.raises(SettingsError, match=r"needs a model of at least \d+ layers, and this one has 1"):
        study.run(setup_of(study.key, model=one, lens=TunedLens(one, untrained(one)), **small(study)))


@pytest.mark.parametrize("study", OURS, ids=lambda study: study.key)
def test_the_same_seed_gives_the_same_figure(study: Study, setup_of: Any, six_layers: Any) -> None:
    lens = TunedLens(six_layers, untrained(six_layers))
    first, second = (study.run(setup_of(study.key, lens=lens, seed=5, **small(study))).figure for _ in range(2))
    np.testing.assert_equal((first.value, first.low, first.high), (second.value, second.low, second.high))


@pytest.mark.parametrize("study", OURS, ids=lambda study: study.key)
def test_values_that_an_option_does_not_know_are_answered_with_those_that_it_knows(
    study: Study, setup_of: Any, six_layers: Any
) -> None:
    lens = TunedLens(six_layers, untrained(six_layers))
    for name in {"edit", "against", "figure", "order", "dropped", "first", "layers"} & set(study.options):
        with pytest.raises(SettingsError, match=f"'{name}' cannot be 'nonsense'; choose one of: "):
            study.run(setup_of(study.key, **{**small(study), name: "nonsense"}))
    for name in {"texts", "layers_at_most", "removals_at_most", "times", "items", "longest", "shuffles"} & set(
        study.options
    ):
        options = {**small(study), name: -3}
        with pytest.raises(SettingsError, match=f"'{name}' cannot be -3 here; give "):
            study.run(setup_of(study.key, lens=lens, **options))


def test_defaults_fit_the_options() -> None:
    for study in OURS:
        assert settled(study, dict(study.options)) == dict(study.options)

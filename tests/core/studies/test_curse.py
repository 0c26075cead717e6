"""The curse of depth: variance and damage by layer, by hand on models that are built anew."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from surgery_core.errors import SettingsError, Stopped
from surgery_core.studies.finding import Claim
from tests.core.studies.six import TEXTS, N, broken, losses_by_hand, run_study, six, states_by_hand, tokenizer


def variances_by_hand() -> np.ndarray:
    """Return each text's summed variance by depth, all tokens but its first, `[n_texts, N + 1]`."""
    found = []
    for text in TEXTS:
        states = states_by_hand("llama", range(N), tokenizer()(text.text)["input_ids"])[:, 1:].numpy()
        found.append(((states - states.mean(-1, keepdims=True)) ** 2).mean(-1).sum(-1))
    return np.array(found)


def damage_by_hand() -> np.ndarray:
    """Return how many nats each text loses without each layer, `[n_texts, N]`."""
    base = losses_by_hand("llama", ())[0]
    return np.array([losses_by_hand("llama", (layer,))[0] - base for layer in range(N)]).T


def test_variance_at_the_end_over_that_at_a_quarter() -> None:
    finding, variances = run_study("curse-of-depth", six()), variances_by_hand()
    assert finding.figure.value == pytest.approx(variances[:, 6].sum() / variances[:, 1].sum(), rel=1e-4)
    assert finding.figure.n_units == len(TEXTS)
    assert finding.figure.low < finding.figure.value < finding.figure.high
    raw = finding.frame.set_index(["measure", "layer"])["raw"]
    tokens = sum(len(tokenizer()(text.text)["input_ids"]) - 1 for text in TEXTS)
    assert raw["Variance of what enters it"].to_numpy() == pytest.approx(variances[:, :-1].sum(0) / tokens, rel=1e-4)


def test_damage_of_the_halves_without_the_ends() -> None:
    finding, damage = run_study("curse-of-depth", six(), claim="damage"), damage_by_hand()
    deep, others = damage[:, [3, 4]].mean(1).sum(), damage[:, [1, 2]].mean(1).sum()
    assert finding.figure.value == pytest.approx(deep / others, rel=1e-3)
    raw = finding.frame.set_index(["measure", "layer"])["raw"]
    tokens = losses_by_hand("llama", ())[1].sum()
    assert raw["Rise of the loss without it"].to_numpy() == pytest.approx(damage.sum(0) / tokens, abs=1e-4)
    growth = run_study("curse-of-depth", six()).figure
    assert finding.others[0] == growth


def test_only_the_beginning_of_a_text_is_read() -> None:
    finding = run_study("curse-of-depth", six(), TEXTS[:1], tokens=6)
    states = states_by_hand("llama", range(N), tokenizer()(TEXTS[0].text)["input_ids"][:6])[:, 1:].numpy()
    variance = states.var(-1).mean(-1)
    raw = finding.frame.set_index(["measure", "layer"])["raw"]["Variance of what enters it"]
    assert raw.to_numpy() == pytest.approx(variance[:-1], rel=1e-4)


def test_a_model_that_is_no_number_says_nothing() -> None:
    for claim in ("variance", "damage"):
        finding = run_study("curse-of-depth", broken(), claim=claim)
        assert Claim(0.0).outcome(finding.figure) == "too few texts to say"
        assert all(Claim(-1.0).outcome(one) == "too few texts to say" for one in finding.others)


def test_a_model_of_three_layers_has_no_halves_without_ends() -> None:
    from tests.tiny import build_model

    finding = run_study("curse-of-depth", build_model("llama", num_hidden_layers=3), claim="damage")
    assert np.isnan(finding.figure.value)
    assert np.isfinite(finding.others[0].value)


def test_unknown_claims_progress_and_a_stop() -> None:
    with pytest.raises(SettingsError, match="cannot be about 'loss'; give one of variance, damage"):
        run_study("curse-of-depth", six(), claim="loss")
    seen: list[tuple[int, int]] = []
    run_study("curse-of-depth", six(), on_progress=lambda *at: seen.append(at))
    assert seen[-1] == (len(TEXTS) + N, len(TEXTS) + N)
    stop = threading.Event()
    with pytest.raises(Stopped):
        run_study("curse-of-depth", six(), stop=stop, on_progress=lambda done, most: stop.set())

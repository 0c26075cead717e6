"""The map of what skipping a layer changes in later ones, against plain hooks on models that are built anew."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import pytest
import torch

from surgery_core.errors import Stopped
from surgery_core.measure import depth
from surgery_core.measure.depth import layer_effects
from surgery_core.studies.finding import Claim
from tests.core.studies.six import TEXTS, N, broken, built_anew, run_study, six, states_by_hand, tokenizer

FEW = TEXTS[:3]


@cache
def by_hand(family: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the relative changes `[n, n, tokens]` and contributions `[n, tokens]` of a text, all tokens but its last."""
    ids = tokenizer()(FEW[number].text)["input_ids"]
    base = states_by_hand(family, range(N), ids)[:, :-1]
    added = base[1:] - base[:-1]
    changes = np.full((N, N, base.shape[1]), np.nan)
    for skipped in range(N - 1):
        order = [layer for layer in range(N) if layer != skipped]
        states = states_by_hand(family, order, ids)[:, :-1]
        for place, layer in enumerate(order):
            if layer > skipped:
                now = states[place + 1] - states[place]
                changes[skipped, layer] = ((now - added[layer]).norm(dim=-1) / added[layer].norm(dim=-1)).numpy()
    return changes, (added.norm(dim=-1) / base[:-1].norm(dim=-1)).numpy()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_map_equals_brute_force(family: str) -> None:
    found = layer_effects(six(family), tokenizer(), FEW)
    for number, text in enumerate(FEW):
        changes, contributions = by_hand(family, number)
        assert found.titles[number] == text.title
        assert found.n_tokens[number] == changes.shape[-1]
        np.testing.assert_allclose(found.change[number], changes.mean(-1), rtol=2e-4)
        np.testing.assert_allclose(found.largest[number], changes.max(-1), rtol=2e-4)
        np.testing.assert_allclose(found.contribution[number], contributions.mean(-1), rtol=1e-4)


def test_whole_runs_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = layer_effects(six(), tokenizer(), FEW)
    monkeypatch.setattr(depth, "cannot_start_in_the_middle", lambda *args: "It cannot.")
    whole = layer_effects(six(), tokenizer(), FEW)
    assert (shared.note, whole.note) == ("", "It cannot.")
    np.testing.assert_allclose(shared.change, whole.change, rtol=1e-4)
    np.testing.assert_allclose(shared.largest, whole.largest, rtol=1e-4)
    # the base's six and 5 + 4 + 3 + 2 + 1 a batch (all three texts in one); of each text 6 and five times 5
    assert shared.layer_runs == 21
    assert whole.layer_runs == 3 * (6 + 5 * 5)


def test_memory_bounds_what_runs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    together = layer_effects(six(), tokenizer(), FEW)
    monkeypatch.setattr(depth, "HELD_BYTES", 1)
    alone = layer_effects(six(), tokenizer(), FEW)
    assert alone.layer_runs == 3 * together.layer_runs
    np.testing.assert_allclose(alone.change, together.change, rtol=1e-4)


def test_only_the_beginning_of_a_text_is_read() -> None:
    found = layer_effects(six(), tokenizer(), FEW[0], max_tokens=6)
    changes, _ = by_hand("llama", 0)
    assert found.n_tokens.tolist() == [5]
    np.testing.assert_allclose(found.change[0], changes[:, :, :5].mean(-1), rtol=2e-4)


def test_the_figure_is_the_ratio_of_the_halves() -> None:
    finding = run_study("depth", six(), FEW)
    over = under = 0.0
    for number in range(len(FEW)):
        mean, tokens = by_hand("llama", number)[0].mean(-1), by_hand("llama", number)[0].shape[-1]
        under += tokens * np.mean([mean[s, later] for s in (0, 1, 2) for later in range(s + 1, N)])
        over += tokens * np.mean([mean[s, later] for s in (3, 4) for later in range(s + 1, N)])
    assert finding.figure.value == pytest.approx(over / under, rel=2e-4)
    assert finding.figure.n_units == len(FEW)
    assert finding.figure.low < finding.figure.value < finding.figure.high
    assert len(finding.frame) == 15
    cell = finding.frame.query("skipped == 1 and layer == 4")
    tokens = np.concatenate([by_hand("llama", number)[0][1, 4] for number in range(len(FEW))])
    assert float(cell["change"].iloc[0]) == pytest.approx(tokens.mean(), rel=2e-4)
    assert float(cell["largest"].iloc[0]) == pytest.approx(tokens.max(), rel=2e-4)


def test_a_model_that_is_no_number_says_nothing() -> None:
    finding = run_study("depth", broken())
    assert Claim(at_most=1.0).outcome(finding.figure) == "too few texts to say"


def test_a_model_of_one_layer_has_no_later_ones() -> None:
    from tests.tiny import build_model

    finding = run_study("depth", build_model("llama", num_hidden_layers=1))
    assert np.isnan(finding.figure.value)
    assert finding.frame.empty


def test_a_stop_ends_it_before_the_next_layer() -> None:
    stop, skipped = threading.Event(), []

    def told(done: int, most: int) -> None:
        skipped.append((done, most))
        stop.set()

    with pytest.raises(Stopped):
        layer_effects(six(), tokenizer(), FEW, stop=stop, on_progress=told)
    assert skipped == [(1, N - 1)]
    with pytest.raises(Stopped):
        run_study("depth", six(), FEW, stop=stop)


def test_half_precision_stays_finite() -> None:
    half = built_anew().to(torch.bfloat16)
    found = layer_effects(half, tokenizer(), FEW)
    assert np.isfinite(found.change[:, 0, 1:]).all()

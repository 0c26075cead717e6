"""Statistics, trajectories, pairs and averages against values worked out by hand or with numpy alone."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery_core.errors import AnatomyError, TextError
from surgery_core.lenses.averages import lens_averages, mean_depth, spread
from surgery_core.lenses.before_after import difference, distances, matching_rows
from surgery_core.lenses.metrics import METRICS, own_metrics
from surgery_core.lenses.reading import LogitLens, one_token, read_lens, translators_of
from surgery_core.lenses.trajectory import Trajectory
from surgery_core.lenses.tuned import TunedLens
from surgery_core.measure import divergence as stats
from surgery_core.measure import readout
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.view import operate
from surgery_core.text import Text
from tests.core.lenses.test_lens import TEXT, hooked, read
from tests.core.lenses.test_tuned_lens import random_translators
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import build

model_of = cache(build)


def logs(*rows: list[float]) -> torch.Tensor:
    return stats.log_probabilities(torch.tensor(rows).log())


def test_statistics_by_hand() -> None:
    p, q = logs([0.5, 0.5, 0.0, 0.0]), logs([0.25, 0.25, 0.25, 0.25])
    assert stats.entropy(p).item() == pytest.approx(math.log(2))
    assert stats.entropy(q).item() == pytest.approx(math.log(4))
    assert stats.kl_divergence(p, q).item() == pytest.approx(math.log(2))
    assert stats.kl_divergence(q, p).item() == math.inf
    assert stats.total_variation(p, q).item() == pytest.approx(0.5)
    # m = (3/8, 3/8, 1/8, 1/8): half of ln(4/3) plus half of (ln(2/3) + ln 2) / 2
    expected = (math.log(4 / 3) + (math.log(2 / 3) + math.log(2)) / 2) / 2
    assert stats.js_divergence(p, q).item() == pytest.approx(expected)
    assert stats.ranks(logs([0.1, 0.4, 0.2, 0.3]), torch.tensor([2])).tolist() == [3]


def test_what_shares_no_token_is_as_far_apart_as_can_be() -> None:
    p, q = logs([1.0, 0.0]), logs([0.0, 1.0])
    assert stats.js_divergence(p, q).item() == pytest.approx(math.log(2))
    assert stats.total_variation(p, q).item() == 1
    assert stats.entropy(p).item() == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(-30, 30), min_size=5, max_size=5), min_size=2, max_size=2))
def test_statistics_against_numpy_in_double_precision(rows: list[list[float]]) -> None:
    z = np.array(rows)
    probabilities = np.exp(z - z.max(1, keepdims=True))
    p, q = probabilities / probabilities.sum(1, keepdims=True)
    logp, logq = (stats.log_probabilities(torch.tensor(row, dtype=torch.float64)) for row in rows)
    m = (p + q) / 2
    close = {"rel": 1e-3, "abs": 1e-4}
    assert stats.kl_divergence(logp, logq).item() == pytest.approx(float((p * np.log(p / q)).sum()), **close)
    js = float((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2
    assert stats.js_divergence(logp, logq).item() == pytest.approx(js, **close)
    assert stats.js_divergence(logq, logp).item() == pytest.approx(js, **close)
    assert stats.total_variation(logp, logq).item() == pytest.approx(float(np.abs(p - q).sum()) / 2, **close)
    assert stats.entropy(logp).item() == pytest.approx(float(-(p * np.log(p)).sum()), **close)


def by_hand(model: Any, text: str) -> list[np.ndarray[Any, Any]]:
    """Return the distributions `[seq, vocab]` of each row, from hooks, norm and head of a Llama."""
    ids = torch.tensor([byte_tokenizer()(text)["input_ids"]])
    states = hooked(model, ids)
    return [model.lm_head(model.model.norm(state)).double().softmax(-1).numpy() for state in states]


def test_a_trajectory_has_every_statistic_of_every_cell() -> None:
    model = model_of("llama")
    trajectory = read_lens(LogitLens(model), model, byte_tokenizer(), TEXT, picked=7)
    rows, final = by_hand(model, TEXT), by_hand(model, TEXT)[-1]
    ids = byte_tokenizer()(TEXT)["input_ids"]
    assert set(own_metrics()) <= set(trajectory.statistics)
    for row, p in enumerate(rows):
        found = {name: values[row] for name, values in trajectory.statistics.items()}
        np.testing.assert_allclose(found["kl"], (final * np.log(final / p)).sum(1), atol=1e-4)
        np.testing.assert_allclose(found["kl_reverse"], (p * np.log(p / final)).sum(1), atol=1e-4)
        np.testing.assert_allclose(found["entropy"], -(p * np.log(p)).sum(1), atol=1e-4)
        np.testing.assert_allclose(found["probability"], p.max(1), atol=1e-5)
        np.testing.assert_allclose(found["picked"], np.log(p[:, 7]), atol=1e-4)
        right = [p[at, token] for at, token in enumerate(ids[1:])]
        np.testing.assert_allclose(found["cross_entropy"][:-1], -np.log(right), atol=1e-4)
        assert np.isnan(found["cross_entropy"][-1])


def made(best: list[list[int]]) -> Trajectory:
    """Return a trajectory whose likeliest tokens are given, a list a row."""
    ids = np.array(best)[:, :, None]
    rows, seq = ids.shape[:2]
    labels = ("input", *(f"L{n}" for n in range(rows - 1)))
    origins = ("input", *(str(n) for n in range(rows - 1)))
    values = {"entropy": np.arange(rows * seq, dtype=np.float32).reshape(rows, seq)}
    return Trajectory(("a",) * seq, labels, origins, values, ids, ids / 10, {n: str(n) for n in range(10)})


def test_prediction_depth_by_hand() -> None:
    columns = [[1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [0, 0, 0, 1]]
    trajectory = made(np.array(columns).T.tolist())
    assert trajectory.prediction_depth().tolist() == [0, 1, 2, 3, 3]
    assert trajectory.frame()["depth"].tolist()[:5] == [0, 1, 2, 3, 3]
    assert trajectory.mean_depth == pytest.approx(9 / 5)
    assert made([[3, 4]]).prediction_depth().tolist() == [0, 0]


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=6))
def test_prediction_depth_is_the_first_row_after_which_nothing_changes(best: list[list[int]]) -> None:
    for position, depth in enumerate(made(best).prediction_depth()):
        column = [row[position] for row in best]
        expected = next(at for at in range(len(column)) if len(set(column[at:])) == 1)
        assert depth == expected


def test_averages_are_means_over_the_tokens_that_have_a_value() -> None:
    trajectory = read(model_of("llama"))
    averages = trajectory.averages()
    ranks = trajectory.statistics["rank"]
    np.testing.assert_allclose(averages["rank"], ranks[:, :-1].astype(float).mean(1))
    np.testing.assert_allclose(averages["kl"], trajectory.statistics["kl"].astype(float).mean(1))


def test_rows_belong_together_by_original_layer() -> None:
    before = ["input", "0", "1", "2"]
    assert matching_rows(before, ["input", "2", "0", "0", "donor:1"]) == [0, 3, 1, 1, None]
    view = operate(model_of("llama"), "3,1x2,(0|2).attn,2*0.5")
    assert read(view).origins == ("input", "3", "1", "1", "2", "2")


def test_the_difference_is_after_minus_before_in_the_same_layer() -> None:
    base, view = model_of("llama"), operate(model_of("llama"), "0,2,1x2")
    before, after = read(base), read(view)
    frame = difference(before, after, "entropy")
    assert sorted(frame["row"].unique()) == [0, 1, 2, 3, 4]
    for row, partner in enumerate([0, 1, 3, 2, 2]):
        expected = after.statistics["entropy"][row] - before.statistics["entropy"][partner]
        np.testing.assert_allclose(frame[frame["row"] == row]["difference"], expected, atol=1e-6)
    logarithmic = difference(before, after, "rank")
    row = logarithmic[(logarithmic["row"] == 2) & (logarithmic["position"] == 3)].iloc[0]
    expected = math.log(after.statistics["rank"][2, 3] / before.statistics["rank"][3, 3])
    assert row["difference"] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(TextError, match="different tokens"):
        difference(before, read(view, "Another"), "entropy")


def test_an_unchanged_model_differs_by_nothing() -> None:
    before, after = read(model_of("gpt2")), read(operate(model_of("gpt2"), "0-3"))
    assert difference(before, after, "kl")["difference"].abs().max() == 0


@pytest.mark.parametrize("sublayers", [False, True])
def test_distances_between_before_and_after(sublayers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    base = model_of("llama")
    view = operate(base, "0,2,1")
    monkeypatch.setattr(readout, "SLICE_ELEMENTS", {"cpu": 96 * 5, "cuda": 96 * 5})
    monkeypatch.setattr(readout, "ROWS", 7)
    found = distances(
        (LogitLens(base), LogitLens(view)), (base, view), byte_tokenizer(), TEXT, length=12, sublayers=sublayers
    )
    earlier = by_hand(base, TEXT[:12])
    reordered = model_of("llama")
    ids = torch.tensor([byte_tokenizer()(TEXT[:12])["input_ids"]])
    states = operate(reordered, "0,2")(ids).logits[0].double().softmax(-1).numpy()
    row = 4 if sublayers else 2
    p, q = earlier[3], states
    m = (p + q) / 2
    js = ((p * np.log(p / m)).sum(1) + (q * np.log(q / m)).sum(1)) / 2
    np.testing.assert_allclose(found["js"][row], js, atol=1e-5)
    np.testing.assert_allclose(found["tv"][row], np.abs(p - q).sum(1) / 2, atol=1e-5)
    np.testing.assert_allclose(found["js"][:2], 0, atol=1e-6)


def test_a_token_is_picked_as_written_or_behind_a_space() -> None:
    tokenizer = byte_tokenizer()
    assert one_token(tokenizer, "a") == tokenizer("a")["input_ids"][0]
    with pytest.raises(TextError, match=r"'ab' is not one token here \(its tokens: 'a', 'b'\)"):
        one_token(tokenizer, "ab")
    with pytest.raises(TextError, match="is not one token"):
        one_token(tokenizer, "")


def test_a_window_of_a_long_text_is_read_by_itself() -> None:
    text = "".join(chr(97 + n % 7) for n in range(100))
    window = read(model_of("llama"), text, start=64)
    assert (window.start, window.total, len(window.tokens)) == (64, 100, 36)
    assert window.note == "Tokens 64 to 99 of 100 are read, counted from 0. The model sees nothing before them."
    alone = read(model_of("llama"), text[64:])
    np.testing.assert_allclose(window.statistics["kl"], alone.statistics["kl"])
    with pytest.raises(TextError, match="no token 100; the text's 100 tokens are 0 to 99"):
        read(model_of("llama"), text, start=100)


SEQUENTIAL = {
    "gpt2": ("attn", "attn"),
    "llama": ("self_attn", "self_attn"),
    "gemma2": ("post_attention_layernorm", "self_attn"),
    "opt": ("self_attn", "self_attn"),
    "qwen3": ("self_attn", "self_attn"),
}


@pytest.mark.parametrize("family", SEQUENTIAL)
def test_the_point_inside_a_layer_is_what_attention_has_added(family: str) -> None:
    """The contribution is taken with hooks on the base: the attention's output, or the norm behind it in Gemma 2."""
    model = model_of(family)
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 4)
    added: list[torch.Tensor] = []
    name = SEQUENTIAL[family][0]
    handles = [
        layer.get_submodule(name).register_forward_hook(
            lambda module, args, output: added.append(output if isinstance(output, torch.Tensor) else output[0])
        )
        for layer in layers
    ]
    states = hooked(model, ids)
    for handle in handles:
        handle.remove()
    trajectory = read_lens(LogitLens(model), model, byte_tokenizer(), TEXT, sublayers=True)
    assert trajectory.labels[:5] == ("input", "L0 mid", "L0", "L1 mid", "L1")
    assert trajectory.origins[3:5] == ("1 mid", "1")
    for number in range(4):
        expected = LogitLens(model).logits(states[number] + added[number][0]).softmax(-1).max(-1).values
        np.testing.assert_allclose(trajectory.statistics["probability"][1 + 2 * number], expected, atol=1e-5)


def test_blooms_attention_adds_the_residual_itself() -> None:
    model = model_of("bloom")
    ids = torch.tensor([byte_tokenizer()(TEXT)["input_ids"]])
    seen: list[torch.Tensor] = []
    layer = model.transformer.h[2]
    handle = layer.post_attention_layernorm.register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    model(ids)
    handle.remove()
    trajectory = read_lens(LogitLens(model), model, byte_tokenizer(), TEXT, sublayers=True)
    expected = LogitLens(model).logits(seen[0]).softmax(-1).max(-1).values
    np.testing.assert_allclose(trajectory.statistics["probability"][5], expected, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt_neox", "phi"])
def test_halves_that_run_side_by_side_have_no_point_between_them(family: str) -> None:
    model = model_of(family)
    with pytest.raises(AnatomyError, match="attention and MLP side by side on the same input"):
        read_lens(LogitLens(model), model, byte_tokenizer(), TEXT, sublayers=True)


def test_points_inside_layers_after_surgery() -> None:
    view = operate(model_of("llama"), "3,1.attn,(0|2),2x2")
    trajectory = read_lens(LogitLens(view), view, byte_tokenizer(), TEXT, sublayers=True)
    assert trajectory.labels == ("input", "L3 mid", "L3", "L1.attn", "L0|L2", "L2 mid", "L2", "L2 (2) mid", "L2 (2)")
    np.testing.assert_allclose(trajectory.statistics["kl"][-1], 0, atol=1e-5)
    plan = LayerPlan.parse("3,1.attn,2", 4)
    assert translators_of(plan, "layer", sublayers=True) == [0, 3, None, 2, 2, None]
    assert translators_of(plan, "position", sublayers=True) == [0, 0, 1, 2, 2, None]


def test_a_tuned_lens_reads_inside_a_layer_with_the_translator_of_what_enters_it() -> None:
    model, translators = model_of("llama"), random_translators()
    lens = TunedLens(model, translators)
    trajectory = read_lens(lens, model, byte_tokenizer(), TEXT, sublayers=True)
    whole = read_lens(lens, model, byte_tokenizer(), TEXT)
    np.testing.assert_allclose(trajectory.statistics["kl"][::2], whole.statistics["kl"], atol=1e-4)


def test_averages_over_texts_by_hand() -> None:
    model, texts = model_of("llama"), [Text("One", "A cat sat."), Text("Two", "b" * 100)]
    seen: list[tuple[int, int]] = []
    frame = lens_averages(LogitLens(model), model, byte_tokenizer(), texts, on_progress=lambda *done: seen.append(done))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert list(frame["tokens"].unique()) == [10, 100]
    first = read(model, "A cat sat.").averages()
    np.testing.assert_allclose(frame[frame["text"] == "One"]["entropy"], first["entropy"])
    parts = [read(model, "b" * 64), read(model, "b" * 36)]
    expected = (64 * parts[0].averages()["kl"] + 36 * parts[1].averages()["kl"]) / 100
    np.testing.assert_allclose(frame[frame["text"] == "Two"]["kl"], expected)
    depth = np.concatenate([part.prediction_depth() for part in parts]).mean()
    assert frame[frame["text"] == "Two"]["depth"].iloc[0] == pytest.approx(depth)


def test_a_long_text_counts_for_more_in_the_mean_depth() -> None:
    """10 tokens settle at row 2 and 30 at row 4: (10 * 2 + 30 * 4) / 40."""
    lines = [("One", 10, row, 2.0) for row in range(3)] + [("Two", 30, row, 4.0) for row in range(3)]
    assert mean_depth(pd.DataFrame(lines, columns=["text", "tokens", "row", "depth"])) == 3.5


def test_the_band_holds_the_middle_of_the_texts() -> None:
    rows = [{"text": str(n), "tokens": 1 + n, "row": 0, "layer": "input", "kl": float(n)} for n in range(11)]
    (line,) = spread(pd.DataFrame(rows), "kl").to_dict("records")
    assert (line["low"], line["high"]) == (1.0, 9.0)
    assert line["mean"] == pytest.approx(sum(n * (1 + n) for n in range(11)) / 66)


def test_averages_of_a_single_token_have_no_target() -> None:
    model = model_of("llama")
    frame = lens_averages(LogitLens(model), model, byte_tokenizer(), "a")
    assert frame["rank"].isna().all()
    assert spread(frame, "rank").empty
    assert len(spread(frame, "kl")) == 5


def test_every_statistic_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.meaning.endswith(".")
        assert metric.scale in ("linear", "log")
    assert {METRICS[name].scale for name in ("kl", "kl_reverse", "rank")} == {"log"}
    assert {METRICS[name].scale for name in ("probability", "tv")} == {"linear"}

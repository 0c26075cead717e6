"""A model or plan that computes no numbers is seen wherever its figures would be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import surgery_core as sc
from surgery_core.lenses.reading import LogitLens
from tests.tiny import build_model, build_tokenizer

TEXTS = ["Once upon a time there was a king.", "The fox ran."]


def broken(layer: int | None, family: str = "llama") -> Any:
    """Return a model with one weight of a layer's MLP, or of the head, that is not a number."""
    model = build_model(family, tie_word_embeddings=False)
    part = model.get_output_embeddings() if layer is None else sc.inspect_model(model).layers[layer]
    [p for p in part.parameters() if p.dim() > 1][-1][0, 0] = float("nan")
    return model


def test_a_weight_whose_nonsense_a_kernel_drops_is_seen_too() -> None:
    """Of one unpadded text, torch's attention on a CPU makes numbers although a query is none."""
    model, tokenizer = build_model("llama"), build_tokenizer()
    model.model.layers[2].self_attn.q_proj.weight[0, 0] = float("nan")
    for text in (TEXTS[:1], TEXTS):
        found = sc.compare(model, sc.operate(model, "0,2,1,3"), tokenizer, text)
        assert "Not a number from L2 on: L2 has weights that are no numbers" in found.not_finite
    rows = list(sc.sweep(model, tokenizer, TEXTS[:1], "delete"))
    assert [bool(row.not_finite) for row in rows] == [True, True, True, False, True]
    assert "from L2 on" in sc.read_lens(LogitLens(model), model, tokenizer, TEXTS[0]).not_finite
    assert not sc.preflight(model, tokenizer).passed
    # mended in place, it is looked at again
    model.model.layers[2].self_attn.q_proj.weight[0, 0] = 0.1
    assert sc.score(model, tokenizer, TEXTS).not_finite == ""


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_scores_say_from_which_layer_on(family: str) -> None:
    table = sc.score(broken(2, family), build_tokenizer(), TEXTS)
    assert math.isnan(table.perplexity)
    assert math.isnan(table.bits_per_byte)
    assert "Not a number from L2 on" in table.not_finite
    assert "weights that are no numbers" in table.not_finite


def test_a_sound_model_says_nothing() -> None:
    model = build_model("llama")
    assert sc.score(model, build_tokenizer(), TEXTS).not_finite == ""
    assert sc.compare(model, sc.operate(model, "0-2"), build_tokenizer(), TEXTS).not_finite == ""


def test_a_broken_head_is_named() -> None:
    table = sc.score(broken(None), build_tokenizer(), TEXTS)
    assert math.isnan(table.perplexity)
    assert "Not a number from the head on" in table.not_finite


def test_no_comparison_with_nonsense_shows_agreement() -> None:
    """KL was 0.000 and agreement 100 %."""
    model = broken(2)
    for operated in ("0-3", "0,2,1,3"):
        found = sc.compare(model, sc.operate(model, operated), build_tokenizer(), TEXTS)
        assert all(math.isnan(value) for value in (found.kl, found.top1, found.top5, found.operated.perplexity))
        assert "from L2 on" in found.not_finite
    without = sc.compare(model, sc.operate(model, "0,1,3"), build_tokenizer(), TEXTS)
    assert math.isnan(without.kl)
    assert math.isfinite(without.operated.perplexity)
    assert "from L2 on" in without.not_finite


def test_only_the_layer_that_is_to_blame_is_named_after_surgery() -> None:
    model = broken(1)
    found = sc.compare(model, sc.operate(model, "0,2,1,3"), build_tokenizer(), TEXTS)
    assert "Not a number from L1 on" in found.not_finite


def test_preflight_fails_and_a_plan_is_refused() -> None:
    report = sc.preflight(broken(2), build_tokenizer())
    assert not report.passed
    failed = {check.key: check.detail for check in report.checks if not check.passed}
    assert "from L2 on" in failed["numbers"]
    assert "lens" in failed
    with pytest.raises(sc.RefusedPlanError, match="Not a number from L2 on: L2 has weights that are no numbers"):
        sc.prove(broken(2), build_tokenizer(), "0,2,1,3")
    # the plan that leaves the broken layer out runs as it reads
    assert sc.prove(broken(2), build_tokenizer(), "0,1,3").passed


def test_a_sweep_marks_its_rows_and_goes_on() -> None:
    rows = list(sc.sweep(broken(1), build_tokenizer(), TEXTS, "delete"))
    assert [row.number for row in rows] == [-1, 0, 1, 2, 3]
    for row in rows:
        assert not row.refused
        if row.number == 1:
            assert math.isfinite(row.perplexity)
            assert row.not_finite == ""
        else:
            assert math.isnan(row.perplexity)
            assert "from L1 on" in row.not_finite
        assert not row.unproved
        assert math.isnan(row.top1)  # the base's predictions are no numbers


def test_removal_takes_the_broken_layer_first_and_stops_where_nothing_is_left() -> None:
    steps = list(sc.remove_greedily(broken(1), build_tokenizer(), TEXTS))
    assert [step.removed for step in steps][1] == "L1"
    assert len(steps) == 4
    hopeless = list(sc.remove_greedily(broken(None), build_tokenizer(), TEXTS))
    assert len(hopeless) == 1


def test_the_lens_reads_what_there_is_and_says_the_rest() -> None:
    model = broken(1)
    read = sc.read_lens(LogitLens(model), model, build_tokenizer(), TEXTS[0])
    assert "from L1 on" in read.not_finite
    entropy = read.statistics["entropy"]
    assert np.isfinite(entropy[:2]).all()
    assert np.isnan(entropy[2:]).all()
    assert np.isnan(read.statistics["rank"][2:]).all()
    frame = read.frame()
    assert len(frame) == 5 * len(read.tokens)
    assert set(frame[frame["row"] >= 2]["top"]) == {"–"}
    assert "–" not in set(frame[frame["row"] < 2]["top"])
    assert set(read.top(3, 0)["token"]) == {"–"}


def test_skills_have_no_accuracy() -> None:
    result = sc.score_skills(broken(1), build_tokenizer(), sc.load_skills()[:1])[0]
    assert math.isnan(result.accuracy)


def test_a_contribution_too_large_for_half_precision_is_no_silence() -> None:
    model = build_model("llama").to(torch.float16)
    view = sc.operate(model, "0,1*100000,2,3")
    found = sc.compare(model, view, build_tokenizer(), TEXTS)
    assert math.isnan(found.operated.perplexity)
    assert "Not a number from L1×100000 on" in found.not_finite
    assert "too large for float16; open the model in float32" in found.not_finite
    assert math.isfinite(sc.score(model.float(), build_tokenizer(), TEXTS).perplexity)

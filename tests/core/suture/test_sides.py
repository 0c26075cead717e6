"""Base, cut and stitched side by side: figures by hand, verdicts with their margin, and the sentence made from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import surgery_core as sc
from surgery_core.measure.results import Comparison
from surgery_core.statistics.verdict import Verdict, judge_losses
from surgery_core.suture.sides import Side, by_text, given_back, sides_of
from tests.tiny import build_model, build_tokenizer

TEXTS = [
    f"{one} ran to the {two} at night." for one in ("A fox", "Two hens", "An ox") for two in ("sea", "inn", "hill")
]
PLANS = {"cut": "0-1,3", "stitched": "0,3"}
"""The second is no stitch; it is another model, whose figures tell it from the first."""


def by_hand(layers: list[int]) -> list[tuple[float, int]]:
    """Return the summed loss and the scored tokens of each text under a model with these layers, in float64."""
    model, tokenizer = build_model("llama"), build_tokenizer()
    kept = nn.ModuleList([model.model.layers[layer] for layer in layers])
    for position, layer in enumerate(kept):
        layer.self_attn.layer_idx = position
    model.model.layers, model.config.num_hidden_layers = kept, len(layers)
    found = []
    for text in TEXTS:
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.no_grad():
            logits = model(ids).logits.double()
        found.append(
            (float(nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum")), ids.shape[1] - 1)
        )
    return found


@pytest.fixture(scope="module")
def compared() -> dict[str, Comparison]:
    model, tokenizer = build_model("llama"), build_tokenizer()
    return {name: sc.compare(model, sc.operate(model, plan), tokenizer, TEXTS) for name, plan in PLANS.items()}


def test_figures_are_those_of_models_built_by_hand(compared: dict[str, Comparison]) -> None:
    base, cut, stitched = sides_of(compared)
    mean = [
        sum(nats for nats, _ in one) / sum(n for _, n in one) for one in map(by_hand, ([0, 1, 2, 3], [0, 1, 3], [0, 3]))
    ]
    assert [side.nats for side in (base, cut, stitched)] == pytest.approx(mean, rel=1e-6)
    assert stitched.back == pytest.approx((mean[1] - mean[2]) / (mean[1] - mean[0]), rel=1e-4)
    assert math.isnan(base.back)
    assert math.isnan(cut.back)
    assert (base.to_base, base.to_before, cut.to_before) == (None, None, None)


def test_lines_of_texts_have_the_plain_cut_beside_them(compared: dict[str, Comparison]) -> None:
    frame = by_text(compared["cut"], compared["stitched"])
    for before, cut, after, row in zip(
        by_hand([0, 1, 2, 3]), by_hand([0, 1, 3]), by_hand([0, 3]), frame.itertuples(), strict=True
    ):
        nats = [one[0] / one[1] for one in (before, cut, after)]
        found = [row.perplexity_before, row.perplexity_cut, row.perplexity_after]
        assert found == pytest.approx([math.exp(one) for one in nats], rel=1e-5)
        assert [row.ratio_cut, row.ratio] == pytest.approx([math.exp(one - nats[0]) for one in nats[1:]], rel=1e-5)


def test_the_second_is_judged_against_the_first_with_the_margin_that_was_chosen(
    compared: dict[str, Comparison],
) -> None:
    change = np.array([b[0] - a[0] for a, b in zip(by_hand([0, 1, 3]), by_hand([0, 3]), strict=True)])
    tokens = np.array([n for _, n in by_hand([0, 3])])
    for margin in (0.02, 0.9):
        wide = {name: one.within(margin) for name, one in compared.items()}
        expected = judge_losses(change, tokens, "text", margin)
        found = sides_of(wide)[2].to_before
        assert found is not None
        assert (found.word, found.sentence, found.margin) == (expected.word, expected.sentence, margin)


def side(name: str, back: float, to_base: Verdict | None = None, to_before: Verdict | None = None) -> Side:
    return Side(name, 3.0, 0.1, 0.9, back, to_base, to_before)


def test_what_is_given_back_in_words() -> None:
    better, worse = (judge_losses(np.full(9, change), np.full(9, 10.0)) for change in (-1.0, 1.0))
    nothing = judge_losses(np.array([1.0, -1.0, 1.1, -1.1, 0.9, -0.9, 1.0, -1.0]), np.full(8, 10.0))
    sides = [side("base", math.nan), side("cut", math.nan, worse)]
    said = given_back([*sides, side("stitched", 0.284, worse, better)])
    assert (worse.word, nothing.word) == ("worse", "no difference seen")
    assert said == f"The stitch gives back 28 % of what the cut costs. Against the plain cut: {better.sentence}"
    assert given_back([*sides, side("stitched", -0.4, worse, worse)]).startswith(
        "The stitch gives back nothing of what"
    )
    assert given_back([*sides, side("stitched", math.nan, worse, better)]) == ""
    assert given_back(sides) == ""
    # a cut that cannot be told from the base: 368 % of its cost would be 368 % of chance
    assert (
        given_back([side("base", math.nan), side("cut", math.nan, nothing), side("stitched", 3.68, nothing, better)])
        == ""
    )

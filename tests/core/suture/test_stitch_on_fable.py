"""What a stitch gives back on a model that was trained: figures by plain transformers, on texts that were not fitted."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import surgery_core as sc
from surgery_core.suture.stitch import HELD_OUT


@cache
def fable() -> Any:
    return sc.load_model("fable", device="cpu")


def mean_loss(model: nn.Module, texts: Any) -> float:
    losses, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([fable().tokenizer(text.text)["input_ids"]])
        losses += float(nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return losses / count


def test_losses_are_those_of_the_texts_held_out_and_other_texts_gain_too() -> None:
    loaded, texts = fable(), sc.text_sets()["stories"].texts[:24]
    view = sc.stitch(loaded.model, "0,4-11", loaded.tokenizer, texts)
    (one,) = sc.stitch_report(view).cuts
    cut, held = sc.operate(loaded.model, "0,4-11"), texts[HELD_OUT - 1 :: HELD_OUT]
    assert one.nats_before == pytest.approx(mean_loss(cut, held), rel=1e-5)
    assert one.nats_after == pytest.approx(mean_loss(view, held), rel=1e-5)
    assert one.nats_after < one.nats_before - 0.05
    others = sc.text_sets()["stories"].texts[32:40]
    base, without, stitched = (mean_loss(model, others) for model in (loaded.model, cut, view))
    assert base < stitched < without
    assert (without - stitched) / (without - base) > 0.3
    assert not math.isnan(one.error_after)

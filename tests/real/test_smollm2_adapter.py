"""The real model with an adapter, against peft, the plain base, and weights merged by hand."""

from __future__ import annotations

from pathlib import Path

import torch

import surgery_core as sc
from tests.core.support.adapters import base_model, merged_by_hand, peft_model, save_adapter

DEPTH = 30


def logits_of(model: object, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(ids, use_cache=False).logits  # type: ignore[operator,no-any-return]


def test_an_adapter_opens_is_switched_by_layer_and_is_the_base_without(folder: Path, tmp_path: Path) -> None:
    targets = ["q_proj", "v_proj", "down_proj"]
    saved = save_adapter(folder, tmp_path / "tuned", target_modules=targets, lora_alpha=4)
    loaded = sc.load_model(str(saved))
    assert loaded.info.adapter is not None
    assert (loaded.info.adapter.ranks, loaded.info.adapter.layers) == ((4,), tuple(range(DEPTH)))
    ids = torch.tensor([loaded.tokenizer("The king had three sons, and the youngest").input_ids])
    on, off = logits_of(peft_model(folder, saved), ids), logits_of(base_model(folder), ids)
    assert not torch.allclose(on, off, atol=0.1)
    assert torch.equal(logits_of(loaded.model, ids), on)
    assert torch.equal(logits_of(sc.operate(loaded.model, "(0-29).bare"), ids), off)
    with sc.ModelSurgery(loaded.model).apply("(0-29).bare") as model:
        assert torch.equal(logits_of(model, ids), off)
    every_second = sc.LayerPlan.identity(DEPTH).switch_adapter(range(1, DEPTH, 2), on=False)
    merged = merged_by_hand(folder, saved, range(0, DEPTH, 2), lambda rank: 4 / rank)
    expected = logits_of(merged, ids)
    found = logits_of(sc.operate(loaded.model, every_second), ids)
    assert (found - expected).abs().max() < 1e-3 * expected.std()
    assert sc.prove(loaded.model, loaded.tokenizer, every_second).passed

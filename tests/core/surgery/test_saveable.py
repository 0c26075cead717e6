"""Saved copies of views whose config or weights have to be rewritten for them, opened by plain transformers.

Expected are the logits of the base's own layers, called one by one.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.checks import Trial
from surgery_core.proof.layer_by_layer import ByHand
from surgery_core.surgery.saving import cannot_be_saved, reopened, save_view
from surgery_core.surgery.view import operate
from tests.core.support import zoo
from tests.core.support.columns import difference, inputs


def wrong(base: Any, notation: str, folder: Path) -> str:
    """Return how far the saved copy of a plan is from the base's layers called one by one; empty where it is not."""
    batch = inputs(3, padded=True)
    save_view(operate(base, notation), folder)
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = saved(**batch, use_cache=False).logits
    return difference(logits, ByHand(base, batch).logits(LayerPlan.parse(notation, 4)), batch["attention_mask"].bool())


@pytest.mark.parametrize(
    ("model_type", "notation"),
    [
        ("emu3", "3,1"),
        ("gemma3n_text", "2,0,3"),
        ("gemma3n_text", "1x2"),
        ("gemma4", "1,3"),
        ("gemma4_text", "0,1x2,3"),
        ("gemma4_unified", "1-3"),
        ("jamba", "0,2,1"),
        ("jamba", "1,3"),
        ("jamba", "2-3"),
        ("llama4", "3,1x2"),
        ("minicpm3", "0,1x3,2-3"),
        ("mllama", "0,1x2"),
        ("recurrent_gemma", "0,2,3,1"),
        ("recurrent_gemma", "1,0"),
        ("xlstm", "3,0"),
    ],
)
def test_saved_copies_are_what_their_plan_says(model_type: str, notation: str, tmp_path: Path) -> None:
    assert not wrong(zoo.build(model_type), notation, tmp_path)


def test_a_view_of_a_view_is_saved_with_the_depth_that_its_layers_were_scaled_for(tmp_path: Path) -> None:
    base = zoo.build("minicpm3")
    view = operate(operate(base, "0-2"), "2,0")
    save_view(view, tmp_path)
    batch = inputs(1, padded=False)
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(tmp_path).eval()(**batch).logits
    assert not difference(logits, ByHand(base, batch).logits(LayerPlan.parse("2,0", 4)), batch["attention_mask"].bool())


def test_the_base_keeps_its_settings_and_weights(tmp_path: Path) -> None:
    base = zoo.build("gemma3n_text")
    settings, before = base.config.to_dict(), {name: tensor.clone() for name, tensor in base.state_dict().items()}
    save_view(operate(base, "2,0"), tmp_path)
    assert base.config.to_dict() == settings
    assert all(torch.equal(before[name], tensor) for name, tensor in base.state_dict().items())


@pytest.fixture
def sharing() -> Any:
    """Return a model whose last two layers read the keys and values of the first two."""
    config = copy.deepcopy(zoo.config_of("gemma3n_text"))
    config.num_kv_shared_layers = 2
    return zoo.from_config(config)


@pytest.mark.parametrize("notation", ["0-2", "0-1,3", "0-1", "0-1,2x2,3"])
def test_readers_of_shared_keys_are_counted_anew(sharing: Any, notation: str, tmp_path: Path) -> None:
    assert not wrong(sharing, notation, tmp_path)


@pytest.mark.parametrize(
    ("model_type", "notation", "cause"),
    [
        ("beam", "0-1,3", "sets attn_residual_add_idx of a layer by the layer's place .* slot 2"),
        ("diffllama", "1-3", "sets lambda_init of a layer by the layer's place .* slot 0"),
        ("jamba", "0-1,3", "form that cannot express this order: slot 2 would be built as another kind of layer"),
    ],
)
def test_what_no_config_can_say_is_refused_with_the_cause(
    model_type: str, notation: str, cause: str, tmp_path: Path
) -> None:
    base = zoo.build(model_type)
    view = operate(base, notation)
    save_view(view, tmp_path)
    assert re.search(cause, cannot_be_saved(view, reopened(view, tmp_path)))
    check = Trial(base, None).reload(LayerPlan.parse(notation, 4))
    assert not check.passed
    assert re.search(cause, check.detail), check.detail


def test_what_transformers_does_not_open_is_refused_in_a_sentence() -> None:
    check = Trial(zoo.build("zamba"), None).reload(LayerPlan.parse("0,2", 4))
    assert not check.passed
    assert check.detail == "transformers does not open what a ZambaForCausalLM with these layers is saved as."

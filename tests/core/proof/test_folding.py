"""Half and scaled layers saved as weights: plain transformers, with hooks of its own here, computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from surgery_core.errors import RefusedPlanError
from surgery_core.models.opening import load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.export import export_model
from surgery_core.proof.folding import folded
from surgery_core.surgery.saving import save_view
from surgery_core.surgery.view import operate
from tests.core.support import zoo
from tests.core.support.adapters import save_adapter
from tests.core.support.columns import Hooked, difference, inputs, parted, scaled
from tests.tiny import build_model, build_tokenizer

SIDE_BY_SIDE = ("gpt_neox", "phi", "falcon")
IN_TURN = ("llama", "gpt2", "gemma2", "olmo2", "bloom", "opt", "qwen3", "mixtral")
ODD = ("axk1", "rwkv", "jetmoe", "whisper")
"""A norm at the end of an MLP, a gate behind its last projection, a bias that experts share, an attention that is not called."""


@pytest.mark.parametrize("model_type", [*SIDE_BY_SIDE, *IN_TURN, *ODD])
def test_halves_with_factors_are_weights(model_type: str, tmp_path: Path) -> None:
    model = zoo.build(model_type)
    plan, hooked, _ = parted(model)
    check_saved(model, plan, hooked, tmp_path)


@pytest.mark.parametrize("model_type", SIDE_BY_SIDE)
def test_whole_layers_with_factors_are_weights_where_both_halves_read_the_same(model_type: str, tmp_path: Path) -> None:
    model = zoo.build(model_type)
    plan, hooked, _ = scaled(model)
    check_saved(model, plan, hooked, tmp_path)


def check_saved(model: Any, plan: str, hooked: Hooked, folder: Path) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_view(folded(model, LayerPlan.parse(plan, 4)), folder)
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert saved.config.to_dict().keys() == model.config.to_dict().keys()
    for batch in (inputs(1, padded=False), inputs(3, padded=True)):
        with torch.inference_mode():
            logits, expected = (one(**batch, use_cache=False).logits for one in (saved, hooked.model))
        assert difference(logits, expected, batch["attention_mask"].bool()) == ""
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("model_type", IN_TURN)
def test_a_whole_layer_with_a_factor_is_refused_where_the_mlp_reads_what_attention_adds(model_type: str) -> None:
    with pytest.raises(
        RefusedPlanError, match=r"cannot hold 1\*0\.5: the MLP of a .* The plan 1\.attn\*0\.5,1\.mlp\*0\.5"
    ):
        folded(zoo.build(model_type), LayerPlan.parse("0,1*0.5,2,3", 4))


def test_a_half_with_a_factor_is_refused_where_a_norm_stands_behind_the_sum(tmp_path: Path) -> None:
    model = zoo.build("bert")
    with pytest.raises(RefusedPlanError, match=r"cannot hold 1\.attn\*0\.5: .* 1\.attn without one can be saved"):
        folded(model, LayerPlan.parse("0,1.attn*0.5,2,3", 4))
    hooked = Hooked(model)
    hooked.silence(1, "output.dense")
    check_saved(model, "0,1.attn,2,3", hooked, tmp_path)


def test_a_factor_of_nothing_is_weights_everywhere() -> None:
    model = zoo.build("llama")
    view, ids = folded(model, LayerPlan.parse("0,1*0,2,3", 4)), torch.arange(9)[None]
    torch.testing.assert_close(view(ids).logits, operate(model, "0,2,3")(ids).logits)
    assert not view.model.layers[1].mlp.down_proj.weight.any()


def test_gemmas_norm_counts_from_one() -> None:
    """Its norm multiplies by 1 + weight: half of that is (1 + weight) / 2 - 1."""
    model = zoo.build("gemma2")
    view = folded(model, LayerPlan.parse("0,1.mlp*0.5", len(model.model.layers)))
    norm, before = (m.model.layers[1].post_feedforward_layernorm.weight for m in (view, model))
    torch.testing.assert_close(norm, (1 + before) / 2 - 1)
    attention = view.model.layers[1].post_attention_layernorm.weight
    torch.testing.assert_close(attention, torch.full_like(attention, -1.0))


def test_a_repeated_layer_has_a_factor_for_each_time() -> None:
    model = zoo.build("llama")
    view = folded(model, LayerPlan.parse("1.mlp*2,1,1.mlp*4", len(model.model.layers)))
    weights = [layer.mlp.down_proj.weight for layer in view.model.layers]
    torch.testing.assert_close(weights[0] * 2, weights[2])
    assert weights[1] is model.model.layers[1].mlp.down_proj.weight


def test_biases_are_scaled_too() -> None:
    model = build_model("gpt2")
    for layer in model.transformer.h:
        layer.mlp.c_proj.bias.data.normal_()
        layer.attn.c_proj.bias.data.normal_()
    view = folded(model, LayerPlan.parse("0.mlp*0.5,1", 4))
    torch.testing.assert_close(view.transformer.h[0].mlp.c_proj.bias, model.transformer.h[0].mlp.c_proj.bias * 0.5)
    assert not view.transformer.h[0].attn.c_proj.bias.any()


def test_an_export_of_halves_opens_as_what_the_plan_does(tmp_path: Path) -> None:
    model = build_model("llama").bfloat16()
    model.save_pretrained(tmp_path / "base")
    build_tokenizer().save_pretrained(tmp_path / "base")
    base = load_model(str(tmp_path / "base"), device="cpu")
    folder = export_model(base, "0,1.attn,2.mlp*0.3,3", tmp_path / "new")
    saved, ids = load_model(str(folder), device="cpu").model, torch.arange(20)[None]
    with torch.inference_mode():
        expected, found = operate(base.model, "0,1.attn,2.mlp*0.3,3")(ids).logits, saved(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_is_merged_before_a_layer_is_halved(tiny_folder: Path, tmp_path: Path) -> None:
    loaded = load_model(str(save_adapter(tiny_folder, tmp_path / "tuned")))
    for number, plan in enumerate(("0,1.attn,2.bare.mlp*0.5,3", "0,1.bare,2.attn*2,3")):
        folder = export_model(loaded, plan, tmp_path / f"new-{number}")
        saved, ids = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), torch.arange(20)[None]
        with torch.inference_mode():
            found, expected = saved(ids).logits, operate(loaded.model, plan)(ids).logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

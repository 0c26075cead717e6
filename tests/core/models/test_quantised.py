"""Surgery on quantised layers: right with the libraries that people use, or refused with the reason."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.layer_by_layer import ByHand
from surgery_core.proof.preflight import fingerprint, preflight, prove
from surgery_core.surgery.anatomy import is_quantised
from surgery_core.surgery.view import operate
from tests.core.support.families import build, greedy, left_padded, tokens


def torchao_int8(model: Any) -> None:
    """Replace weights by torchao's int8 tensors."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(model, Int8WeightOnlyConfig())


def torchao_dynamic(model: Any) -> None:
    """Quantise activations too, by the largest of all that are computed together."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(model, Int8DynamicActivationInt8WeightConfig())


def bitsandbytes_8bit(model: Any) -> None:
    """Replace linear layers by bitsandbytes' 8-bit ones."""
    import bitsandbytes

    def made(old: nn.Linear) -> nn.Module:
        new = bitsandbytes.nn.Linear8bitLt(
            old.in_features, old.out_features, bias=old.bias is not None, has_fp16_weights=False
        )
        new.weight = bitsandbytes.nn.Int8Params(old.weight.clone(), requires_grad=False, has_fp16_weights=False)
        return new

    _replace(model, made)


def bitsandbytes_4bit(model: Any) -> None:
    """Replace linear layers by bitsandbytes' NF4 ones."""
    import bitsandbytes

    def made(old: nn.Linear) -> nn.Module:
        new = bitsandbytes.nn.Linear4bit(
            old.in_features, old.out_features, bias=old.bias is not None, compute_dtype=torch.float32, quant_type="nf4"
        )
        new.weight = bitsandbytes.nn.Params4bit(old.weight.clone(), requires_grad=False, quant_type="nf4")
        return new

    _replace(model, made)


def _replace(model: Any, made: Any) -> None:
    for layer in model.model.layers:
        for parent in list(layer.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is nn.Linear:
                    setattr(parent, name, made(child))
    model.to("cpu")


WORKING = (torchao_int8, bitsandbytes_8bit, bitsandbytes_4bit)


def quantised(how: Any) -> Any:
    model = build("llama")
    how(model)
    assert is_quantised(model)
    return model


def reordered(model: Any, order: list[int]) -> Any:
    """Return a copy with its own layer objects in this order, with new cache indices."""
    copied = copy.deepcopy(model)
    copied.model.layers = nn.ModuleList(copy.deepcopy(model.model.layers[index]) for index in order)
    copied.config.num_hidden_layers = len(order)
    for at, layer in enumerate(copied.model.layers):
        layer.self_attn.layer_idx = at
    return copied


@pytest.mark.parametrize("how", WORKING)
@pytest.mark.parametrize("order", [[1, 2, 3], [3, 2, 1, 0], [0, 1, 1, 2]])
def test_views_of_quantised_models_equal_copies_with_their_layers_in_that_order(how: Any, order: list[int]) -> None:
    base = quantised(how)
    view, expected = operate(base, LayerPlan.identity(4).permute(order)), reordered(base, order)
    assert torch.equal(view(tokens(2)).logits, expected(tokens(2)).logits)
    assert torch.equal(greedy(view, left_padded(), 6), greedy(expected, left_padded(), 6, use_cache=False))


@pytest.mark.parametrize("how", WORKING)
def test_halves_scales_and_parallel_layers_of_quantised_models_are_proved(how: Any) -> None:
    base = quantised(how)
    assert prove(base, None, "0.attn,1*0.5,(2|3.mlp)").passed
    batch = {"input_ids": tokens(2), "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    plan = LayerPlan.parse("3,1*0.5", 4)
    torch.testing.assert_close(
        operate(base, plan)(**batch).logits, ByHand(base, batch).logits(plan), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("how", WORKING)
def test_preflight_passes_and_says_that_no_copy_was_saved(how: Any) -> None:
    base = quantised(how)
    before = fingerprint(base)
    report = preflight(base)
    assert report.passed, report.reason
    assert [check.detail for check in report.checks if not check.tried] == [
        "Not tried: quantised models are not exported."
    ]
    assert fingerprint(base) == before


def test_the_fingerprint_sees_a_changed_quantised_weight() -> None:
    base = quantised(torchao_int8)
    before = fingerprint(base)
    base.model.layers[2].mlp.down_proj.weight.qdata[0, 0] += 1
    assert fingerprint(base) != before


@pytest.mark.parametrize("how", [torchao_dynamic])
def test_where_other_tokens_change_a_tokens_numbers_the_plan_is_refused(how: Any) -> None:
    """With activations quantised by their common largest value, a cache cannot give what a whole run gives."""
    with pytest.raises(RefusedPlanError, match="cannot be trusted on a LlamaForCausalLM"):
        prove(quantised(how), None, "3-0")

"""A model without its weights: its form, its ties and its plans are the model's own, and it can be sent."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

import surgery_core as sc
from surgery_core.errors import PlanError
from surgery_core.models.skeleton import without_weights
from surgery_core.surgery.view import check_plan
from tests.core.support.families import FAMILIES, build
from tests.tiny import build_model


def sent(model: Any) -> Any:
    """Return what comes out at the other end."""
    return pickle.loads(pickle.dumps(without_weights(model)))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_has_the_form_of_the_model_and_no_numbers(family: str) -> None:
    model = build(family)
    found = sent(model)
    tensors = [*found.parameters(), *found.buffers()]
    assert {one.device.type for one in tensors} <= {"meta"}
    own, other = ({name: (one.shape, one.dtype) for name, one in of.named_parameters()} for of in (model, found))
    assert own == other
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (found.get_output_embeddings().weight is found.get_input_embeddings().weight) == tied
    assert all(one.device.type == "cpu" for one in model.parameters()), "the model itself stays as it is"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("layers", "vocab"), [(1, 131), (2, 262_144), (126, 131)])
def test_plans_are_checked_on_it_as_on_the_model(dtype: torch.dtype, layers: int, vocab: int) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(num_hidden_layers=layers, vocab_size=vocab, **shape)
    found = sent(LlamaForCausalLM(config).eval().to(dtype))
    assert {one.dtype for one in found.parameters()} == {dtype}
    assert len(pickle.dumps(found)) < 2_000_000
    plan = sc.LayerPlan.parse(f"{layers - 1},0", layers)
    check_plan(found, plan)
    assert len(sc.operate(found, plan).model.layers) == 2


def test_what_the_model_refuses_is_refused() -> None:
    model = build_model("gemma3")
    for one in (model, sent(model)):
        with pytest.raises(PlanError, match="No other model is loaded as 'other'"):
            check_plan(one, sc.LayerPlan.parse("0,other:1", 4))

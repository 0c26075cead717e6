"""Which lists of a config have an entry a layer: seen by making every config class at several depths."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from surgery_core.surgery.config import config_changes, fixed_properties
from surgery_core.surgery.saving import save_view
from surgery_core.surgery.view import operate
from tests.core.support import zoo

DEPTHS = (2, 4, 12, 32)
FAILURES = (
    NotImplementedError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ImportError,
    StrictDataclassError,
    ZeroDivisionError,
)


@cache
def made(model_type: str) -> dict[int, Any]:
    """Return text configs of a type by their depth, as far as its class makes them."""
    found = {}
    for depth in DEPTHS:
        for name in zoo.DEPTHS:
            try:
                cls = type(CONFIG_MAPPING[model_type]().get_text_config(decoder=True))
                config = cls(**{name: depth})
            except FAILURES:
                continue
            if getattr(config, name, None) == depth and name in config.__dict__:
                found[depth] = config
                break
    return found


def lists(config: Any) -> dict[str, int]:
    return {name: len(value) for name, value in config.__dict__.items() if type(value) in (list, tuple)}


@pytest.mark.parametrize("model_type", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
def test_lists_that_grow_with_the_depth_follow_the_plan_and_no_others(model_type: str) -> None:
    configs = made(model_type)
    if len(configs) < 2:
        pytest.skip("this class makes no config of a given depth")
    for depth, config in configs.items():
        growing = {
            name
            for name, length in lists(config).items()
            if length == depth and all(lists(other).get(name) == at for at, other in configs.items())
        }
        order = [1, 0, *range(2, depth), depth - 1]
        changes = config_changes(config, order, depth)
        changed = {name for name, value in changes.items() if type(value) in (list, tuple)}
        fixed = {name for name, value in lists(config).items() if name not in growing and value == depth}
        # lists of indices name every layer or a few by default; both follow. Zamba and Nemotron-H document one block
        # type a layer, and make too many or always the same for a depth that is not their own
        indices = {name for name in fixed if name.endswith(("_layers", "_layer_ids", "layers_block_type"))}
        assert growing <= changed, f"{growing - changed} at depth {depth}"
        assert not (changed & (fixed - indices)), f"{changed & fixed} at depth {depth}"
        cls = fixed_properties(config, order, depth)
        assert issubclass(cls, type(config))


def test_multipliers_of_falcon_h1_stay_what_they_are_and_a_saved_view_is_the_same(tmp_path: Any) -> None:
    """With two layers, as many as it has multipliers of an MLP."""
    base = zoo.try_build("falcon_h1")
    settings = base.config.to_dict() | {"num_hidden_layers": 2, "mlp_multipliers": [0.5, 2.0]}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(type(base.config).from_dict(settings)).eval().requires_grad_(False)
    view = operate(model, "1,0")
    assert list(view.config.mlp_multipliers) == [0.5, 2.0]
    assert list(operate(model, "1").config.mlp_multipliers) == [0.5, 2.0]
    save_view(view, tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(3, 12)[None]
    with torch.inference_mode():
        torch.testing.assert_close(saved(ids).logits, view(ids).logits, atol=1e-6, rtol=1e-5)

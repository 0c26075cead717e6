"""mergekit's files, out and in. What a merge means is written down here: slices are concatenated, filters multiply."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from surgery_core.errors import PlanError, RefusedPlanError
from surgery_core.keeping.mergekit import from_mergekit, to_mergekit
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.view import operate
from tests.core.support.adapters import save_adapter
from tests.tiny import build_model, build_tokenizer


def opened(family: str, folder: Path) -> LoadedModel:
    build_model(family).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return load_model(str(folder), device="cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return opened("llama", tmp_path_factory.mktemp("llama"))


def merged(text: str, prefix: str = "model.layers") -> Any:
    """Do what `mergekit-yaml` does with a passthrough merge, in plain transformers."""
    content, layers = yaml.safe_load(text), []
    model: Any = None
    for part in content["slices"]:
        (source,) = part["sources"]
        model = AutoModelForCausalLM.from_pretrained(source["model"], dtype=torch.float32).eval()
        filters = source.get("parameters", {}).get("scale", [])
        for index in range(*source["layer_range"]):
            layer = model.get_submodule(f"{prefix}.{index}")
            for name, tensor in layer.named_parameters():
                scale = next((one["value"] for one in filters if one.get("filter", "") in name), 1.0)
                tensor.data = tensor.data.clone() * scale
            layers.append(layer)
        layers = [*layers]
    owner, _, name = prefix.rpartition(".")
    for place, layer in enumerate(layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place
    setattr(model.get_submodule(owner), name, torch.nn.ModuleList(layers))
    model.config.num_hidden_layers = len(layers)
    return model


@pytest.mark.parametrize(
    "plan", ["0-3", "0,2-3", "0-2,1-3", "3,1", "0,1.attn,2.mlp*0.5,3", "0,2*0,3", "1.attn*0.5,1.mlp*0.5"]
)
def test_out_means_the_same_model(llama: LoadedModel, plan: str) -> None:
    text, ids = to_mergekit(llama, LayerPlan.parse(plan, 4)), torch.arange(12)[None]
    with torch.inference_mode():
        found, expected = merged(text)(ids, use_cache=False).logits, operate(llama.model, plan)(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_file_as_mergekit_has_it(llama: LoadedModel) -> None:
    content = yaml.safe_load(to_mergekit(llama, LayerPlan.parse("0-2,2,3.attn*0.5", 4)))
    assert content["merge_method"] == "passthrough"
    name = llama.info.name
    assert content["slices"] == [
        {"sources": [{"model": name, "layer_range": [0, 3]}]},
        {"sources": [{"model": name, "layer_range": [2, 3]}]},
        {
            "sources": [
                {
                    "model": name,
                    "layer_range": [3, 4],
                    "parameters": {
                        "scale": [
                            {"filter": "mlp.down_proj", "value": 0.0},
                            {"filter": "self_attn.o_proj", "value": 0.5},
                            {"value": 1.0},
                        ]
                    },
                }
            ]
        },
    ]


@pytest.mark.parametrize(
    "plan", ["0-3", "0,2-3", "0-2,1-3", "3-0", "0,1.attn,2.mlp*0.5,3", "0,2*0,3", "1.attn*0.5,1.mlp*0.25"]
)
def test_what_went_out_comes_in(llama: LoadedModel, plan: str) -> None:
    parsed = LayerPlan.parse(plan, 4)
    assert from_mergekit(to_mergekit(llama, parsed), llama) == parsed


def test_a_layer_whose_halves_read_the_same_has_one_factor(tmp_path: Path) -> None:
    neox = opened("gpt_neox", tmp_path)
    parsed = LayerPlan.parse("0,1*0.5,2", 4)
    assert from_mergekit(to_mergekit(neox, parsed), neox) == parsed


def file(name: str, **changes: Any) -> str:
    source = {"model": name, "layer_range": [0, 2]} | changes.pop("source", {})
    return yaml.safe_dump({"merge_method": "passthrough", "slices": [{"sources": [source]}]} | changes)


def test_both_halves_scaled_in_turn_are_two_slots(llama: LoadedModel) -> None:
    scale = [{"filter": "o_proj", "value": 0.5}, {"filter": "down_proj", "value": 0.25}, {"value": 1}]
    text = file(llama.info.name, source={"layer_range": [1, 2], "parameters": {"scale": scale}})
    plan = from_mergekit(text, llama)
    assert plan == LayerPlan.parse("1.attn*0.5,1.mlp*0.25", 4)
    ids = torch.arange(9)[None]
    with torch.inference_mode():
        torch.testing.assert_close(
            merged(text)(ids, use_cache=False).logits, operate(llama.model, plan)(ids).logits, rtol=1e-4, atol=1e-4
        )


def test_layers_of_another_open_model(llama: LoadedModel, tmp_path: Path) -> None:
    other = opened("llama", tmp_path / "other")
    text = f"merge_method: passthrough\nslices:\n- sources:\n  - {{model: {llama.info.name}, layer_range: [0, 1]}}\n"
    text += f"- sources:\n  - {{model: {other.info.name}, layer_range: [1, 3]}}\n"
    plan = from_mergekit(text, llama, [other])
    assert [(slot.layers[0].donor, slot.layers[0].index) for slot in plan] == [
        (None, 0), (other.info.name, 1), (other.info.name, 2),
    ]  # fmt: skip
    assert from_mergekit(to_mergekit(llama, plan), llama, [other]) == plan


def test_one_whole_model(llama: LoadedModel) -> None:
    text = yaml.safe_dump({"merge_method": "passthrough", "models": [{"model": llama.info.name}], "dtype": "bfloat16"})
    assert from_mergekit(text, llama).is_identity


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("merge_method: slerp\nslices: []", "The merge is by 'slerp'; only passthrough"),
        ("merge_method: passthrough", "either slices or models"),
        ("merge_method: passthrough\nslices: []\nlora: x", "'lora', which a plan cannot say"),
        ("merge_method: passthrough\nslices: 3", "no list of slices"),
        ("merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 1]}, {model: b}]}]", "no single source"),
        ("merge_method: passthrough\nslices: [{sources: [{model: other/one, layer_range: [0, 1]}]}]", "'other/one', which is not open"),
        ("[1, 2]", "no merge of mergekit"),
        ("a: [", "not valid YAML at line"),
        (BOMB, "anchors or aliases"),
        ("x" * 100_001, "larger than 100,000 bytes"),
        ("!!python/object/apply:os.system [echo]", "not valid YAML"),
        ("[" * 5000, "nested more than 32 levels|not valid YAML"),
    ],
)  # fmt: skip
def test_what_is_no_plan_is_refused_by_name(llama: LoadedModel, text: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        from_mergekit(text, llama)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"layer_range": [0, 9]}, r"layer_range of .* is \[0, 9\]"),
        ({"layer_range": [2, 2]}, "layer_range"),
        ({"layer_range": [0, True]}, "layer_range"),
        ({"parameters": {"weight": 1}}, "parameter 'weight'|parameter weight"),
        ({"parameters": {"scale": 0.5}}, "all weights by 0.5"),
        ({"parameters": {"scale": [{"filter": "q_proj", "value": 0.5}]}}, "scales 'q_proj'"),
        ({"parameters": {"scale": [{"filter": "o_proj", "value": "much"}]}}, "scaled by 'much'"),
        ({"lora": 1}, "has 'lora'"),
    ],
)
def test_a_slice_that_is_no_layers_is_refused(llama: LoadedModel, source: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        from_mergekit(file(llama.info.name, source=source), llama)


@pytest.mark.parametrize(
    ("plan", "said"),
    [("", "at least one layer"), ("0,(1|2)", r"\(1\|2\)"), ("mean(1)", r"mean\(1\)"), ("0,1*0.5", "the MLP of a")],
)
def test_what_mergekit_cannot_say_is_refused(llama: LoadedModel, plan: str, said: str) -> None:
    with pytest.raises(RefusedPlanError, match=said):
        to_mergekit(llama, LayerPlan.parse(plan, 4))


def test_a_norm_that_counts_from_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedPlanError, match="counts from one"):
        to_mergekit(opened("gemma2", tmp_path), LayerPlan.parse("0,1.attn,2-3", 4))


def test_a_config_that_lists_its_layers_is_refused_where_the_list_would_change(tmp_path: Path) -> None:
    qwen = opened("qwen3", tmp_path)
    assert "[0, 4]" in to_mergekit(qwen, LayerPlan.parse("0-3", 4))
    with pytest.raises(RefusedPlanError, match="whose layer_types has an entry for each layer"):
        to_mergekit(qwen, LayerPlan.parse("0,2-3", 4))


def test_an_adapter_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    loaded = load_model(str(save_adapter(tiny_folder, tmp_path / "tuned")))
    with pytest.raises(RefusedPlanError, match="mergekit cannot say an adapter"):
        to_mergekit(loaded, LayerPlan.parse("0,2", 4))


REAL = os.environ.get("MODEL_SURGERY_MERGEKIT", "")
"""A Python that has mergekit installed, in an environment of its own."""


@pytest.mark.skipif(not REAL, reason="MODEL_SURGERY_MERGEKIT names no Python that has mergekit")
@pytest.mark.parametrize(("family", "plan"), [
    ("llama", "0,2-3,1x2"), ("llama", "0,1.attn,2.mlp*0.5,3"), ("llama", "0,2*0,1.attn*0.5,1.mlp*0.25"),
    ("qwen3", "0,1.attn,2.mlp*0.5,3"),
])  # fmt: skip
def test_the_real_mergekit_makes_the_same_model(family: str, plan: str, tmp_path: Path) -> None:
    base = opened(family, tmp_path / "base")
    (tmp_path / "merge.yaml").write_text(to_mergekit(base, LayerPlan.parse(plan, 4)), encoding="utf-8")
    call = [REAL, "-c", "from mergekit.scripts.run_yaml import main; main()", "merge.yaml", "merged"]
    subprocess.run(call, cwd=tmp_path, check=True, capture_output=True)
    merged_model, ids = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32),
        torch.arange(12)[None],
    )
    with torch.inference_mode():
        found, expected = merged_model.eval()(ids).logits, operate(base.model, plan)(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

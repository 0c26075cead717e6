"""Plans on a model with an adapter: proved, checked beforehand, read through lenses, and exported as merged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import surgery_core as sc
from surgery_core.cli.options import main
from surgery_core.errors import RefusedPlanError
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.proof.export import export_model
from surgery_core.proof.preflight import preflight, prove
from surgery_core.surgery import adapters, behaviours
from surgery_core.surgery.view import operate
from tests.core.support.adapters import base_model, logits, merged_by_hand, peft_model, save_adapter
from tests.tiny import build_model, build_tokenizer

CASES: dict[str, dict[str, Any]] = {
    "all": {},
    "DoRA in some layers": {"use_dora": True, "layers_to_transform": [0, 2]},
    "around too": {"modules_to_save": ["lm_head", "embed_tokens"], "target_modules": ["q_proj", "down_proj"]},
    "the head": {"target_modules": ["lm_head", "v_proj"]},
}


@pytest.fixture(scope="module", params=CASES)
def loaded(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("adapter") / "tuned"
    return load_model(str(save_adapter(tiny_folder, folder, **CASES[request.param])))


def test_preflight_passes_and_says_that_the_base_is_there_to_the_bit(loaded: LoadedModel) -> None:
    report = preflight(loaded.model, loaded.tokenizer)
    assert report.passed, report.reason
    found = {check.key: check for check in report.checks}
    assert found["adapter"].tried
    assert "equal to the bit" in found["adapter"].detail
    assert found["reload"].tried


def test_a_model_in_pefts_wrapper_passes_as_well(tiny_folder: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    mine = peft_model(tiny_folder, save_adapter(tiny_folder, tmp_path / "tuned"))
    report = preflight(mine, tiny_tokenizer)
    assert report.passed, report.reason
    assert {check.key for check in report.checks if check.tried} >= {"reload", "adapter", "lens"}


def test_a_model_without_an_adapter_has_no_such_check(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    assert "adapter" not in {check.key for check in preflight(tiny_llama, tiny_tokenizer).checks}


@pytest.mark.parametrize(
    "plan", ["(0-3).bare", "0,1.bare,3", "0.bare.attn,(1|2.bare),3*0.5", "3.barex2,0", "1.bare", "0-3", "(0-3)x2"]
)
def test_plans_are_proved(plan: str, loaded: LoadedModel) -> None:
    assert prove(loaded.model, loaded.tokenizer, plan).passed


def test_a_view_that_keeps_an_adapter_is_not_proved(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behaviours, "take_off", lambda layer: None)
    with pytest.raises(RefusedPlanError, match="cannot be trusted"):
        prove(loaded.model, loaded.tokenizer, "(0-3).bare,0")


def test_preflight_sees_an_adapter_that_stays(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behaviours, "take_off", lambda layer: None)
    report = preflight(loaded.model, loaded.tokenizer)
    assert [check.key for check in report.checks if not check.passed] == ["adapter"]


@pytest.mark.parametrize("plan", ["0-3", "0.bare,1,2.bare,3", "(0-3).bare", "3,1.barex2,0"])
def test_an_export_is_a_plain_checkpoint_of_what_the_view_computes(
    plan: str, loaded: LoadedModel, tmp_path: Path
) -> None:
    expected = logits(operate(loaded.model, plan))
    folder = export_model(loaded, plan, tmp_path / "merged")
    assert not (folder / "adapter_config.json").exists()
    saved = AutoModelForCausalLM.from_pretrained(folder)
    assert type(saved).__name__ == "LlamaForCausalLM"
    assert not adapters.has_adapter(saved)
    torch.testing.assert_close(logits(saved), expected, rtol=1e-3, atol=1e-4)
    assert load_model(str(folder)).info.adapter is None


def test_an_export_without_the_adapter_holds_the_bases_weights_to_the_bit(
    loaded: LoadedModel, tiny_folder: Path, tmp_path: Path
) -> None:
    found = load_file(export_model(loaded, "(0-3).bare", tmp_path / "merged") / "model.safetensors")
    own = base_model(tiny_folder).state_dict()
    assert found.keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.items())


def test_an_export_merges_as_by_hand_and_leaves_the_open_model_as_it_was(tiny_folder: Path, tmp_path: Path) -> None:
    folder = save_adapter(tiny_folder, tmp_path / "tuned")
    loaded = load_model(str(folder))
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    found = load_file(export_model(loaded, "0,1.bare,2-3", tmp_path / "merged") / "model.safetensors")
    expected = merged_by_hand(tiny_folder, folder, [0, 2, 3], lambda rank: 8 / rank).state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    after = loaded.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert torch.equal(logits(loaded.model), logits(peft_model(tiny_folder, folder)))


def test_what_merging_tears_apart_is_no_longer_tied(tmp_path: Path) -> None:
    build_model("llama", tie_word_embeddings=True).save_pretrained(tmp_path / "tied")
    build_tokenizer().save_pretrained(tmp_path / "tied")
    for targets in (["embed_tokens", "q_proj"], ["lm_head", "q_proj"]):
        folder = save_adapter(tmp_path / "tied", tmp_path / targets[0], target_modules=targets)
        loaded = load_model(str(folder))
        assert torch.equal(logits(loaded.model), logits(peft_model(tmp_path / "tied", folder)))
        expected = logits(operate(loaded.model, "0-3"))
        saved = AutoModelForCausalLM.from_pretrained(export_model(loaded, "0-3", tmp_path / f"m{targets[0]}"))
        torch.testing.assert_close(logits(saved), expected, rtol=1e-3, atol=1e-4)
        again = export_model(loaded, "(0-3).bare", tmp_path / f"b{targets[0]}")
        assert "lm_head.weight" not in load_file(again / "model.safetensors")


def test_an_export_in_bfloat16_keeps_what_was_not_adapted(tmp_path: Path) -> None:
    build_model("llama").bfloat16().save_pretrained(tmp_path / "half")
    build_tokenizer().save_pretrained(tmp_path / "half")
    folder = save_adapter(tmp_path / "half", tmp_path / "tuned", target_modules=["q_proj"])
    loaded = load_model(str(folder), device="cpu")
    found = load_file(export_model(loaded, "0-2,3.bare", tmp_path / "merged") / "model.safetensors")
    # nothing is rounded: merged weights need more digits than the checkpoint's format has
    wide = {name for name, tensor in found.items() if tensor.dtype == torch.float32}
    assert wide == {f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(3)}
    again = export_model(loaded, "0-3", tmp_path / "rounded", dtype="bfloat16")
    assert {tensor.dtype for tensor in load_file(again / "model.safetensors").values()} == {torch.bfloat16}


def test_a_bias_that_the_bases_class_has_no_place_for_is_not_exported(tiny_folder: Path, tmp_path: Path) -> None:
    loaded = load_model(str(save_adapter(tiny_folder, tmp_path / "tuned", lora_bias=True)))
    with pytest.raises(RefusedPlanError, match="cannot be saved with this plan"):
        export_model(loaded, "0-3", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    export_model(loaded, "(0-3).bare", tmp_path / "bare")


def test_an_adapter_that_its_format_cannot_hold_is_not_merged(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(str(save_adapter(tiny_folder, tmp_path / "tuned")))
    monkeypatch.setattr("surgery_core.proof.folding.tolerance", lambda model: 0.0)
    with pytest.raises(
        RefusedPlanError, match=r"cannot be merged in torch.float32: .*; open the model with dtype float32"
    ):
        export_model(loaded, "0-3", tmp_path / "merged", unproved=True)


def test_the_command_line_exports_merged_weights(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_adapter(tiny_folder, tmp_path / "tuned")
    assert main(["export", "--model", str(folder), "--plan", "0-2,3.bare", "--to", str(tmp_path / "new")]) == 0
    expected = merged_by_hand(tiny_folder, folder, [0, 1, 2], lambda rank: 8 / rank)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    torch.testing.assert_close(logits(saved), logits(expected), rtol=1e-3, atol=1e-4)
    capsys.readouterr()
    assert main(["info", "--model", str(folder)]) == 0
    facts = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert (facts["adapter name"].strip(), facts["adapter ranks"].strip()) == ("tuned", "4")
    assert "q_proj" in facts["adapter modules"]


def test_a_recipe_holds_and_runs_such_a_plan(tiny_folder: Path, tmp_path: Path) -> None:
    folder = save_adapter(tiny_folder, tmp_path / "tuned")
    sc.Recipe(model=str(folder), plan="0,(1-2).bare,3", prompts=()).dump(tmp_path / "recipe.toml")
    recipe = sc.Recipe.load(tmp_path / "recipe.toml")
    assert recipe.plan == "0,(1-2).bare,3"
    report = sc.run_recipe(recipe)
    merged = merged_by_hand(tiny_folder, folder, [0, 3], lambda rank: 8 / rank)
    expected = sc.score(merged, load_model(str(folder)).tokenizer, sc.bundled_texts())
    assert report.comparison.operated.perplexity == pytest.approx(expected.perplexity, rel=1e-4)


def test_lenses_read_the_view_without_an_adapter(loaded: LoadedModel, tiny_folder: Path) -> None:
    text, base = "Once upon a time", base_model(tiny_folder)
    view = operate(loaded.model, "(0-3).bare")
    found = sc.read_lens(sc.LogitLens(view), view, loaded.tokenizer, text).frame()
    expected = sc.read_lens(sc.LogitLens(base), base, loaded.tokenizer, text).frame()
    numbers = expected.select_dtypes("number").columns
    assert found[numbers].to_numpy() == pytest.approx(expected[numbers].to_numpy(), abs=1e-4, nan_ok=True)
    own = sc.read_lens(sc.LogitLens(loaded.model), loaded.model, loaded.tokenizer, text).frame()
    assert own[numbers].to_numpy() != pytest.approx(expected[numbers].to_numpy(), abs=1e-3, nan_ok=True)


def test_generated_text_is_that_of_the_base(loaded: LoadedModel, tiny_folder: Path) -> None:
    settings = sc.GenerationSettings(max_new_tokens=12)
    written = [
        "".join(sc.generate(model, loaded.tokenizer, "Once", settings))
        for model in (operate(loaded.model, "(0-3).bare"), base_model(tiny_folder))
    ]
    assert written[0] == written[1]

"""An exported model is an ordinary checkpoint that computes what the view computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from surgery_core.errors import InputError, RefusedPlanError, SettingsError
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.proof.export import export_model
from surgery_core.surgery.view import operate
from tests.tiny import build_model, build_tokenizer


def loaded_model(family: str, folder: Path, **changes: object) -> LoadedModel:
    build_model(family, **changes).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return load_model(str(folder))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2", "opt", "bloom", "phi", "qwen3"])
@pytest.mark.parametrize("plan", ["0,2,1x3", "3,2"])
def test_plain_transformers_opens_the_same_model(family: str, plan: str, tmp_path: Path) -> None:
    base = loaded_model(family, tmp_path / "base")
    folder = export_model(base, plan, tmp_path / "new")
    saved = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([base.tokenizer("The old woman had a cat.").input_ids])
    torch.testing.assert_close(saved(ids).logits, operate(base.model, plan)(ids).logits)


def test_repeated_layers_are_stored_apart_and_tied_embeddings_once(tmp_path: Path) -> None:
    base = loaded_model("llama", tmp_path / "base", tie_word_embeddings=True)
    export_model(base, "1x3", tmp_path / "new")
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    assert "lm_head.weight" not in tensors
    layers = {key.split(".")[2] for key in tensors if ".layers." in key}
    assert layers == {"0", "1", "2"}
    assert torch.equal(tensors["model.layers.0.mlp.up_proj.weight"], tensors["model.layers.2.mlp.up_proj.weight"])
    assert json.loads((tmp_path / "new" / "config.json").read_text())["num_hidden_layers"] == 3


def in_half(folder: Path, *, norms: torch.dtype = torch.bfloat16, **changes: object) -> LoadedModel:
    """Return a model that is stored in bfloat16 and runs in float32."""
    model = build_model("llama", **changes).bfloat16()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data = (torch.rand(parameter.shape) + 0.5).to(norms)
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return load_model(str(folder), device="cpu")


def formats(folder: Path) -> dict[str, torch.dtype]:
    return {name: tensor.dtype for name, tensor in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize("tied", [False, True])
def test_the_checkpoints_number_format_is_kept_without_rounding(tmp_path: Path, tied: bool) -> None:
    base = in_half(tmp_path / "base", tie_word_embeddings=tied)
    assert (base.info.dtype, base.info.stored_as) == ("float32", "bfloat16")
    folder = export_model(base, "0,1x2,3", tmp_path / "new")
    assert set(formats(folder).values()) == {torch.bfloat16}
    assert ("lm_head.weight" in formats(folder)) is not tied
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert "stored in bfloat16" in (folder / "README.md").read_text()
    again, ids = load_model(str(folder), device="cpu"), torch.arange(20)[None]
    assert torch.equal(again.model(ids).logits, operate(base.model, "0,1x2,3")(ids).logits)
    assert (again.info.dtype, again.info.stored_as) == ("float32", "bfloat16")
    assert {tensor.dtype for tensor in base.model.state_dict().values()} == {torch.float32}


def test_what_the_checkpoint_keeps_in_a_wider_format_stays_in_it(tmp_path: Path) -> None:
    base = in_half(tmp_path / "base", norms=torch.float32)
    found = formats(export_model(base, "0-2", tmp_path / "new"))
    assert {found[name] for name in found if "norm" in name} == {torch.float32}
    assert {found[name] for name in found if "norm" not in name} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_number_format_can_be_asked_for(tmp_path: Path, dtype: str) -> None:
    base = loaded_model("llama", tmp_path / "base")
    folder = export_model(base, "0,2", tmp_path / "new", dtype=dtype)
    assert set(formats(folder).values()) == {getattr(torch, dtype)}
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype
    half = operate(base.model, "0,2").state_dict()["model.layers.1.mlp.up_proj.weight"].to(getattr(torch, dtype))
    assert torch.equal(load_file(folder / "model.safetensors")["model.layers.1.mlp.up_proj.weight"], half)


def test_a_model_that_was_opened_in_half_precision_is_stored_in_it(tmp_path: Path) -> None:
    loaded_model("llama", tmp_path / "base")
    base = load_model(str(tmp_path / "base"), dtype="bfloat16")
    assert set(formats(export_model(base, "0,2", tmp_path / "new")).values()) == {torch.bfloat16}


def test_an_unknown_number_format_is_named(tmp_path: Path) -> None:
    base = loaded_model("llama", tmp_path / "base")
    with pytest.raises(SettingsError, match="'int8' is not a number format"):
        export_model(base, "0", tmp_path / "new", dtype="int8")
    assert not (tmp_path / "new").exists()


def test_the_base_and_its_views_keep_their_tensors(tmp_path: Path) -> None:
    base = loaded_model("llama", tmp_path / "base")
    view = operate(base.model, "1x3")
    before = {name: tensor.data_ptr() for name, tensor in base.model.state_dict().items()}
    export_model(base, "1x3", tmp_path / "new")
    assert {name: tensor.data_ptr() for name, tensor in base.model.state_dict().items()} == before
    assert view.model.layers[0].mlp.up_proj.weight is base.model.model.layers[1].mlp.up_proj.weight


def test_it_opens_by_name_with_a_card_that_says_what_it_is(tmp_path: Path) -> None:
    base = loaded_model("llama", tmp_path / "base")
    info = load_model(str(export_model(base, "0-2", tmp_path / "new"))).info
    assert info.n_layers == 3
    assert info.title == "base, operated"
    card = (tmp_path / "new" / "README.md").read_text()
    assert "`0-2`" in card
    assert base.info.revision in card


@pytest.mark.parametrize(("plan", "named"), [("0*0.5,1", r"0\*0\.5"), ("0,(1|2)", r"\(1\|2\)"), ("", "at least one")])
def test_what_a_checkpoint_cannot_hold_is_refused(plan: str, named: str, tmp_path: Path) -> None:
    base = loaded_model("llama", tmp_path / "base")
    with pytest.raises(RefusedPlanError, match=named):
        export_model(base, plan, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    base = loaded_model("llama", tmp_path / "base")
    with pytest.raises(InputError, match="holds something already"):
        export_model(base, "0", tmp_path / "base")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="holds something already"):
        export_model(base, "0", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    base = loaded_model("llama", tmp_path / "base")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written"):
        export_model(base, "0", tmp_path / "file" / "new")


def test_a_model_that_would_open_as_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = loaded_model("llama", tmp_path / "base")
    monkeypatch.setattr("surgery_core.surgery.saving.AutoModelForCausalLM", _Other(base))
    with pytest.raises(RefusedPlanError, match="would compute something else"):
        export_model(base, "0", tmp_path / "new")
    assert not (tmp_path / "new").exists()


class _Other:
    """Opens the base, whatever was saved."""

    def __init__(self, base: LoadedModel) -> None:
        self.base = base

    def from_pretrained(self, *_: object, **__: object) -> torch.nn.Module:
        return self.base.model

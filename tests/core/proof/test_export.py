"""An exported model is an ordinary checkpoint that computes what the view computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from surgery_core.errors import InputError, RefusedPlanError
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


@pytest.mark.parametrize(("plan", "named"), [("0*0.5,1", r"0\*0\.5"), ("0,1.mlp", r"1\.mlp"), ("", "at least one")])
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

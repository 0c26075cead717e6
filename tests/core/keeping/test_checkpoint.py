"""Exported checkpoints with their cards: read by transformers, the hub's own library and zipfile."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from surgery_core.cli.options import main
from surgery_core.errors import InputError, ModelError, RefusedPlanError, Stopped
from surgery_core.keeping import checkpoint
from surgery_core.keeping.checkpoint import card, export_checkpoint, push, zipped
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.view import operate
from surgery_core.text import bundled_texts


@pytest.fixture(scope="module")
def base(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder), device="cpu")


def test_the_card_is_one_for_the_hub(base: LoadedModel, tmp_path: Path) -> None:
    folder = export_checkpoint(base, "0,2.mlp,3", tmp_path / "new")
    found = ModelCard.load(folder / "README.md")
    assert found.data.library_name == "transformers"
    assert found.data.tags == ["model-surgery", "layer-surgery"]
    text = found.text
    assert "`0,2.mlp,3`" in text
    assert "3 of 4 layers run. L1 deleted. Changed: L2.mlp." in text
    assert "](plan.png)" in text
    assert (folder / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert "python -m surgery_core export --model" in text
    assert "--plan 0,2.mlp,3 --to FOLDER" in text


def test_the_figures_are_those_of_the_saved_model(tmp_path: Path) -> None:
    folder = export_checkpoint(load_model("fable", device="cpu"), "0-4,6-11", tmp_path / "new")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = bundled_texts()[0]
    ids = torch.tensor([tokenizer(text.text).input_ids])
    assert ids.shape[1] <= model.config.max_position_embeddings
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1].double(), ids[0, 1:])
    line = next(
        line for line in (folder / "README.md").read_text().splitlines() if line.startswith(f"| {text.title} |")
    )
    assert f"{loss.exp().item():.4g}" in line


def test_a_model_of_the_hub_is_named_as_the_base(base: LoadedModel) -> None:
    from dataclasses import replace

    info = replace(base.info, kind="hub", name="org/tiny", revision="abc", licence="apache-2.0")
    data = ModelCard(card(info, LayerPlan.parse("0,2", 4))).data.to_dict()
    assert (data["base_model"], data["base_model_relation"], data["license"]) == ("org/tiny", "merge", "apache-2.0")
    assert "--model org/tiny --revision abc" in card(info, LayerPlan.parse("0,2", 4))
    assert "base_model" not in ModelCard(card(base.info, LayerPlan.parse("0,2", 4))).data.to_dict()


def test_a_plan_that_was_not_proved_does_not_claim_it(base: LoadedModel) -> None:
    text = card(base.info, LayerPlan.parse("0", 4), unproved=True)
    assert "without having to pass its checks" in text
    assert "passed its checks" not in text
    assert "--unproved" in text


def test_a_zip_holds_a_checkpoint(base: LoadedModel, tmp_path: Path) -> None:
    data = zipped(base, LayerPlan.parse("0,2*0,3", 4), 10**9, figures=False)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith("-operated")
    saved, ids = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), torch.arange(9)[None]
    torch.testing.assert_close(saved(ids).logits, operate(base.model, "0,3")(ids).logits)


def test_a_zip_that_would_be_too_large_says_the_command(base: LoadedModel) -> None:
    with pytest.raises(InputError, match=r"can be downloaded here\. On a command line: python -m surgery_core export"):
        zipped(base, LayerPlan.parse("0-3", 4), 10)


def test_nothing_is_left_where_it_is_stopped_or_refused(base: LoadedModel, tmp_path: Path) -> None:
    import threading

    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        export_checkpoint(base, "0,2", tmp_path / "new", stop=stop)
    with pytest.raises(RefusedPlanError, match="cannot hold"):
        export_checkpoint(base, "0,2*0.5", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(base: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "picture_file", full)
    with pytest.raises(InputError, match=r"cannot be written: No space left on device\."):
        export_checkpoint(base, "0,2", tmp_path / "new", figures=False)
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_behind_is_no_hindrance(base: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / ".new.part").mkdir()
    (tmp_path / ".new.part" / "model.safetensors").write_bytes(b"half")
    export_checkpoint(base, "0,2", tmp_path / "new", figures=False)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


class Hub:
    """Takes the place of the hub's client, and keeps what is pushed."""

    endpoint = "https://hub.example"

    def __init__(self, folder: Path) -> None:
        self.folder, self.private = folder, None

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
        self.private = private

    def upload_folder(self, *, repo_id: str, folder_path: Any, commit_message: str) -> object:
        shutil.copytree(folder_path, self.folder / repo_id)
        return object()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(checkpoint, "HfApi", lambda: made)
    return made


def test_the_command_line_pushes_what_it_saved(
    tiny_folder: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(tiny_folder)
    asked = ["export", "--model", "tiny", "--plan", "0,2", "--to", str(tmp_path / "new"), "--no-figures", "--json"]
    assert main([*asked, "--push", "me/small"]) == 0
    assert json.loads(capsys.readouterr().out)["pushed"] == "https://hub.example/me/small"
    assert hub.private is True
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "hub" / "me" / "small")
    assert saved.config.num_hidden_layers == 2


def test_a_name_that_is_no_repository_is_refused_before_anything_is_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--plan", "0", "--to", str(tmp_path / "new"), "--push", "../x"]) == 2
    assert "'../x' is no name of a repository" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_refuses_or_is_out_of_reach_is_a_sentence(
    base: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.core.support.fake_hub import serve

    with serve() as real:
        monkeypatch.setattr(
            checkpoint, "HfApi", lambda: __import__("huggingface_hub").HfApi(endpoint=real.endpoint, token="hf_x")
        )
        with pytest.raises(ModelError, match="me/small"):
            push(tmp_path, "me/small")
    with pytest.raises(ModelError, match="could not be pushed"):
        push(tmp_path, "me/small")

"""Exported checkpoints with their cards: read by transformers, the hub's own library and zipfile."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from surgery_core.errors import InputError, RefusedPlanError, Stopped
from surgery_core.keeping import checkpoint
from surgery_core.keeping.checkpoint import card, export_checkpoint, zipped
from surgery_core.measure.compare import compare
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


@pytest.mark.parametrize("plan", ["0-4,6-11", "0-4,5.mlp*0.5,6-11"])
def test_the_figures_are_those_of_the_saved_model(plan: str, tmp_path: Path) -> None:
    loaded = load_model("fable", device="cpu")
    # what is known of another plan says nothing of weights with factors in them
    compare(loaded.model, operate(loaded.model, "0-11"), loaded.tokenizer, bundled_texts()[:1])
    folder = export_checkpoint(loaded, plan, tmp_path / "new")
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

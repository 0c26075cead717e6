"""Jacobian lenses in files: our folder, the reference's file, and Neuronpedia's collection on a hub of this machine."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from surgery_core.errors import LensError
from surgery_core.lenses.archive import digest_of, pack_lens, unpack_lens
from surgery_core.lenses.jacobian import Jacobians
from surgery_core.lenses.jacobian_files import jacobians_beside, load_jacobians, save_jacobians
from surgery_core.lenses.jacobian_hub import COLLECTION
from surgery_core.lenses.quality import lens_quality
from surgery_core.models.offered import located
from surgery_core.models.opening import load_model
from surgery_core.text import bundled_texts
from tests.core.lenses.test_jacobian_lens import drawn
from tests.core.lenses.test_lens_hub import hub as hub
from tests.core.lenses.test_tuned_lens import Boom
from tests.core.support.fake_hub import FakeHub

ROUNDED = 2.0**-11
"""Largest share by which float16 rounds a value."""


def same(one: Jacobians, other: Jacobians) -> bool:
    return one.layers == other.layers and all(
        torch.allclose(one.matrices[at], other.matrices[at], rtol=ROUNDED, atol=1e-6) for at in one.layers
    )


def test_a_folder_keeps_everything_and_rounds_matrices_to_float16(tmp_path: Path) -> None:
    fitted = drawn(base_model="fable", unembed_hash="abc", plan="0,2-3", change=0.0019)
    read = load_jacobians(save_jacobians(fitted, tmp_path / "lens"))
    said = ("n_texts", "target", "n_layers", "base_model", "unembed_hash", "plan", "change")
    assert [getattr(read, what) for what in said] == [7, 3, 4, "fable", "abc", "0,2-3", 0.0019]
    assert same(read, fitted)
    kept = load_file(tmp_path / "lens" / "jacobians.safetensors")
    assert {name: value.dtype for name, value in kept.items()} == dict.fromkeys(["J.0", "J.1", "J.2"], torch.float16)
    exact = load_jacobians(save_jacobians(fitted, tmp_path / "exact", dtype=torch.float32))
    assert all(torch.equal(exact.matrices[at], fitted.matrices[at]) for at in fitted.layers)
    assert math.isnan(load_jacobians(save_jacobians(drawn(), tmp_path / "other")).change)


def test_the_references_file_is_read(tmp_path: Path) -> None:
    """Written here by torch alone, as its package does."""
    matrices = {layer: torch.randn(8, 8) for layer in range(3)}
    content = {
        "J": {at: m.half() for at, m in matrices.items()},
        "n_prompts": 479,
        "source_layers": [0, 1, 2],
        "d_model": 8,
    }
    torch.save(content, tmp_path / "lens.pt")
    read = load_jacobians(tmp_path / "lens.pt")
    assert (read.n_texts, read.layers, read.d_model, read.target, read.n_layers) == (479, (0, 1, 2), 8, None, None)
    assert all(torch.equal(read.matrices[at], m.half().float()) for at, m in matrices.items())


def test_the_references_file_is_written(tmp_path: Path) -> None:
    save_jacobians(drawn(), tmp_path / "lens.pt")
    content = torch.load(tmp_path / "lens.pt", weights_only=True)
    assert set(content) == {"J", "n_prompts", "source_layers", "d_model"}
    assert (content["n_prompts"], content["source_layers"], content["d_model"]) == (7, [0, 1, 2], 32)
    assert all(torch.equal(content["J"][at], drawn().matrices[at].half()) for at in range(3))
    assert same(load_jacobians(tmp_path / "lens.pt"), drawn())


def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    torch.save({"J": {0: Boom(marker)}, "n_prompts": 1, "d_model": 8}, tmp_path / "one.pt")
    (tmp_path / "two.pt").write_bytes(pickle.dumps(Boom(marker), protocol=2))
    for name in ("one.pt", "two.pt"):
        with pytest.raises(LensError, match="holds more than tensors|damaged"):
            load_jacobians(tmp_path / name)
    assert not marker.exists()


def content(**other: Any) -> dict[str, Any]:
    return {"J": {0: torch.eye(4)}, "n_prompts": 1, "source_layers": [0], "d_model": 4} | other


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"jacobian_sum": {}}, "is no Jacobian lens: it has no matrices J by layer"),
        ([1], "is no Jacobian lens"),
        (content(J={0: torch.eye(5)}), r"layer 0 in .* has the shape \[5, 5\]; expected \[4, 4\]"),
        (content(J={0: torch.full((4, 4), torch.inf)}), "layer 0 in .* has values that are no numbers"),
        (content(J={-1: torch.eye(4)}), "something else than a matrix for layer -1"),
        (content(J={"0": torch.eye(4)}), "something else than a matrix for layer '0'"),
        (content(d_model="wide"), "d_model is 'wide'"),
    ],
)
def test_files_that_are_no_lens_are_refused_in_a_sentence(given: Any, said: str, tmp_path: Path) -> None:
    torch.save(given, tmp_path / "lens.pt")
    with pytest.raises(LensError, match=said):
        load_jacobians(tmp_path / "lens.pt")


def test_broken_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LensError, match="holds no Jacobian lens: it has no config.json"):
        load_jacobians(tmp_path)
    whole = save_jacobians(drawn(), tmp_path / "lens.pt").read_bytes()
    (tmp_path / "lens.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LensError, match="damaged or cut short"):
        load_jacobians(tmp_path / "lens.pt")
    folder = save_jacobians(drawn(), tmp_path / "lens")
    config = json.loads((folder / "config.json").read_text())
    for change, said in (
        ({"lens_type": "linear_tuned_lens"}, "does not say lens_type 'jacobian_lens'"),
        ({"n_texts": "many"}, "says n_texts is 'many'"),
        ({"d_model": 16}, r"has the shape \[32, 32\]; expected \[16, 16\]"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(LensError, match=said):
            load_jacobians(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(LensError, match="not valid JSON"):
        load_jacobians(folder)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"nothing": torch.zeros(1)}, folder / "jacobians.safetensors")
    with pytest.raises(LensError, match="has no matrices"):
        load_jacobians(folder)
    (folder / "jacobians.safetensors").write_bytes(b"no")
    with pytest.raises(LensError, match="damaged or cut short"):
        load_jacobians(folder)


def test_values_that_float16_has_no_room_for_are_said_and_not_written(tmp_path: Path) -> None:
    fitted = Jacobians({0: torch.eye(4) * 1e6}, 1)
    with pytest.raises(LensError, match="layer 0 does not fit into torch.float16; write it in torch.float32"):
        save_jacobians(fitted, tmp_path / "lens")
    assert not (tmp_path / "lens").exists()
    assert load_jacobians(save_jacobians(fitted, tmp_path / "lens", dtype=torch.float32)).matrices[0][0, 0] == 1e6


def test_the_lens_beside_a_checkpoint_is_found(tmp_path: Path) -> None:
    assert jacobians_beside(tmp_path) is None
    save_jacobians(drawn(), tmp_path / "jacobian-lens")
    assert jacobians_beside(tmp_path) == tmp_path / "jacobian-lens"


def test_a_lens_is_one_file_to_download_and_to_open_again() -> None:
    for content, name in ((pack_lens(drawn()), "lens.zip"), (pack_lens(drawn(), pickled=True), "theirs.PT")):
        again = unpack_lens(content, name)
        assert isinstance(again, Jacobians)
        assert same(again, drawn())
    assert digest_of(drawn()) != digest_of(drawn(1)) != digest_of(drawn(1, plan="0-3"))
    with pytest.raises(LensError, match="'broken.pt' is damaged or cut short"):
        unpack_lens(pack_lens(drawn(), pickled=True)[:500], "broken.pt")


@pytest.fixture
def collection(hub: FakeHub, tmp_path: Path) -> Path:
    """Offer lenses as the collection does: a folder of its own naming, with the model's id beside the file."""
    folder = tmp_path / "collection"
    offer(folder, "tiny-it", "Tiny-1B-Instruct_jacobian_lens.pt", "someone/Tiny-1B-Instruct", 1)
    offer(folder, "tiny-other", "Tiny-1B-Instruct_jacobian_lens.pt", "another/Tiny-1B-Instruct", 2)
    offer(folder, "big", "Big_jacobian_lens.pt", None, 3)
    offer(folder, "big", "Big_jacobian_lens_n1000.pt", None, 4)
    hub.repositories[COLLECTION] = folder
    return folder


def offer(folder: Path, slug: str, name: str, model: str | None, seed: int) -> None:
    place = folder / slug / "jlens" / "Salesforce-wikitext"
    place.mkdir(parents=True, exist_ok=True)
    save_jacobians(drawn(seed), place / name)
    if model is not None:
        (place / "config.yaml").write_text(f"# how it was made\nhf_model_name: {model}\nn_prompts: 1000\n")


@pytest.mark.usefixtures("collection")
def test_a_models_lens_is_found_in_the_collection_by_its_whole_id(hub: FakeHub) -> None:
    for model, seed in (("someone/Tiny-1B-Instruct", 1), ("another/tiny-1b-instruct", 2), ("someone/Big", 4)):
        if model == "another/tiny-1b-instruct":
            with pytest.raises(LensError, match="no Jacobian lens for 'another/tiny-1b-instruct' in"):
                load_jacobians(model)
            continue
        found = load_jacobians(model)
        assert same(found, drawn(seed))
        assert found.base_model == model


@pytest.mark.usefixtures("collection")
def test_what_the_collection_has_not_is_said(hub: FakeHub) -> None:
    with pytest.raises(LensError, match="There is no Jacobian lens for 'third/Tiny-1B-Instruct' in 'neuronpedia"):
        load_jacobians("third/Tiny-1B-Instruct")
    with pytest.raises(LensError, match="no Jacobian lens for 'someone/Tiny-1B'"):
        load_jacobians("someone/Tiny-1B")
    hub.repositories.clear()
    with pytest.raises(LensError, match="The hub has no 'neuronpedia/jacobian-lens'"):
        load_jacobians("someone/Big")


@pytest.mark.usefixtures("collection")
def test_a_hub_that_does_not_answer_is_named(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LensError, match="cannot be fetched: the hub did not answer"):
        load_jacobians("someone/Big")


def test_a_pickle_with_code_from_the_hub_is_refused_and_nothing_runs(collection: Path, tmp_path: Path) -> None:
    file = collection / "big" / "jlens" / "Salesforce-wikitext" / "Big_jacobian_lens_n1000.pt"
    torch.save({"J": {0: Boom(tmp_path / "marker")}}, file)
    with pytest.raises(LensError, match="holds more than tensors"):
        load_jacobians("someone/Big")
    assert not (tmp_path / "marker").exists()


def test_fable_comes_with_a_lens_that_was_fitted_to_the_stopping_rule() -> None:
    loaded = load_model("fable")
    folder = jacobians_beside(located(loaded.info.source))
    assert folder is not None
    fitted = load_jacobians(folder)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2_000_000
    assert (fitted.layers, fitted.target, fitted.plan) == (tuple(range(11)), 11, "")
    assert fitted.n_texts >= 100
    assert fitted.change < 2e-3
    quality = lens_quality(loaded.model, loaded.tokenizer, fitted, bundled_texts()[:2])
    assert (quality["jacobian_lens"] < quality["logit_lens"])[9:].all()

"""Lenses from the hub, against a server on this machine that answers like one; and lenses in one file."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from surgery_core.errors import LensError
from surgery_core.lenses.archive import pack_lens, unpack_lens
from surgery_core.lenses.files import load_lens, save_lens
from tests.core.lenses.test_tuned_lens import Boom, random_translators
from tests.core.support.fake_hub import FakeHub, serve
from tests.core.support.families import build

SPACE = "spaces/AlignmentResearch/tuned-lens"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serve() as server:
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("TUNED_LENS_REPO_ID", raising=False)
        monkeypatch.delenv("TUNED_LENS_REPO_TYPE", raising=False)
        server.branches = True
        yield server


@pytest.fixture
def collection(hub: FakeHub, tmp_path: Path) -> Path:
    """Offer a lens for `someone/model` where the tuned-lens library keeps them."""
    folder = tmp_path / "space"
    save_lens(random_translators(), folder / "lens" / "someone" / "model")
    hub.repositories[SPACE] = folder
    return folder / "lens" / "someone" / "model"


def test_the_lens_of_a_model_is_found_in_the_librarys_collection(hub: FakeHub, collection: Path) -> None:
    assert torch.equal(load_lens("someone/model").weights, random_translators().weights)
    assert hub.fetched() == {"config.json", "params.pt"}


def test_a_repository_can_be_a_lens_itself(hub: FakeHub, collection: Path, tmp_path: Path) -> None:
    save_lens(random_translators(5), tmp_path / "own", pickled=False)
    hub.repositories["someone/lens"] = tmp_path / "own"
    assert torch.equal(load_lens("someone/lens").biases, random_translators(5).biases)


def test_another_collection_can_be_named(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_lens(random_translators(2), tmp_path / "mine" / "lens" / "someone" / "model")
    hub.repositories["my/lenses"] = tmp_path / "mine"
    monkeypatch.setenv("TUNED_LENS_REPO_ID", "my/lenses")
    monkeypatch.setenv("TUNED_LENS_REPO_TYPE", "model")
    assert torch.equal(load_lens("someone/model").weights, random_translators(2).weights)


def test_what_was_downloaded_is_read_without_the_hub(
    hub: FakeHub, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_lens("someone/model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load_lens("someone/model").n_layers == 4


def test_a_lens_that_is_not_there_is_refused(hub: FakeHub, collection: Path, tiny_folder: Path) -> None:
    with pytest.raises(LensError, match="no lens for .someone/other. in .AlignmentResearch/tuned-lens."):
        load_lens("someone/other")
    hub.repositories["someone/other"] = tiny_folder
    with pytest.raises(LensError, match="no lens for .someone/other."):
        load_lens("someone/other")


def test_a_hub_that_does_not_answer_is_named(hub: FakeHub, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LensError, match="hub did not answer, and it was not downloaded before"):
        load_lens("someone/model")


def test_a_gated_lens_says_what_to_do(hub: FakeHub, collection: Path) -> None:
    hub.gated.add(SPACE)
    with pytest.raises(LensError, match="is gated: accept its terms"):
        load_lens("someone/model")


def test_a_pickle_with_code_from_the_hub_is_refused_and_nothing_runs(
    hub: FakeHub, collection: Path, tmp_path: Path
) -> None:
    torch.save({"0.weight": Boom(tmp_path / "marker")}, collection / "params.pt")
    with pytest.raises(LensError, match="holds more than tensors"):
        load_lens("someone/model")
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("pickled", [True, False])
def test_a_lens_in_one_file_keeps_everything(pickled: bool) -> None:
    translators = random_translators()
    again = unpack_lens(pack_lens(translators, pickled=pickled))
    assert torch.equal(again.weights, translators.weights)
    assert torch.equal(again.biases, translators.biases)


def zipped(folder: Path, within: str = "") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, within + path.name)
    return data.getvalue()


def test_files_in_a_folder_inside_the_archive_are_found_and_paths_out_of_it_lead_nowhere(tmp_path: Path) -> None:
    save_lens(random_translators(), tmp_path / "lens")
    assert unpack_lens(zipped(tmp_path / "lens", "my-lens/")).n_layers == 4
    assert unpack_lens(zipped(tmp_path / "lens", "../../")).n_layers == 4


def test_bad_archives_are_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pack_lens(random_translators())
    for broken in (b"", b"not a zip", whole[: len(whole) // 2]):
        with pytest.raises(LensError, match="not a whole zip archive"):
            unpack_lens(broken)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    with pytest.raises(LensError):
        unpack_lens(bytes(damaged))
    save_lens(random_translators(), tmp_path / "lens")
    torch.save({"0.weight": Boom(tmp_path / "marker")}, tmp_path / "lens" / "params.pt")
    with pytest.raises(LensError, match="in the archive holds more than tensors"):
        unpack_lens(zipped(tmp_path / "lens"))
    assert not (tmp_path / "marker").exists()
    (tmp_path / "lens" / "config.json").unlink()
    with pytest.raises(LensError, match="the archive holds no lens: it has no config.json"):
        unpack_lens(zipped(tmp_path / "lens"))
    monkeypatch.setattr("surgery_core.lenses.archive.MAX_LENS_BYTES", 1000)
    with pytest.raises(LensError, match="more than 1,000 bytes"):
        unpack_lens(whole)


def test_a_folder_of_that_name_wins_over_the_hub(
    hub: FakeHub, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(collection, tmp_path / "someone" / "model")
    load_lens("someone/model")
    assert not hub.asked


def test_a_lens_from_the_hub_must_fit_the_model(hub: FakeHub, collection: Path) -> None:
    from surgery_core.lenses.tuned import TunedLens

    assert TunedLens(build("llama"), load_lens("someone/model")).name == "tuned lens"

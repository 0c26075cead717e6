"""Opening models from a hub, against a server on this machine that answers like one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from surgery_core.errors import ModelLoadError
from surgery_core.keeping.gguf_file import export_gguf
from surgery_core.models.hub import hub_file, is_hub_id
from surgery_core.models.offered import list_models
from surgery_core.models.opening import load_model
from tests.core.support.fake_hub import COMMIT, FakeHub, serve
from tests.core.support.gguf_files import write_llama


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serve() as server:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", _template(server.endpoint))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


def _template(endpoint: str) -> str:
    return endpoint + "/{repo_id}/resolve/{revision}/{filename}"


@pytest.fixture
def repository(hub: FakeHub, tiny_folder: Path, tmp_path: Path) -> Path:
    """Offer the tiny model as `someone/tiny`, with the things beside it that real repositories have."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "repository"))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    for pickle in (
        "pytorch_model.bin",
        "training_args.pt",
        "modeling_tiny.py",
        "onnx/model.onnx",
        "flax_model.msgpack",
    ):
        (folder / pickle).parent.mkdir(exist_ok=True)
        (folder / pickle).write_bytes(b"never fetch this")
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    hub.repositories["someone/tiny"] = folder
    return folder


def test_a_hub_model_opens_with_its_commit_and_only_its_safe_files(hub: FakeHub, repository: Path) -> None:
    info = load_model("someone/tiny").info
    assert (info.kind, info.source, info.revision) == ("hub", "someone/tiny", COMMIT)
    assert (info.name, info.licence, info.n_layers) == ("someone/tiny", "apache-2.0", 4)
    safe = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert hub.fetched() == safe | {"model.safetensors"}


def test_a_split_hub_model_fetches_the_shards_that_its_index_names(hub: FakeHub, repository: Path) -> None:
    load_model(str(repository)).model.save_pretrained(repository, max_shard_size="60KB")
    (repository / "model.safetensors").unlink()
    load_model("someone/tiny")
    shards = {path.name for path in repository.glob("model-0*.safetensors")}
    assert len(shards) > 2
    assert {file for file in hub.fetched() if file.endswith(".safetensors")} == shards


def test_a_second_opening_fetches_nothing_and_needs_no_network(
    hub: FakeHub, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_model("someone/tiny").info
    hub.asked.clear()
    assert load_model("someone/tiny").info == first
    assert not hub.fetched()
    hub.broken = 500
    assert load_model("someone/tiny").info == first
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load_model("someone/tiny").info == first


def refused(name: str = "someone/tiny", revision: str | None = None) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load_model(name, revision=revision)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_a_missing_model(hub: FakeHub) -> None:
    assert "no public model 'no/body'" in refused("no/body")


def test_a_missing_revision(hub: FakeHub, repository: Path) -> None:
    assert "no revision 'v9'" in refused(revision="v9")


def test_a_gated_model(hub: FakeHub, repository: Path) -> None:
    hub.gated.add("someone/tiny")
    message = refused()
    assert "gated" in message
    assert "hf auth login" in message


def test_a_hub_that_fails(hub: FakeHub, repository: Path) -> None:
    hub.broken = 500
    assert "error 500" in refused()


def test_a_hub_that_forbids(hub: FakeHub, repository: Path) -> None:
    hub.broken = 403
    assert "denies access" in refused()


def test_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = "http://127.0.0.1:9"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", closed)
    message = refused()
    assert "cannot be reached" in message
    assert "connect to the network" in message


def test_a_connection_that_breaks_off(hub: FakeHub, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own attempts
    hub.cut = True
    assert "cannot be reached" in refused()
    hub.cut = False
    assert load_model("someone/tiny").info.revision == COMMIT


def test_a_hub_that_is_switched_off(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refused()


def test_pickles_only(hub: FakeHub, repository: Path) -> None:
    (repository / "model.safetensors").unlink()
    assert "pickled" in refused()
    assert not hub.fetched()


def test_what_was_downloaded_whole_is_offered_by_its_id_without_a_network(
    hub: FakeHub, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "someone/tiny" not in {choice.name for choice in list_models()}
    opened = load_model("someone/tiny").info
    hub.asked.clear()
    (choice,) = [one for one in list_models() if one.kind == "hub"]
    assert (choice.name, choice.title, choice.n_layers) == ("someone/tiny", "someone/tiny", 4)
    assert choice.n_parameters == opened.n_parameters
    assert not hub.asked
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load_model("someone/tiny").info == opened


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", "config.json"])
def test_what_was_not_downloaded_whole_is_not_offered(hub: FakeHub, repository: Path, missing: str) -> None:
    load_model("someone/tiny")
    (folder,) = [choice.path for choice in list_models() if choice.kind == "hub"]
    (folder / missing).unlink()
    if missing == "tokenizer.json":
        (folder / "tokenizer_config.json").unlink()
    assert not [choice for choice in list_models() if choice.kind == "hub"]


def test_a_downloaded_encoder_is_not_offered(hub: FakeHub, repository: Path) -> None:
    load_model("someone/tiny")
    (folder,) = [choice.path for choice in list_models() if choice.kind == "hub"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    assert not [choice for choice in list_models() if choice.kind == "hub"]


def test_no_config(hub: FakeHub, repository: Path) -> None:
    (repository / "config.json").unlink()
    assert "no config.json" in refused()


def test_no_tokenizer(hub: FakeHub, repository: Path) -> None:
    for path in repository.glob("tokenizer*"):
        path.unlink()
    assert "no tokenizer" in refused()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling_tiny.M"}}, "never runs"),
        ({"model_type": "t5", "architectures": ["T5Model"], "is_encoder_decoder": True}, "encoder-decoder"),
    ],
)
def test_an_unfit_config_is_refused_before_the_weights_are_fetched(
    hub: FakeHub, repository: Path, change: dict[str, object], expected: str
) -> None:
    config = json.loads((repository / "config.json").read_text())
    (repository / "config.json").write_text(json.dumps(config | change))
    assert expected in refused()
    assert hub.fetched() == {"config.json"}


def test_a_model_that_is_too_large_is_refused_before_its_weights_are_fetched(
    hub: FakeHub, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery_core.models.devices.free_memory", lambda: 100_000)
    assert "choose a smaller model" in refused()
    assert hub.fetched() == {"config.json"}


def test_an_index_that_names_a_missing_shard(hub: FakeHub, repository: Path) -> None:
    (repository / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (repository / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00001.safetensors is missing" in refused()


def test_the_endpoint_of_the_environment_is_used(hub: FakeHub, repository: Path, tmp_path: Path) -> None:
    code = (
        "import surgery_core.models.hub as h; print(h.fetch('someone/tiny', None, lambda config, size: None).revision)"
    )
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == COMMIT


@pytest.fixture
def ggufs(hub: FakeHub, tmp_path: Path) -> Path:
    """Offer `someone/ggufs`, with one file at the top and one in a folder."""
    folder = tmp_path / "ggufs"
    (folder / "half").mkdir(parents=True)
    write_llama(folder / "tiny.Q8_0.gguf", "Q8_0")
    write_llama(folder / "half" / "tiny.F16.gguf", "F16")
    hub.repositories["someone/ggufs"] = folder
    return folder


@pytest.mark.parametrize("name", ["someone/ggufs:tiny.Q8_0.gguf", "someone/ggufs/tiny.Q8_0.gguf"])
def test_one_gguf_file_of_a_repository_is_fetched_and_opened(hub: FakeHub, ggufs: Path, name: str) -> None:
    info = load_model(name, allow_paths=False).info
    assert (info.kind, info.source, info.revision, info.title) == ("hub", name, COMMIT, name)
    assert hub.fetched() == {"tiny.Q8_0.gguf"}
    hub.broken = 500
    assert load_model(name).info == info


def test_a_repository_of_gguf_files_says_how_to_name_one(hub: FakeHub, ggufs: Path) -> None:
    assert "give one of them, such as someone/ggufs:half/tiny.F16.gguf" in refused("someone/ggufs")


def test_a_gguf_file_in_a_folder_of_a_repository(hub: FakeHub, ggufs: Path) -> None:
    assert load_model("someone/ggufs/half/tiny.F16.gguf").info.revision == COMMIT
    assert load_model("someone/ggufs:half/tiny.F16.gguf").info.n_layers == 4


def test_a_gguf_file_of_the_hub_is_written_from_its_copy_in_the_cache(
    hub: FakeHub, ggufs: Path, tmp_path: Path
) -> None:
    loaded, asked = load_model("someone/ggufs:tiny.Q8_0.gguf"), len(hub.asked)
    assert load_model(str(export_gguf(loaded, "2,0", tmp_path / "new.gguf"))).info.n_layers == 2
    assert len(hub.asked) == asked


def test_a_gguf_file_that_a_repository_does_not_have(hub: FakeHub, ggufs: Path) -> None:
    assert "no file 'other.gguf'; it has half/tiny.F16.gguf, tiny.Q8_0.gguf" in refused("someone/ggufs:other.gguf")


def test_a_gguf_file_without_a_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "has not been downloaded before" in refused("someone/ggufs:tiny.Q8_0.gguf")


def test_a_gguf_file_that_is_too_large_is_refused_before_it_is_fetched(
    hub: FakeHub, ggufs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery_core.models.devices.free_memory", lambda: 10_000)
    assert "choose a smaller model" in refused("someone/ggufs:tiny.Q8_0.gguf")
    assert not hub.fetched()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/name:a.gguf", ("org/name", "a.gguf")),
        ("org/name/a.GGUF", ("org/name", "a.GGUF")),
        ("org/name/b/a.gguf", ("org/name", "b/a.gguf")),
        ("org/name", None),
        ("org/name.gguf", None),
        ("org/name:a.bin", None),
        ("org/name:../a.gguf", None),
        ("org/name//a.gguf", None),
        ("/org/name/a.gguf", None),
        ("org/na--me:a.gguf", None),
    ],
)
def test_what_counts_as_a_gguf_file_on_the_hub(name: str, expected: tuple[str, str] | None) -> None:
    assert hub_file(name) == expected


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("org/name", True),
        ("Org-1/na.me_2", True),
        ("name", False),
        ("a/b/c", False),
        ("../up", False),
        ("a--b/c", False),
        ("/etc", False),
        ("org/", False),
        ("o rg/name", False),
        ("org/n\0", False),
        ("org/näme", False),
        ("a/b\n", False),
    ],
)
def test_what_counts_as_a_hub_id(name: str, valid: bool) -> None:
    assert is_hub_id(name) is valid

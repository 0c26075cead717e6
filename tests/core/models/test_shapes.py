"""Folders as people have them: of one name, linked, nested, changed, with odd configs, cards and tokenizers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery_core.errors import ModelLoadError, TextError
from surgery_core.measure.compare import score
from surgery_core.models import offered
from surgery_core.models.card import read_card
from surgery_core.models.checkpoint import read_checkpoint
from surgery_core.models.devices import stated_format
from surgery_core.models.offered import digest, list_models, stamp, stamp_of, weight_bytes
from surgery_core.models.opening import load_model
from surgery_core.text import Text, encode
from tests.tiny import build_model, build_tokenizer


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "models" / "tiny"))


def deeper(place: Path, n_layers: int) -> Path:
    build_model("llama", num_hidden_layers=n_layers).save_pretrained(place)
    build_tokenizer().save_pretrained(place)
    return place


def offers(*folders: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int | None]:
    """Return the depth of every model on offer that is not bundled, by name."""
    monkeypatch.setenv("MODEL_SURGERY_MODELS", os.pathsep.join(map(str, folders)))
    return {choice.name: choice.n_layers for choice in list_models() if choice.kind != "bundled"}


def test_two_folders_of_one_name_are_both_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, depth in (("one", 3), ("two", 5)):
        deeper(tmp_path / place / "llama", depth)
    found = offers(tmp_path / "one", tmp_path / "two", monkeypatch=monkeypatch)
    assert found == {"llama": 5, "one/llama": 3}
    assert [load_model(name).info.n_layers for name in ("llama", "one/llama")] == [5, 3]


def test_as_many_parents_are_named_as_it_takes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / first / "runs" for first in "abc"]
    for place in places:
        shutil.copytree(folder, place / "tiny")
    assert set(offers(*places, monkeypatch=monkeypatch)) == {"tiny", "runs/tiny", "a/runs/tiny"}


def test_a_folder_that_is_listed_twice_is_offered_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(offers(folder.parent, folder, monkeypatch=monkeypatch)) == {"tiny"}


def test_a_folder_named_like_a_bundled_one_leaves_both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder.rename(folder.with_name("fable"))
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(folder))
    assert {"fable": 4, "models/fable": 12}.items() <= {one.name: one.n_layers for one in list_models()}.items()


def test_a_link_is_listed_by_its_own_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "listed").mkdir()
    (tmp_path / "listed" / "mine").symlink_to(folder, target_is_directory=True)
    assert set(offers(tmp_path / "listed", monkeypatch=monkeypatch)) == {"mine"}
    assert load_model("mine").info.name == "mine"
    assert set(offers(tmp_path / "listed" / "mine", monkeypatch=monkeypatch)) == {"mine"}


def test_checkpoints_in_sub_folders_are_offered(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (100, 200):
        shutil.copytree(folder, tmp_path / "all" / "run" / f"checkpoint-{step}")
    shutil.copytree(folder, tmp_path / "all" / "run" / "too" / "deep")
    assert set(offers(tmp_path / "all", monkeypatch=monkeypatch)) == {"checkpoint-100", "checkpoint-200"}


def test_the_stamp_changes_when_a_model_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offers(folder.parent, monkeypatch=monkeypatch)
    before = stamp_of("tiny")
    assert before == stamp(folder) != ""
    shutil.rmtree(folder)
    deeper(folder, 10)
    assert stamp_of("tiny") != before
    assert {choice.name: choice.n_layers for choice in list_models()}["tiny"] == 10
    assert stamp_of("no such model") == ""


def test_a_revision_is_of_what_a_model_computes_with(folder: Path, tmp_path: Path) -> None:
    before = digest(folder)
    (folder / "README.md").write_text("# Another card\n")
    copied = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    os.utime(copied / "model.safetensors", (1, 1))
    assert digest(folder) == digest(copied) == before
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert digest(folder) != before


@pytest.mark.parametrize("at", [0, 3_000, 65_536, 50_003_968, 119_996_416])
def test_a_large_file_counts_by_what_is_in_it(tmp_path: Path, at: int) -> None:
    def written(name: str, where: int | None) -> Path:
        place = tmp_path / name / "model.gguf"
        place.parent.mkdir()
        with place.open("wb") as file:
            file.truncate(120_000_000)
            if where is not None:
                file.seek(where)
                file.write(b"x" * min(65_536, 120_000_000 - where))
        return place

    plain, again, other = written("plain", None), written("again", None), written("other", at)
    os.utime(again, (1, 1))
    assert digest(plain) == digest(again) != digest(other)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize(("stated", "read"), [("auto", None), ("torch.float16", "float16"), ("bfloat16", "bfloat16")])
def test_number_formats_as_configs_state_them(folder: Path, key: str, stated: str, read: str | None) -> None:
    before = load_model(str(folder))
    config = {k: v for k, v in json.loads((folder / "config.json").read_text()).items() if k != "dtype"} | {key: stated}
    (folder / "config.json").write_text(json.dumps(config))
    after = load_model(str(folder))
    assert stated_format(read_checkpoint(folder, "tiny").config) == read
    ids = torch.arange(12)[None]
    assert torch.equal(after.model(ids).logits, before.model(ids).logits)
    assert after.tokenizer("A mill").input_ids == before.tokenizer("A mill").input_ids


@pytest.mark.parametrize(
    ("header", "licence"),
    [
        ("license: mit", "mit"),
        ("license:\n- apache-2.0\n- mit\ntags:\n- x", "apache-2.0, mit"),
        ("license: [apache-2.0, 'mit']", "apache-2.0, mit"),
        ("license:\n  - mit", "mit"),
        ("license: other\nlicense_name: llama3", "llama3"),
        ("tags:\n- mit", None),
        ("- mit", None),
    ],
)
def test_licences_as_cards_state_them(tmp_path: Path, header: str, licence: str | None) -> None:
    (tmp_path / "README.md").write_text(f"---\n{header}\n---\n# A model\n")
    assert read_card(tmp_path) == ("A model", licence)


def test_an_added_token_beyond_the_rows_refuses_only_texts_that_use_it(folder: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["[PAD]"])
    tokenizer.save_pretrained(folder)
    loaded = load_model(str(folder))
    assert loaded.info.notes == ("The model has no row for the added token [PAD] (260), so texts with it are refused.",)
    assert score(loaded.model, loaded.tokenizer, ["A mill by the river."]).perplexity > 0
    with pytest.raises(TextError, match=r"has the token \[PAD\] \(260\), .* rows end at 259"):
        score(loaded.model, loaded.tokenizer, ["A mill [PAD] by the river."])


def test_a_beginning_without_a_row_refuses_the_model(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 260, "content": "<start>"})
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<start>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<start>": {"id": "<start>", "ids": [260], "tokens": ["<start>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelLoadError, match="tokens and its model only 260"):
        load_model(str(folder))


def sentencepiece_model() -> bytes:
    """Return a vocabulary of bytes and a few words as the sentencepiece library would store it."""
    model = pytest.importorskip("sentencepiece.sentencepiece_model_pb2").ModelProto()
    pieces: list[tuple[str, int]] = [
        ("<unk>", 2),
        ("<s>", 3),
        ("</s>", 3),
        *((f"<0x{byte:02X}>", 6) for byte in range(256)),
    ]
    letters = [chr(code) for code in range(97, 123)]
    for rank, (piece, kind) in enumerate([*pieces, *((letter, 1) for letter in ["\u2581", *letters, "th", "the"])]):
        model.pieces.add(piece=piece, score=-float(rank), type=kind)
    model.trainer_spec.model_type = 2
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.add_dummy_prefix = True
    return bytes(model.SerializeToString())


@pytest.fixture
def spelled(folder: Path) -> Path:
    """Return a Llama whose only tokenizer is a `tokenizer.model`."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    build_model("llama", vocab_size=300).save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(b"")
    return folder


def test_a_tokenizer_model_alone_opens(spelled: Path) -> None:
    (spelled / "tokenizer.model").write_bytes(sentencepiece_model())
    loaded = load_model(str(spelled))
    ids = encode(loaded.tokenizer, Text("A text", "the cat"))
    assert loaded.tokenizer.convert_ids_to_tokens(ids)[-4:] == ["\u2581", "c", "a", "t"]


def test_a_package_that_a_tokenizer_model_needs_is_named(spelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("requires the SentencePiece library")

    monkeypatch.setattr("surgery_core.models.weights.AutoTokenizer.from_pretrained", missing)
    monkeypatch.setattr("surgery_core.models.weights._installed", lambda module: module != "sentencepiece")
    with pytest.raises(ModelLoadError, match=r"is in tokenizer\.model, .*pip install sentencepiece"):
        load_model(str(spelled))


def test_how_many_bytes_of_weights_a_model_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(folder.parent))
    assert weight_bytes("tiny") == ((folder / "model.safetensors").stat().st_size, False)
    assert weight_bytes("org/name") is None
    (packed := folder.parent / "packed.gguf").write_bytes(b"GGUF" + bytes(996))
    monkeypatch.setattr(offered, "offered", lambda: {"packed": (packed, "folder")})
    assert weight_bytes("packed") == (1000, True)

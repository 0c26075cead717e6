"""Opening models from folders: what is offered, what runs, and one plain sentence for everything else."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from surgery_core.errors import ModelLoadError, SettingsError
from surgery_core.models.checkpoint import read_checkpoint
from surgery_core.models.devices import choose_device, choose_dtype, free_memory
from surgery_core.models.offered import list_models
from surgery_core.models.opening import load_model

Edit = Callable[[Path], None]


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))


def edit_json(file: str, **changes: Any) -> Edit:
    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        content.update(changes)
        (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))

    return edit


def edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Edit:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return edit


def write(file: str, content: bytes) -> Edit:
    return lambda folder: (folder / file).write_bytes(content) and None


def remove(*files: str) -> Edit:
    return lambda folder: [(folder / file).unlink() for file in files] and None


def rename(old: str, new: str) -> Edit:
    return lambda folder: (folder / old).rename(folder / new) and None


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def split_outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "secret.safetensors")
    index = {"weight_map": {"model.norm.weight": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def split_incomplete(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def huge_tokenizer(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["extra"] = 999
    (folder / "tokenizer.json").write_text(json.dumps(content))


def adapter(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "base_model_name_or_path": "org/base"}')
    (folder / "adapter_model.safetensors").write_bytes(HEADER_ONLY)


HEADER_ONLY = struct.pack("<Q", 2) + b"{}"
BROKEN: dict[str, tuple[Edit, str]] = {
    "no config": (remove("config.json"), "no config.json"),
    "config not JSON": (write("config.json", b"{"), "damaged"),
    "config not UTF-8": (write("config.json", b"\xff\xfe{}"), "damaged"),
    "config is a list": (write("config.json", b"[]"), "damaged"),
    "config deeply nested": (write("config.json", b"[" * 100_000), "damaged"),
    "config without a type": (edit_json("config.json", model_type=...), "does not know"),
    "unknown type": (edit_json("config.json", model_type="nonsense"), "'nonsense'"),
    "remote code": (edit_json("config.json", model_type="mine", auto_map={"AutoModel": "m.M"}), "never runs"),
    "quantised": (edit_json("config.json", quantization_config={"quant_method": "gptq"}), "quantised"),
    "a base model": (edit_json("config.json", architectures=["LlamaModel"]), "LlamaModel"),
    "a classifier": (edit_json("config.json", architectures=["LlamaForSequenceClassification"]), "SequenceClass"),
    "an encoder": (edit_json("config.json", model_type="bert", architectures=["BertModel"]), "BertModel .an encoder"),
    "a masked LM": (edit_json("config.json", model_type="bert", architectures=["BertLMHeadModel"]), "an encoder"),
    "encoder-decoder": (
        edit_json(
            "config.json", model_type="t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True
        ),
        "encoder-decoder",
    ),
    "two-way attention": (edit_json("config.json", model_type="xlnet", architectures=["XLNetLMHeadModel"]), "XLNet"),
    "pickles only": (rename("model.safetensors", "pytorch_model.bin"), "pickled"),
    "no weights": (remove("model.safetensors"), "save_pretrained"),
    "an adapter": (adapter, "an adapter for 'org/base', which cannot be opened: the hub is switched off"),
    "a damaged adapter": (rename("model.safetensors", "adapter_config.json"), "no adapter_model.safetensors|damaged"),
    "truncated": (truncate, "bytes where its header promises"),
    "empty weights": (write("model.safetensors", b""), "not a safetensors file"),
    "weights are text": (write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "not a safe"),
    "header not JSON": (write("model.safetensors", struct.pack("<Q", 4) + b"oops"), "header"),
    "header is a list": (write("model.safetensors", struct.pack("<Q", 2) + b"[]"), "header"),
    "header of nonsense": (write("model.safetensors", struct.pack("<Q", 7) + b'{"a":1}'), "header"),
    "no tensors": (write("model.safetensors", HEADER_ONLY), "no weights for"),
    "a shard outside the folder": (split_outside, "secret.safetensors"),
    "a shard missing": (split_incomplete, "model-00002-of-00002.safetensors is missing"),
    "index without a map": (
        lambda folder: (
            rename("model.safetensors", "x.safetensors")(folder) or write("model.safetensors.index.json", b"{}")(folder)
        ),
        "weight_map",
    ),
    "a weight missing": (
        edit_weights(lambda tensors: tensors.pop("model.layers.2.mlp.up_proj.weight")),
        r"no weights for model\.layers\.2\.mlp\.up_proj\.weight",
    ),
    "no head": (edit_weights(lambda tensors: tensors.pop("lm_head.weight")), "no weights for lm_head"),
    "config says fewer layers": (edit_json("config.json", num_hidden_layers=3), r"layers\.3\..* and 8 more"),
    "config says more layers": (edit_json("config.json", num_hidden_layers=5), r"no weights for model\.layers\.4"),
    "config says another width": (edit_json("config.json", intermediate_size=96), "size|shape"),
    "config makes no sense": (edit_json("config.json", num_attention_heads="many"), "cannot be opened"),
    "no tokenizer": (remove("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
    "weights that lead nowhere": (
        lambda folder: remove("model.safetensors")(folder) or (folder / "model.safetensors").symlink_to("gone"),
        "cannot be read .No such file",
    ),
    "tokenizer not JSON": (write("tokenizer.json", b"{"), "tokenizer of"),
    "tokenizer of nonsense": (edit_json("tokenizer.json", truncation="x"), "cannot be opened .*Truncation"),
    "tokenizer of another model": (huge_tokenizer, r"tokens and its model only 260"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_folder_that_cannot_run_is_refused_in_one_plain_sentence(case: str, folder: Path) -> None:
    edit, expected = BROKEN[case]
    edit(folder)
    with pytest.raises(ModelLoadError, match=expected) as caught:
        load_model(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert "; " in message, "the sentence must say what to do"


def test_a_folder_runs_exactly_as_transformers_runs_it(tiny_folder: Path) -> None:
    loaded = load_model(str(tiny_folder))
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder)
    ids = torch.tensor([loaded.tokenizer("Once upon a time").input_ids])
    assert torch.equal(loaded.model(ids).logits, plain(ids).logits)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_the_facts_are_those_of_the_checkpoint(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\ntags:\n- x\n---\n\n# A tiny model\n\nIt is random.\n")
    info = load_model(str(folder)).info
    # embedding and head 2 x 260 x 32; a layer: q and o 32 x 32, k and v 16 x 32, three MLP 32 x 64, two norms; a norm
    expected = 2 * 260 * 32 + 4 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    assert (info.n_parameters, info.n_layers, info.d_model) == (expected, 4, 32)
    assert (info.vocab_size, info.context_length) == (260, 128)
    assert (info.title, info.licence, info.architecture) == ("A tiny model", "mit", "LlamaForCausalLM")
    assert (info.kind, info.dtype, info.device) == ("folder", "float32", "cpu")
    assert info.bytes >= 4 * expected
    assert info.notes == ()


def test_unused_weights_outside_the_layers_become_a_note(folder: Path) -> None:
    edit_weights(lambda tensors: tensors.update({"vision.proj.weight": torch.zeros(2)}))(folder)
    (note,) = load_model(str(folder)).info.notes
    assert "vision.proj.weight" in note


def test_a_split_checkpoint_is_read_whole(tiny_folder: Path, tmp_path: Path) -> None:
    whole = load_model(str(tiny_folder))
    folder = tmp_path / "split"
    whole.model.save_pretrained(folder, max_shard_size="60KB")
    whole.tokenizer.save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 2
    split = load_model(str(folder))
    assert split.info.n_parameters == whole.info.n_parameters
    for name, parameter in whole.model.state_dict().items():
        assert torch.equal(parameter, split.model.state_dict()[name])


def test_the_key_changes_with_the_files_the_dtype_and_nothing_else(folder: Path) -> None:
    first = load_model(str(folder)).info.key
    assert load_model(str(folder)).info.key == first
    assert load_model(str(folder), dtype="bfloat16").info.key != first
    edit_weights(lambda tensors: tensors["model.norm.weight"].mul_(2))(folder)
    assert load_model(str(folder)).info.key != first


def test_dtype_is_float32_on_a_cpu_unless_told_otherwise(tiny_folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(tiny_folder, half)
    edit_weights(lambda tensors: tensors.update({k: v.bfloat16() for k, v in tensors.items()}))(half)
    assert read_checkpoint(half, "half").dtype == "bfloat16"
    assert load_model(str(half), device="cpu").info.dtype == "float32"
    told = load_model(str(half), device="cpu", dtype="bfloat16")
    assert told.info.dtype == "bfloat16"
    assert told.model.lm_head.weight.dtype == torch.bfloat16


def test_a_gpu_takes_the_dtype_of_the_checkpoint() -> None:
    gpu = torch.device("cuda")
    assert choose_dtype("auto", gpu, "bfloat16") == "bfloat16"
    assert choose_dtype("auto", gpu, "float64") == "float32"
    assert choose_dtype("float16", gpu, "bfloat16") == "float16"


@pytest.mark.parametrize(("device", "dtype"), [("gpu", "auto"), ("cuda:99", "auto"), ("xpu", "auto"), ("cpu", "int8")])
def test_unknown_devices_and_formats_are_named(tiny_folder: Path, device: str, dtype: str) -> None:
    with pytest.raises(SettingsError, match=f"'({device}|{dtype})'"):
        load_model(str(tiny_folder), device=device, dtype=dtype)


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_best_device_found_is_taken(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, best: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == best


def test_a_model_larger_than_free_memory_is_refused_before_it_is_read(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery_core.models.devices.psutil.virtual_memory", lambda: SimpleNamespace(available=200_000))
    with pytest.raises(ModelLoadError, match=r"needs .* GB of memory in float32, and .* GB are free; choose a smaller"):
        load_model(str(tiny_folder))
    # half the bytes fit
    assert load_model(str(tiny_folder), dtype="bfloat16").info.dtype == "bfloat16"
    assert load_model(str(tiny_folder), check_memory=False).info.dtype == "float32"


def test_free_memory_respects_a_containers_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery_core.models.devices._CGROUP", tmp_path)
    monkeypatch.setattr("surgery_core.models.devices.psutil.virtual_memory", lambda: SimpleNamespace(available=10_000))
    assert free_memory() == 10_000
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1500\ninactive_file 1000\n")
    assert free_memory() == 3_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() == 10_000


def test_offered_models_come_from_the_environments_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, folder.parent / "Other")
    (folder.parent / "broken").mkdir()
    (folder.parent / "broken" / "config.json").write_text("{")
    (folder.parent / "not a model").mkdir()
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(folder.parent))
    offered = {choice.name: choice for choice in list_models()}
    assert {"tiny", "Other", "broken"} <= set(offered)
    assert "not a model" not in offered
    assert (offered["tiny"].n_layers, offered["tiny"].kind) == (4, "folder")
    assert offered["tiny"].n_parameters == load_model("tiny").info.n_parameters
    assert offered["broken"].n_layers is None
    assert load_model("tiny").info.name == "tiny"


def test_a_folder_that_cannot_be_looked_into_offers_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def forbidden(self: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert list_models(folder.parent) == ()
    assert [choice.n_layers for choice in list_models(folder)] == [None]
    with pytest.raises(ModelLoadError, match="cannot be read .Permission denied"):
        load_model(str(folder))


def test_the_default_model_is_listed_first(folder: Path) -> None:
    for name in ("aaa", "fable", "zzz"):
        shutil.copytree(folder, folder.parent / name)
    assert [choice.name for choice in list_models(folder.parent)] == ["fable", "aaa", "tiny", "zzz"]


def test_a_folder_can_be_listed_as_a_model_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(folder))
    assert "tiny" in {choice.name for choice in list_models()}


@pytest.mark.parametrize(
    "name",
    ["", "  ", "no such model", "a/b/c", "/nowhere/at/all", "nul\0byte", "x--y/z", "😀", "a" * 5000, "~nobody/x"],
)
def test_a_name_that_leads_nowhere_says_what_can_be_given(name: str) -> None:
    with pytest.raises(ModelLoadError, match=r"There is no model .*hub id"):
        load_model(name)


def test_a_visitor_cannot_open_folders_of_the_server(tiny_folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="There is no model") as caught:
        load_model(str(tiny_folder), allow_paths=False)
    assert "path" not in str(caught.value).removeprefix(f"There is no model {str(tiny_folder)!r}")


def test_code_beside_a_model_is_never_run(folder: Path) -> None:
    marker = folder / "ran"
    code = f"open({str(marker)!r}, 'w').close()\n"
    for file in ("modeling_mine.py", "tokenization_mine.py", "custom_generate/generate.py"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(code)
    mapping = {"AutoConfig": "modeling_mine.C", "AutoModelForCausalLM": "modeling_mine.M"}
    edit_json("config.json", auto_map=mapping, attn_implementation="someone/kernel")(folder)
    edit_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_mine.T", None]})(folder)
    assert load_model(str(folder)).info.architecture == "LlamaForCausalLM"
    assert not marker.exists()

"""GGUF files: opened as transformers opens them, offered by name, and refused in one sentence where they are broken."""

from __future__ import annotations

import math
import resource
import shutil
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from surgery_core.errors import ModelLoadError
from surgery_core.models.gguf_header import read_gguf_header
from surgery_core.models.offered import list_models
from surgery_core.models.opening import load_model
from surgery_core.proof.export import export_model
from surgery_core.proof.preflight import preflight
from tests.core.support.gguf_files import (
    ARCHITECTURE,
    DEPTH,
    TEMPLATE,
    fact,
    raw,
    tensor,
    text,
    tiny_llama,
    write_llama,
)

PROMPT = "The three brothers went to the mill, and then"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "tiny-f32.gguf")


def as_transformers_opens(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    ).eval()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
def test_a_file_runs_exactly_as_transformers_runs_it(kind: str, tmp_path: Path) -> None:
    path = write_llama(tmp_path / "tiny.gguf", kind)
    loaded = load_model(str(path))
    ids = torch.tensor([loaded.tokenizer(PROMPT).input_ids])
    assert torch.equal(loaded.model(ids).logits, as_transformers_opens(path)(ids).logits)
    assert loaded.info.dtype == "float32"
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_the_model_is_the_one_that_was_written(file: Path) -> None:
    loaded = load_model(str(file))
    ids = torch.tensor([loaded.tokenizer(PROMPT).input_ids])
    torch.testing.assert_close(loaded.model(ids).logits, tiny_llama()(ids).logits)


def test_two_files_opened_side_by_side_leave_the_libraries_as_they_were(tmp_path: Path) -> None:
    """What is quickened while a file is read is put back, in whatever order two readings begin and end."""
    import gguf
    from transformers import modeling_gguf_pytorch_utils as reading

    before = gguf.GGUFReader, gguf.get_tensor_name_map, reading.tqdm
    paths = [write_llama(tmp_path / f"tiny-{number}.gguf") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda path: load_model(str(path)), paths))
    assert len({id(one.model) for one in opened}) == 4
    assert (gguf.GGUFReader, gguf.get_tensor_name_map, reading.tqdm) == before


def test_the_tokenizer_and_its_chat_template_are_those_that_transformers_makes(file: Path) -> None:
    ours, theirs = load_model(str(file)).tokenizer, AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert ours.chat_template == theirs.chat_template == TEMPLATE
    assert ours.decode(ours(PROMPT).input_ids) == PROMPT


def test_the_facts_are_those_of_the_file(tmp_path: Path) -> None:
    info = load_model(str(write_llama(tmp_path / "tiny.gguf", "Q8_0"))).info
    assert (info.title, info.licence, info.kind) == ("A tiny llama", "apache-2.0", "folder")
    assert (info.n_layers, info.d_model, info.vocab_size, info.context_length) == (4, 32, 260, 128)
    assert info.n_parameters == sum(parameter.numel() for parameter in tiny_llama().parameters())
    assert info.notes == ("Its weights are stored as Q8_0 and were unpacked.",)


def test_a_file_in_half_precision_keeps_its_format_where_asked(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "tiny.gguf", "F16")
    assert load_model(str(path), dtype="float16").model.lm_head.weight.dtype == torch.float16
    assert read_gguf_header(path, "tiny").kind == "F16"


def test_surgery_on_it_passes_its_checks_and_it_is_exported_as_an_ordinary_checkpoint(
    file: Path, tmp_path: Path
) -> None:
    loaded = load_model(str(file))
    assert preflight(loaded.model, loaded.tokenizer).passed
    again = load_model(str(export_model(loaded, "0,2", tmp_path / "shorter")))
    assert (again.info.n_layers, again.tokenizer.chat_template) == (2, TEMPLATE)


def test_the_revision_changes_with_the_file(file: Path) -> None:
    first = load_model(str(file)).info.key
    assert load_model(str(file)).info.key == first
    write_llama(file, model=tiny_llama(seed=1))
    assert load_model(str(file)).info.key != first


@pytest.mark.parametrize("place", ["tiny-f32.gguf", "inside/tiny-f32.gguf"])
def test_a_file_is_offered_by_its_name(place: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "models" / place
    target.parent.mkdir(parents=True)
    shutil.move(file, target)
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(tmp_path / "models"))
    (choice,) = [one for one in list_models() if one.kind == "folder"]
    assert (choice.name, choice.title, choice.n_layers) == ("tiny-f32", "A tiny llama", 4)
    assert choice.n_parameters == load_model("tiny-f32").info.n_parameters
    assert load_model("tiny-f32.gguf", allow_paths=False).info.n_layers == 4
    assert load_model(str(target.parent)).info.n_layers == 4


def test_a_file_can_be_listed_itself(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(file))
    assert "tiny-f32" in {choice.name for choice in list_models()}


def test_what_lies_beside_it_is_not_looked_at(file: Path, tiny_folder: Path) -> None:
    for beside in tiny_folder.iterdir():
        shutil.copy(beside, file.parent)
    (file.parent / "adapter_config.json").write_text("{}")
    assert load_model(str(file)).info.vocab_size == 260
    assert load_model(str(file)).tokenizer.chat_template == TEMPLATE


def refused(path: Path | str, **settings: Any) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load_model(str(path), **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_a_model_larger_than_free_memory_is_refused_before_its_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_llama(tmp_path / "tiny.gguf", "Q8_0")
    monkeypatch.setattr("surgery_core.models.devices.free_memory", lambda: 200_000)
    monkeypatch.setattr("surgery_core.models.weights.read_gguf_tokenizer", None)
    message = refused(path)
    assert "in float32" in message
    assert "choose a smaller" in message


def test_no_such_file() -> None:
    assert "There is no model '/nowhere/tiny.gguf'" in refused("/nowhere/tiny.gguf")
    assert "There is no model 'models/tiny.gguf'" in refused("models/tiny.gguf")


def test_several_files_in_a_folder_are_named(file: Path) -> None:
    shutil.copy(file, file.with_name("another.gguf"))
    assert "2 GGUF files; give one, such as" in refused(file.parent)


def test_an_architecture_that_transformers_does_not_open_is_named(file: Path) -> None:
    content = file.read_bytes().replace(b"llama.", b"rwkv6.").replace(text("llama"), text("rwkv6"))
    file.write_bytes(content)
    message = refused(file)
    assert "'rwkv6'" in message
    assert "qwen2" in message


@pytest.mark.parametrize("scaling", ["yarn", "linear"])
def test_scaled_positions_are_refused_because_transformers_drops_them(scaling: str, tmp_path: Path) -> None:
    assert "scales its positions" in refused(write_llama(tmp_path / "tiny.gguf", rope_scaling=scaling))


THETA, HEAD = 500_000.0, 8


def llama3_factors(factor: float = 8.0) -> list[float]:
    """Return by what llama.cpp's converter divides each frequency of Llama 3.1, written down from its source."""
    found = []
    for pair in range(HEAD // 2):
        wavelength = 2 * math.pi * THETA ** (2 * pair / HEAD)
        smooth = (8192 / wavelength - 1) / (4 - 1)
        slow, fast = wavelength > 8192, wavelength < 8192 / 4
        found.append(1.0 if fast else factor if slow else 1 / ((1 - smooth) / factor + smooth))
    return found


def test_scaled_positions_of_llama_3_are_taken_over(tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = tiny_llama(rope_parameters={**rope, "rope_theta": THETA, "original_max_position_embeddings": 8192})
    path = write_llama(tmp_path / "tiny.gguf", model=model, factors=llama3_factors())
    loaded, ids = load_model(str(path)), torch.arange(100)[None]
    torch.testing.assert_close(loaded.model(ids).logits, model(ids).logits)
    assert loaded.info.notes == ()
    assert (as_transformers_opens(path)(ids).logits - model(ids).logits).abs().max() > 0.01, "the scale would be lost"
    again = load_model(str(export_model(loaded, "0-3", tmp_path / "again")))
    torch.testing.assert_close(again.model(ids).logits, model(ids).logits)


@pytest.mark.parametrize("factors", [[1.0, 1.0, 4.0, 8.0], [2.0] * 4, [1.0] * 3, [float("nan")] * 4])
def test_positions_that_are_scaled_by_another_rule_are_refused(factors: list[float], tmp_path: Path) -> None:
    model = tiny_llama(rope_parameters={"rope_type": "default", "rope_theta": THETA})
    assert "rope_freqs.weight" in refused(write_llama(tmp_path / "tiny.gguf", model=model, factors=factors))


def test_one_part_of_several_is_refused(tmp_path: Path) -> None:
    assert "one of 3 parts" in refused(write_llama(tmp_path / "tiny.gguf", split_count=3))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"block_count": 3}, "states 3 layers and holds 4"),
        ({"block_count": 2**31}, "states 2147483648 layers"),
        ({"feed_forward_length": 2**31}, "describes a model of"),
        ({"embedding_length": 2**20}, "describes a model of"),
        ({"attention.head_count": 0}, "cannot be opened"),
    ],
)
def test_a_header_that_does_not_fit_its_tensors(change: dict[str, int], expected: str, tmp_path: Path) -> None:
    assert expected in refused(write_llama(tmp_path / "tiny.gguf", **change))


ONE = tensor("blk.0.attn_q.weight", (32, 4))
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a GGUF file"),
    "three bytes": (b"GGU", "not a GGUF file"),
    "a page of text": (b"version https://git-lfs.github.com/spec/v1\n", "not a GGUF file"),
    "a zip": (b"PK\3\4" + bytes(200), "not a GGUF file"),
    "the magic alone": (b"GGUF", "goes on behind its end"),
    "version 1": (raw(version=1), "version 1"),
    "big-endian": (raw(version=0x03000000), "version"),
    "countless tensors": (raw(n_tensors=2**63, data=64), "promises 9,223,372,036,854,775,808 tensors"),
    "countless facts": (raw(n_facts=2**40, data=64), "facts"),
    "more facts than bytes": (raw(n_facts=9_000, data=64), "promises 9,000 facts"),
    "no tensors": (raw(ARCHITECTURE, DEPTH, n_facts=2), "no tensors"),
    "a key without end": (raw(text("x", 2**62), n_facts=1, data=64), "text of"),
    "a text without end": (raw(fact("a", 8, text("x", 2**62)), n_facts=1, data=64), "text of"),
    "an array without end": (raw(fact("a", 9, struct.pack("<IQ", 4, 2**61)), n_facts=1, data=64), "entries"),
    "texts without end": (
        raw(fact("a", 9, struct.pack("<IQ", 8, 3) + text("x", 2**63)), n_facts=1, data=64), "behind its end",
    ),
    "an array of arrays": (raw(fact("a", 9, struct.pack("<IQ", 9, 1)), n_facts=1, data=64), "kind 9"),
    "an unknown kind": (raw(fact("a", 77, b""), n_facts=1, data=64), "kind 77"),
    "a key twice": (raw(ARCHITECTURE, ARCHITECTURE, n_facts=2, data=64), "twice"),
    "a text that is none": (raw(fact("a", 8, text(b"\xff\xfe")), n_facts=1, data=64), "not UTF-8"),
    "no architecture": (raw(DEPTH, ONE, n_facts=1, n_tensors=1, data=512), "no architecture"),
    "no depth": (raw(ARCHITECTURE, ONE, n_facts=1, n_tensors=1, data=512), "states None layers"),
    "many dimensions": (
        raw(ARCHITECTURE, DEPTH, tensor("blk.0.a", (1,) * 9), n_facts=2, n_tensors=1, data=512), "9 dimensions",
    ),
    "a dimension of nothing": (
        raw(ARCHITECTURE, DEPTH, tensor("blk.0.a", (0, 4)), n_facts=2, n_tensors=1, data=512), "shape .0, 4.",
    ),
    "a size that wraps": (
        raw(ARCHITECTURE, DEPTH, tensor("blk.0.a", (2**32, 2**32)), n_facts=2, n_tensors=1, data=512), "outside",
    ),
    "a row that is no block": (
        raw(ARCHITECTURE, DEPTH, tensor("blk.0.a", (33, 4), 8), n_facts=2, n_tensors=1, data=512), "Q8_0 cannot hold",
    ),
    "an unknown storage": (
        raw(ARCHITECTURE, DEPTH, tensor("blk.0.a", (32, 4), 99), n_facts=2, n_tensors=1, data=512), "unknown way 99",
    ),
    "a place behind the end": (
        raw(ARCHITECTURE, DEPTH, tensor("blk.0.a", (32, 4), 0, 2**40), n_facts=2, n_tensors=1, data=512), "outside",
    ),
    "a place between": (
        raw(ARCHITECTURE, DEPTH, tensor("blk.0.a", (32, 4), 0, 7), n_facts=2, n_tensors=1, data=600), "outside",
    ),
    "two on one place": (
        raw(ARCHITECTURE, DEPTH, ONE, tensor("blk.0.b", (32, 4), 0, 256), n_facts=2, n_tensors=2, data=1024),
        "lie on each other",
    ),
    "two of one name": (
        raw(ARCHITECTURE, DEPTH, ONE, tensor("blk.0.attn_q.weight", (32, 4), 0, 512), n_facts=2, n_tensors=2, data=1024),
        "one name",
    ),
    "no alignment": (
        raw(ARCHITECTURE, DEPTH, fact("general.alignment", 4, bytes(4)), ONE, n_facts=3, n_tensors=1, data=512),
        "alignment is 0",
    ),
    "no tokenizer": (raw(ARCHITECTURE, DEPTH, ONE, n_facts=2, n_tensors=1, data=512), "without a tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_at_once_and_takes_no_memory(case: str, tmp_path: Path) -> None:
    content, expected = BROKEN[case]
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ModelLoadError, match=expected):
        load_model(str(path))
    assert time.process_time() - begun < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes
    assert "; " in refused(path), "the sentence must say what to do"


def test_a_file_that_is_cut_off_anywhere_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for kept in (5, 23, 24, 100, 1_000, 5_000, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:kept])
        assert "damaged" in refused(file)


def test_a_broken_file_is_still_listed(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    (choice,) = list_models(tmp_path)
    assert (choice.name, choice.n_layers, choice.n_parameters) == ("broken", None, None)

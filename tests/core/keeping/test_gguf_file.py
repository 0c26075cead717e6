"""Plans written as GGUF files: read by `gguf` byte for byte, and by plain transformers, whose own layers are put in order here."""

from __future__ import annotations

import copy
import json
import os
import resource
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from surgery_core.cli.options import main
from surgery_core.errors import InputError, RefusedPlanError, Stopped
from surgery_core.keeping.gguf_file import export_gguf, gguf_bytes
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from tests.core.support import zoo
from tests.core.support.adapters import save_adapter
from tests.core.support.gguf_files import TEMPLATE, TOKENS, write_llama, write_other

FACTS = {
    "context_length": 64, "embedding_length": 32, "feed_forward_length": 48, "block_count": 4, "attention.head_count": 4,
    "attention.head_count_kv": 2, "rope.freq_base": 10_000.0, "attention.layer_norm_rms_epsilon": 1e-6,
}  # fmt: skip
IDS = torch.arange(3, 30)[None]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(write_llama(tmp_path_factory.mktemp("llama") / "tiny.gguf", "Q8_0")))


def plain(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    ).eval()


def logits(model: Any, order: Sequence[int] | None = None) -> torch.Tensor:
    """Return the logits of a model, with its layers called in an order; without a cache a Llama's have no number."""
    if order is not None:
        model.model.layers = torch.nn.ModuleList([model.model.layers[index] for index in order])
        model.config.num_hidden_layers = len(order)
    with torch.inference_mode():
        found: torch.Tensor = model(IDS, use_cache=False).logits
    return found


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1"])
def test_transformers_reads_the_same_model_and_gguf_the_same_bytes(kind: str, tmp_path: Path) -> None:
    source = write_llama(tmp_path / "tiny.gguf", kind)
    file, order = export_gguf(load_model(str(source)), "3,1-2,1,1", tmp_path / "new.gguf"), [3, 1, 2, 1, 1]
    assert torch.equal(logits(plain(file)), logits(plain(source), order))
    before, after = ({one.name: one for one in gguf.GGUFReader(path).tensors} for path in (source, file))
    parts = {name.partition(".0.")[2] for name in before if ".0." in name}
    assert len(after) == len(before) + len(parts)
    for name, one in after.items():
        first, _, rest = name.partition("blk.")
        place, _, part = rest.partition(".")
        old = before[name if not rest else f"{first}blk.{order[int(place)]}.{part}"]
        assert one.tensor_type == old.tensor_type
        assert np.array_equal(one.data, old.data)


def test_what_the_file_says_stays_but_for_the_number_of_layers_and_its_name(llama: LoadedModel, tmp_path: Path) -> None:
    file = export_gguf(llama, "0,3", tmp_path / "new.gguf")
    before, after = (dict(gguf.GGUFReader(path).fields) for path in (llama.info.name, file))
    changed = {key for key, one in after.items() if key not in before or one.contents() != before[key].contents()}
    assert changed == {"GGUF.tensor_count", "GGUF.kv_count", "llama.block_count", "general.name", "general.description"}
    assert before.keys() <= after.keys()
    assert after["general.name"].contents() == "A tiny llama, operated"
    assert "by the layer plan 0,3." in after["general.description"].contents()
    assert all(after[key].types == before[key].types for key in before)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer("the path").input_ids == llama.tokenizer("the path").input_ids


def tiny(model_type: str, **changes: Any) -> Any:
    config = copy.deepcopy(zoo.config_of(model_type))
    for key, value in ({"vocab_size": len(TOKENS)} | changes).items():
        setattr(config, key, value)
    return zoo.from_config(config)


def test_lists_with_an_entry_for_each_layer_follow_the_layers(tmp_path: Path) -> None:
    """LFM2 states heads by layer, 0 for a convolution; that is how it is known which is which."""
    facts = FACTS | {"attention.head_count_kv": [0, 2, 0, 2], "shortconv.l_cache": 3}
    model = tiny("lfm2", block_auto_adjust_ff_dim=False)
    loaded = load_model(str(write_other(tmp_path / "lfm2.gguf", "lfm2", model, facts)))
    file = export_gguf(loaded, "1,0,2", tmp_path / "new.gguf")
    assert gguf.GGUFReader(file).fields["lfm2.attention.head_count_kv"].contents() == [2, 0, 0]
    found = plain(file)
    assert found.config.layer_types == ["full_attention", "conv", "conv"]
    whole = plain(Path(loaded.info.name))
    whole.config.layer_types = ["full_attention", "conv", "conv"]
    assert torch.equal(logits(found), logits(whole, [1, 0, 2]))


def test_kinds_that_go_by_place_have_to_stay_at_such_places(tmp_path: Path) -> None:
    """Gemma 2 looks far with every second layer, and no fact of the file says so. On short texts nothing would differ."""
    facts = FACTS | {"attention.key_length": 8, "attention.sliding_window": 16, "rope.dimension_count": 8}
    loaded = load_model(str(write_other(tmp_path / "gemma2.gguf", "gemma2", tiny("gemma2"), facts)))
    with pytest.raises(RefusedPlanError, match=r"cannot hold 0,2-3 of .* has its layer_types by place"):
        export_gguf(loaded, "0,2,3", tmp_path / "new.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["gemma2.gguf"]
    file = export_gguf(loaded, "0,3,2,1,2,3", tmp_path / "new.gguf")
    assert plain(file).config.layer_types == ["sliding_attention", "full_attention"] * 3


@pytest.mark.parametrize(
    ("facts", "plan", "said"),
    [
        ({"full_attention_interval": 2}, "0,2-3", "states llama.full_attention_interval = 2"),
        ({"full_attention_interval": 2}, "2,3", ""),
        ({"leading_dense_block_count": 1}, "1,0,2-3", "states llama.leading_dense_block_count = 1"),
        ({"leading_dense_block_count": 1}, "0,3,3", ""),
        ({"nextn_predict_layers": 1}, "0-2", "states llama.nextn_predict_layers"),
        ({"nextn_predict_layers": 1}, "0-3", ""),
        ({"layers_of_note": [1, 3, 3]}, "0-2", "states llama.layers_of_note, a list of 3 entries"),
        ({"rope.dimension_sections": [2, 1, 1, 0]}, "0-2,0", ""),
    ],
)
def test_what_a_file_states_of_places_must_hold_for_the_new_order(
    facts: dict[str, Any], plan: str, said: str, tmp_path: Path
) -> None:
    source = write_llama(tmp_path / "tiny.gguf", more=facts)
    if said:
        with pytest.raises(RefusedPlanError, match=said):
            export_gguf(load_model(str(source)), plan, tmp_path / "new.gguf")
        return
    fields = gguf.GGUFReader(export_gguf(load_model(str(source)), plan, tmp_path / "new.gguf")).fields
    assert {key: fields[f"llama.{key}"].contents() for key in facts} == facts


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("0,2*0.5", r"cannot hold 2\*0\.5 without packing weights anew"),
        ("0,2.attn", r"cannot hold 2\.attn"),
        ("0,(1|2)", r"cannot hold \(1\|2\)"),
        ("0,mean(1)", r"cannot hold mean\(1\)"),
        ("0,other:1", r"cannot hold other:1"),
        ("", "needs at least one layer"),
    ],
)
def test_other_than_whole_layers_are_refused(llama: LoadedModel, plan: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedPlanError, match=said):
        export_gguf(llama, plan, tmp_path / "new.gguf")
    assert not list(tmp_path.iterdir())


def test_other_models_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedPlanError, match="was not opened from a GGUF file"):
        export_gguf(load_model(str(tiny_folder)), "0,2", tmp_path / "new.gguf")
    adapted = load_model(str(save_adapter(tiny_folder, tmp_path / "tuned")))
    adapted = replace(adapted, info=replace(adapted.info, gguf="Q8_0"))
    with pytest.raises(RefusedPlanError, match="cannot hold an adapter"):
        export_gguf(adapted, "0,2", tmp_path / "new.gguf")


def test_names_that_are_taken_or_wrong_and_a_source_that_changed(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "tiny.gguf")
    loaded = load_model(str(source))
    for name, said in (("new.bin", "does not end in .gguf"), ("tiny.gguf", "is there already")):
        with pytest.raises(InputError, match=said):
            export_gguf(loaded, "0,2", tmp_path / name)
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        export_gguf(loaded, "0,2", tmp_path / "nowhere" / "new.gguf")
    source.write_bytes(source.read_bytes() + b"\0")
    with pytest.raises(InputError, match="has changed or is gone since it was opened"):
        export_gguf(loaded, "0,2", tmp_path / "new.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_full_disk_leaves_nothing(llama: LoadedModel, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written: File too large\."):
            export_gguf(llama, "0-3,0-3", tmp_path / "new.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_file_that_would_not_open_as_the_plan_is_not_kept(
    llama: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from surgery_core.keeping import gguf_file

    real = gguf_file.write_layers
    monkeypatch.setattr(gguf_file, "write_layers", lambda *given, **how: real(*given[:3], [1, 0], given[4], **how))
    with pytest.raises(RefusedPlanError, match=r"cannot hold 0-1 of .*: model\.layers\.0\..* would be another one"):
        export_gguf(llama, "0,1", tmp_path / "new.gguf")
    assert not list(tmp_path.iterdir())


def test_a_download_has_a_largest_size(llama: LoadedModel, tmp_path: Path) -> None:
    plan = LayerPlan.parse("0,2", 4)
    (tmp_path / "new.gguf").write_bytes(gguf_bytes(llama, plan, 10**6))
    assert torch.equal(logits(plain(tmp_path / "new.gguf")), logits(plain(Path(llama.info.name)), [0, 2]))
    with pytest.raises(InputError, match=r"can be downloaded here\. On a command line: .* --to FILE\.gguf"):
        gguf_bytes(llama, plan, 1000)


def test_the_command_line_writes_one(llama: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["export", "--model", llama.info.name, "--plan", "2,0", "--to", str(tmp_path / "new.gguf")]
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"] == 2
    assert load_model(str(tmp_path / "new.gguf")).info.n_layers == 2
    assert main([*call, "--push", "org/new"]) == 2
    assert "--push takes a checkpoint, not a GGUF file" in capsys.readouterr().err


REAL = os.environ.get("MODEL_SURGERY_LLAMA_CPP", "")
"""A Python that has llama-cpp-python installed, in an environment of its own."""


@pytest.mark.skipif(not REAL, reason="MODEL_SURGERY_LLAMA_CPP names no Python that has llama-cpp-python")
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_llama_cpp_computes_the_same(kind: str, tmp_path: Path) -> None:
    source = write_llama(tmp_path / "tiny.gguf", kind)
    file = export_gguf(load_model(str(source)), "3,1-2,1,1", tmp_path / "new.gguf")
    code = (
        "import sys, json; from llama_cpp import Llama; "
        "model = Llama(sys.argv[1], logits_all=True, verbose=False, n_ctx=64, n_batch=1, n_ubatch=1); "
        "model.eval(json.loads(sys.argv[2])); print(json.dumps(model.scores[:model.n_tokens].tolist()))"
    )
    said = subprocess.run([REAL, "-c", code, str(file), json.dumps(IDS[0].tolist())], capture_output=True, check=True)
    found = torch.tensor(json.loads(said.stdout.splitlines()[-1]))
    expected, other = (logits(plain(source), order)[0] for order in ([3, 1, 2, 1, 1], [1, 3, 2, 1, 1]))
    if kind == "F32":
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02 * float(expected.std()))
    # with packed weights llama.cpp packs what is multiplied by them too
    assert float(torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1]) > 0.99
    assert float(torch.corrcoef(torch.stack([found.flatten(), other.flatten()]))[0, 1]) < 0.9


def test_it_says_how_far_it_is_and_one_that_is_stopped_leaves_nothing(llama: LoadedModel, tmp_path: Path) -> None:
    stop, told = threading.Event(), []

    def tell(done: int, total: int) -> None:
        told.append(done / total)
        if done / total > 0.7:
            stop.set()

    with pytest.raises(Stopped, match="Stopped before the GGUF file was written"):
        export_gguf(llama, "2,0", tmp_path / "new.gguf", stop=stop, on_progress=tell)
    assert told == sorted(told)
    assert told[0] < 0.5 < 0.7 < told[-1] < 1
    assert list(tmp_path.iterdir()) == []

"""Opening adapters (PEFT): base and adapter as one model, and one plain sentence for everything else."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from surgery_core.errors import ModelLoadError, SettingsError
from surgery_core.models.offered import list_models, stamp_of
from surgery_core.models.opening import load_model
from tests.core.support import zoo
from tests.core.support.adapters import base_model, edit_config, logits, peft_model, save_adapter
from tests.core.support.fake_hub import COMMIT, FakeHub, serve

# 4 layers; q and o 32 x 32, k and v 16 x 32, three MLP 32 x 64, rank 4: 4 numbers for each row and column
PAIRS = 4 * 4 * (2 * (32 + 32) + 2 * (16 + 32) + 3 * (32 + 64))


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))


@pytest.fixture(scope="module")
def saved(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tiny_folder, tmp_path_factory.mktemp("saved") / "tuned")


@pytest.fixture
def folder(saved: Path, base: Path, tmp_path: Path) -> Path:
    """Return an adapter that names its base by its path."""
    found = Path(shutil.copytree(saved, tmp_path / "tuned"))
    return edit_config(found, base_model_name_or_path=str(base))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with serve() as server:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server


def test_base_and_adapter_open_as_one_model_with_the_facts_of_both(folder: Path, base: Path) -> None:
    loaded, plain = load_model(str(folder)), load_model(str(base))
    assert torch.equal(logits(loaded.model), logits(peft_model(base, folder)))
    info, adapter = loaded.info, loaded.info.adapter
    assert adapter is not None
    assert (info.name, info.kind, info.source) == (str(folder), "folder", str(folder))
    assert info.title == "tuned (adapter on tiny)"
    assert info.n_parameters == plain.info.n_parameters + PAIRS
    assert (info.n_layers, info.architecture, info.dtype) == (4, "LlamaForCausalLM", "float32")
    assert (adapter.name, adapter.kind, adapter.base, adapter.source) == ("tuned", "LoRA", str(base), str(base))
    assert (adapter.ranks, adapter.layers, adapter.around, adapter.n_parameters) == ((4,), (0, 1, 2, 3), (), PAIRS)
    names = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(adapter.modules) == names
    assert plain.info.adapter is None
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_the_facts_name_ranks_layers_and_what_stands_around_them(base: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "rank_pattern": {"q_proj": 2}, "layers_to_transform": [1, 3], "target_modules": ["q_proj", "down_proj"],
        "modules_to_save": ["lm_head"], "use_dora": True,
    }  # fmt: skip
    info = load_model(str(save_adapter(base, tmp_path / "a", **settings))).info.adapter
    assert info is not None
    assert (info.kind, info.ranks, info.layers, info.around) == ("DoRA", (2, 4), (1, 3), ("lm_head",))
    assert set(info.modules) == {"q_proj", "down_proj"}


def test_an_adapter_is_offered_as_one_model_whose_label_says_so(
    folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(folder.parent))
    offered = {choice.name: choice for choice in list_models()}
    choice, plain = offered["tuned"], offered["tiny"]
    assert (choice.title, choice.kind, choice.n_layers) == ("tuned (adapter on tiny)", "folder", 4)
    assert (choice.adapter_of, plain.adapter_of) == (str(base), None)
    assert choice.n_parameters == load_model("tuned").info.n_parameters
    assert load_model("tuned", allow_paths=False).info.title == choice.title


def test_the_heading_of_a_card_names_the_adapter_unless_it_is_the_one_that_peft_writes(folder: Path) -> None:
    assert "Model Card for Model ID" in (folder / "README.md").read_text()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Verse\n")
    info = load_model(str(folder)).info
    assert (info.title, info.licence) == ("Verse (adapter on tiny)", "mit")


@pytest.mark.parametrize(
    "named", ["tiny", "org/tiny", "/home/somebody/models/tiny", "/home/somebody/models/tiny/", "../tiny"]
)
def test_the_base_is_found_among_the_models_that_lie_ready(
    named: str, folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_config(folder, base_model_name_or_path=named)
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(base.parent))
    monkeypatch.chdir(folder)
    loaded = load_model(str(folder))
    assert loaded.info.adapter is not None
    assert loaded.info.adapter.base == named
    assert torch.equal(logits(loaded.model), logits(peft_model(base, folder)))


def test_a_path_in_the_current_folder_comes_before_a_name(
    folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(base, other / "runs" / "tiny")
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(base.parent))
    monkeypatch.chdir(other)
    edit_config(folder, base_model_name_or_path="runs/tiny")
    found = load_model(str(folder)).info.adapter
    assert found is not None
    assert found.source == "runs/tiny"


def test_an_adapter_is_read_again_when_the_files_of_its_base_change(
    folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(folder.parent))
    first, key = stamp_of("tuned"), load_model("tuned").info.key
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] *= 2
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    assert stamp_of("tuned") != first
    assert load_model("tuned").info.key != key


def test_the_tokenizer_that_lies_with_an_adapter_is_used(folder: Path, base: Path) -> None:
    assert load_model(str(folder)).tokenizer.chat_template is None
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for one in messages %}<{{ one.content }}>{% endfor %}"
    tokenizer.save_pretrained(folder)
    opened = load_model(str(folder)).tokenizer
    assert opened.apply_chat_template([{"content": "a"}], tokenize=False) == "<a>"
    assert opened("Once upon a time").input_ids == tokenizer("Once upon a time").input_ids


def test_an_adapter_beside_a_whole_model_is_not_put_on_it(base: Path, folder: Path) -> None:
    expected = logits(base_model(base))
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(folder / file, base / file)
    loaded = load_model(str(base))
    assert loaded.info.adapter is None
    assert loaded.info.notes == ("The adapter that lies beside its weights is not used.",)
    assert torch.equal(logits(loaded.model), expected)


def test_base_and_adapter_must_fit_into_memory_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = load_model(str(folder)).info
    assert info.adapter is not None
    alone = int((info.n_parameters - info.adapter.n_parameters) * 4 * 1.1)
    free = SimpleNamespace(available=alone + 1000)
    monkeypatch.setattr("surgery_core.models.devices.psutil.virtual_memory", lambda: free)
    with pytest.raises(ModelLoadError, match="needs .* GB of memory in float32"):
        load_model(str(folder))
    free.available = int(info.n_parameters * 4 * 1.1) + 1
    assert load_model(str(folder)).info == info


Edit = Callable[[Path], object]


def write(file: str, content: bytes) -> Edit:
    return lambda folder: (folder / file).write_bytes(content)


def config(**changes: Any) -> Edit:
    return lambda folder: edit_config(folder, **changes)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Edit:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return edit


FIRST = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
NORM = "base_model.model.model.norm.weight"
REFUSED: dict[str, tuple[Edit, str]] = {
    "pickles only": (
        lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
        "only pickled weights .adapter_model.bin.*can run code",
    ),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
    "damaged weights": (write("adapter_model.safetensors", b"oops"), "not a safetensors file"),
    "config not JSON": (write("adapter_config.json", b"{"), "adapter_config.json of .* is damaged"),
    "another kind": (config(peft_type="IA3"), "an adapter of the kind IA3; LoRA adapters can be opened"),
    "no kind": (config(peft_type=...), "of the kind unknown"),
    "another task": (config(task_type="SEQ_CLS"), "for the task SEQ_CLS"),
    "PiSSA": (config(init_lora_weights="pissa_niter_4"), "began with pissa_niter_4, which changes its base model"),
    "layers repeated": (config(layer_replication=[[0, 2], [1, 4]]), "with layer_replication, which is not supported"),
    "experts": (config(target_parameters=["mlp.experts.down_proj"]), "with target_parameters"),
    "tokens": (config(trainable_token_indices=[1, 2]), "with trainable_token_indices"),
    "activated": (config(alora_invocation_tokens=[1, 2]), "with alora_invocation_tokens"),
    "of a newer peft": (config(use_magic=True), "with use_magic, which is not supported"),
    "no base": (config(base_model_name_or_path=...), "does not name its base model; write"),
    "a base that is not here": (
        config(base_model_name_or_path="nowhere"),
        "an adapter for 'nowhere', which cannot be opened: there is no model 'nowhere'; give one that is offered",
    ),
    "a base on a hub that is off": (
        config(base_model_name_or_path="org/base"),
        "an adapter for 'org/base', which cannot be opened: the hub is switched off.*has not been downloaded",
    ),
    "a base of another shape": (
        config(base_model_name_or_path="models/fable"),
        r"does not fit its base model 'models/fable' .size mismatch for .*lora_A",
    ),
    "modules that are not there": (config(target_modules=["c_attn"]), "does not fit its base model .*c_attn"),
    "a weight missing": (weights(lambda tensors: tensors.pop(FIRST)), rf"has no weights for {FIRST}, so it would not"),
    "a weight too much": (
        weights(lambda tensors: tensors.update({FIRST.replace("0", "9"): torch.ones(4, 64)})),
        r"has weights that its config does not describe: .*layers\.9\.",
    ),
    "a weight of its base": (
        weights(lambda tensors: tensors.update({NORM: torch.ones(32) * 2})),
        rf"changes weights of its base model, which could not be switched off with it: {NORM}",
    ),
    "ranks beyond its weights": (config(r=1_000_000), "states ranks that its weights do not have .1000000; found: 4"),
    "a rank pattern beyond": (config(rank_pattern={"q_proj": 10**9}), "states ranks"),
    "ranks that are no numbers": (config(r="many"), "states ranks"),
    "rank of another size": (config(r=8), "does not fit its base model .*size mismatch"),
    "a pattern that is none": (config(target_modules="["), "does not fit its base model .*unterminated"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_adapter_that_cannot_be_opened_is_refused_in_one_plain_sentence(case: str, folder: Path) -> None:
    edit, expected = REFUSED[case]
    edit(folder)
    with pytest.raises(ModelLoadError, match=expected) as caught:
        load_model(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert "; " in message, "the sentence must say what to do"


def test_weights_of_the_base_that_are_the_same_are_no_reason_to_refuse(folder: Path, base: Path) -> None:
    weights(lambda tensors: tensors.update({NORM: load_file(base / "model.safetensors")["model.norm.weight"]}))(folder)
    assert torch.equal(logits(load_model(str(folder)).model), logits(peft_model(base, folder)))


def test_trained_biases_of_the_base_are_refused_and_others_open(base: Path, tmp_path: Path) -> None:
    # the tiny Llama has no biases, so there is nothing that could be changed
    assert load_model(str(save_adapter(base, tmp_path / "none", bias="all"))).info.adapter is not None
    biased = save_adapter(base, tmp_path / "biased", bias="lora_only")
    weights(lambda tensors: tensors.update({FIRST.replace("lora_A.weight", "base_layer.bias"): torch.ones(64)}))(biased)
    with pytest.raises(ModelLoadError, match=r"trained biases of its base model .*down_proj.base_layer.bias"):
        load_model(str(biased))


def test_an_adapter_that_replaces_whole_layers_is_refused(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(base, tmp_path / "a", target_modules=["q_proj"], modules_to_save=["3"])
    with pytest.raises(
        ModelLoadError, match=r"has whole layers .* in modules_to_save .model\.layers\.3., which cannot"
    ):
        load_model(str(folder))


def test_an_adapter_on_experts_is_refused(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from surgery_core.models.adapter_checkpoint import read_adapter
    from surgery_core.models.adapter_weights import put_on

    settings = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", base_model_name_or_path="moe")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(zoo.build("mixtral"), settings).save_pretrained(tmp_path, save_embedding_layers=False)
    with pytest.raises(ModelLoadError, match="an adapter with target_parameters, which is not supported; merge"):
        read_adapter(tmp_path, "tuned")
    edit_config(tmp_path, target_parameters=..., target_modules="all-linear")  # as an older peft writes it
    with pytest.raises(
        ModelLoadError, match=r"on single weights, such as those of experts .*layers\.0\.mlp\..*; merge"
    ):
        put_on(zoo.build("mixtral"), read_adapter(tmp_path, "tuned"), "tuned")


def test_an_adapter_of_an_adapter_is_refused(folder: Path, saved: Path, tmp_path: Path) -> None:
    second = edit_config(Path(shutil.copytree(saved, tmp_path / "second")), base_model_name_or_path=str(folder))
    with pytest.raises(ModelLoadError, match="which is an adapter itself; merge that first"):
        load_model(str(second))


def test_an_adapter_is_not_spread_over_devices(folder: Path) -> None:
    with pytest.raises(SettingsError, match="is an adapter, which cannot be spread"):
        load_model(str(folder), device="spread")


def test_an_adapter_whose_base_is_not_here_is_listed_with_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_config(folder, base_model_name_or_path="org/base")
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(folder))
    (choice,) = [one for one in list_models() if one.name == "tuned"]
    assert (choice.title, choice.n_layers, choice.adapter_of) == ("tuned (adapter on org/base)", None, "org/base")


@pytest.fixture
def repositories(hub: FakeHub, folder: Path, base: Path) -> FakeHub:
    """Offer `someone/tuned`, an adapter for `someone/tiny`, with the things beside it that real repositories have."""
    edit_config(folder, base_model_name_or_path="someone/tiny")
    for pickle in ("adapter_model.bin", "training_args.bin", "optimizer.pt"):
        (folder / pickle).write_bytes(b"never fetch this")
    hub.repositories |= {"someone/tuned": folder, "someone/tiny": base}
    return hub


def test_an_adapter_on_the_hub_opens_with_its_base_from_there(repositories: FakeHub, base: Path, folder: Path) -> None:
    loaded = load_model("someone/tuned", allow_paths=False)
    assert torch.equal(logits(loaded.model), logits(peft_model(base, folder)))
    info = loaded.info
    assert (info.kind, info.source, info.revision) == ("hub", "someone/tuned", f"{COMMIT}+{COMMIT}")
    assert info.title == "someone/tuned (adapter on someone/tiny)"
    fetched = repositories.fetched()
    assert {"adapter_config.json", "adapter_model.safetensors", "model.safetensors", "tokenizer.json"} <= fetched
    assert not {file for file in fetched if file.endswith((".bin", ".pt"))}


def test_what_was_downloaded_is_offered_and_opens_without_a_network(
    repositories: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = load_model("someone/tuned").info
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offered = {choice.name: choice for choice in list_models()}
    assert offered["someone/tuned"].title == "someone/tuned (adapter on someone/tiny)"
    assert offered["someone/tuned"].n_layers == 4
    assert load_model("someone/tuned").info == opened


def test_a_pickled_or_unsupported_adapter_on_the_hub_is_refused_before_it_is_fetched(
    repositories: FakeHub, folder: Path
) -> None:
    edit_config(folder, use_qalora=True)
    with pytest.raises(ModelLoadError, match="'someone/tuned' is an adapter with use_qalora"):
        load_model("someone/tuned")
    assert repositories.fetched() == {"adapter_config.json"}
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="'someone/tuned' has only pickled weights"):
        load_model("someone/tuned")
    assert repositories.fetched() == {"adapter_config.json"}


def test_an_adapter_from_the_hub_leads_a_visitor_to_no_folder_of_the_server(
    repositories: FakeHub, folder: Path, base: Path
) -> None:
    edit_config(folder, base_model_name_or_path=str(base))
    with pytest.raises(ModelLoadError, match="cannot be opened: there is no model"):
        load_model("someone/tuned", allow_paths=False)
    assert load_model("someone/tuned").info.adapter is not None


def test_a_base_that_the_hub_does_not_have_is_named(repositories: FakeHub, folder: Path) -> None:
    edit_config(folder, base_model_name_or_path="someone/else")
    with pytest.raises(
        ModelLoadError, match="an adapter for 'someone/else', which cannot be opened: there is no public"
    ):
        load_model("someone/tuned")


def test_the_revision_of_the_base_that_an_adapter_names_is_asked_for(repositories: FakeHub, folder: Path) -> None:
    edit_config(folder, revision="v9")
    with pytest.raises(ModelLoadError, match="for 'someone/tiny', which cannot be opened: .*no revision 'v9'"):
        load_model("someone/tuned")


def test_the_config_of_an_adapter_is_what_peft_reads(folder: Path) -> None:
    """Every entry that peft writes is known here, so that an entry which is not is one of a newer peft."""
    from surgery_core.models.adapter_checkpoint import read_adapter_config

    assert read_adapter_config(folder, "tuned") == json.loads((folder / "adapter_config.json").read_text())

"""Putting an adapter on its base model with peft, and refusing what peft would let pass silently."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from surgery_core.errors import ModelLoadError
from surgery_core.models.adapter_checkpoint import BUILT_FROM, WEIGHTS, AdapterCheckpoint
from surgery_core.models.weights import LOAD_FAILURES, first_line, quiet
from surgery_core.surgery.adapters import adapter_paths
from surgery_core.surgery.anatomy import adapters_around, find_layers


@dataclass(frozen=True)
class AdapterPlaces:
    """Where an adapter is on its base model.

    Attributes:
        modules: names of the modules inside layers that it was put around, each once, such as `"q_proj"`.
        layers: the layers in which it has some.
        around: paths of the modules outside of the layers that it was put around.
    """

    modules: tuple[str, ...]
    layers: tuple[int, ...]
    around: tuple[str, ...]


def put_on(model: PreTrainedModel, adapter: AdapterCheckpoint, name: str) -> AdapterPlaces:
    """Put an adapter on its base model, which is changed by that: modules are put around some of its own.

    No weight of the base model is written to; the model is in eval mode and without gradients afterwards.

    Raises:
        ModelLoadError: when the adapter does not fit the model exactly, or when its whole layers would be replaced.
    """
    path, before = find_layers(model)[0], _stored_too(model, adapter)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _loaded(model, adapter)
    except (*LOAD_FAILURES, re.error) as error:
        raise ModelLoadError(
            f"{name!r} does not fit its base model {adapter.base!r} ({_why(error)}); "
            "name the model that it was trained on as base_model_name_or_path in its adapter_config.json."
        ) from error
    _require_covered(found, adapter, before, name)
    places = _places(model, path, name)
    model.eval().requires_grad_(False)
    return places


def _loaded(model: PreTrainedModel, adapter: AdapterCheckpoint) -> frozenset[str]:
    """Let peft put the adapter on; return the names of the tensors that it has there."""
    from peft import LoraConfig, PeftModel, get_peft_model_state_dict

    given = {key: adapter.config[key] for key in BUILT_FROM if key in adapter.config}
    config = LoraConfig(**given, task_type="CAUSAL_LM", base_model_name_or_path=adapter.base)
    whole: Any = PeftModel.from_pretrained(model, str(adapter.folder), config=config, torch_device="cpu")
    return frozenset(get_peft_model_state_dict(whole, save_embedding_layers=False))


def _stored_too(model: PreTrainedModel, adapter: AdapterCheckpoint) -> dict[str, torch.Tensor]:
    """Return copies of the base model's own weights that an adapter's file has too, by their names in the file.

    peft stores embeddings and head with an adapter that was put around them, and writes them over those of the base.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    names = {key: key.removeprefix("base_model.model.").replace(".base_layer.", ".") for key in adapter.keys}
    return {key: own[name].detach().clone() for key, name in names.items() if name in own}


def _require_covered(
    found: frozenset[str], adapter: AdapterCheckpoint, before: dict[str, torch.Tensor], name: str
) -> None:
    """Refuse weights that do not cover the adapter exactly: peft fills what lacks, and drops what is too much.

    Those of the base itself have to be the same there.
    """
    beside = adapter.keys - found
    with safe_open(adapter.folder / WEIGHTS, "pt") as file:
        same = {key for key in beside & before.keys() if _equal(file.get_tensor(key), before[key])}
    for keys, problem in (
        (sorted(found - adapter.keys), "has no weights for"),
        (sorted(beside - before.keys()), "has weights that its config does not describe:"),
        (sorted(beside - same), "changes weights of its base model, which could not be switched off with it:"),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise ModelLoadError(
                f"The adapter {name!r} {problem} {keys[0]}{more}, so it would not run as it was trained; "
                "copy or download it again, or merge it with merge_and_unload and open that."
            )


def _why(error: BaseException) -> str:
    """Return what an error says; of weights that do not fit, the first that does not."""
    lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
    return lines[0].split(":")[0] if lines else first_line(error)


def _equal(stored: torch.Tensor, own: torch.Tensor) -> bool:
    return stored.shape == own.shape and torch.equal(stored.to(own.dtype), own.cpu())


def _places(model: PreTrainedModel, layers_path: str, name: str) -> AdapterPlaces:
    paths, prefix = adapter_paths(model), f"{layers_path}."
    inside = [path.removeprefix(prefix).partition(".") for path in paths if path.startswith(prefix)]
    whole = [path for path in paths if prefix.startswith(f"{path}.")] + [
        prefix + at for at, _, rest in inside if not rest
    ]
    if whole:
        raise ModelLoadError(
            f"{name!r} has whole layers of its base model in modules_to_save ({whole[0]}), which cannot be operated on; "
            "merge it with merge_and_unload and open that."
        )
    if single := [path for path in paths if _changes_its_weights(model.get_submodule(path))]:
        raise ModelLoadError(
            f"{name!r} is an adapter on single weights, such as those of experts ({single[0]}), which changes them while "
            "the model runs and is not supported; merge it with merge_and_unload and open that."
        )
    return AdapterPlaces(
        modules=_once(path.rpartition(".")[2] for _, _, path in inside),
        layers=tuple(sorted({int(number) for number, _, _ in inside})),
        around=adapters_around(model),
    )


def _changes_its_weights(adapter: Any) -> bool:
    """Whether an adapter sets weights of what it was put around for as long as it runs: no two threads may run that."""
    from peft.tuners.lora.layer import ParamWrapper

    return isinstance(adapter, ParamWrapper)


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))

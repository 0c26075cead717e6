"""Make a view an ordinary model that can be saved, and say why one cannot.

A saved model is built anew from its config, so whatever a view keeps apart has to stand in the config or in the
weights: repeated layers need tensors of their own, embeddings with a part for each layer (Gemma 3n, Gemma 4) have to be
cut to the layers that run, and settings by layer have to follow. What a class computes from the place of a layer when
it builds it can be in neither.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from surgery_core.loading import ONE_AT_A_TIME
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.adapters import merge, unwrapped
from surgery_core.surgery.anatomy import Operated, find_layers, root_of, text_config
from surgery_core.surgery.config import is_attention
from surgery_core.surgery.layer_inputs import PerLayerInputs, Picked
from surgery_core.surgery.marks import mark, needed_mark
from surgery_core.surgery.names import DEPTH_UNDER_ROOT, PATTERNS, PERIODS, index_names
from surgery_core.surgery.sharing import reads_shared

State = Mapping[str, torch.Tensor]


def save_view(view: Any, folder: str | Path, dtype: torch.dtype | None = None, *, exact: bool = False) -> State:
    """Save a view to a folder as an ordinary checkpoint; the view gets tensors and settings of its own.

    Adapters in it become part of its weights.

    Args:
        view: the operated model.
        folder: where it goes.
        dtype: number format to store weights in, by default that of the view.
        exact: keep a tensor as it is where that format would round it.

    Returns:
        The weights as they were stored, by name.

    Raises:
        OSError: when the folder cannot be written.
    """
    _make_whole(view)
    view = unwrapped(view)
    state = _stored(view.state_dict(), view.dtype if dtype is None else dtype, exact)
    # it takes out of the dictionary what it has written
    view.save_pretrained(folder, state_dict=dict(state) if dtype not in (None, view.dtype) else None)
    if (whole := _whole_config(view)) is not None:
        whole.save_pretrained(folder)
    _state_format(Path(folder) / "config.json", view.dtype, _main_format(state, view.dtype))
    return state


def made_independent(view: Any) -> Any:
    """Return a view as a model of its own: what knows a view's plan must not take its layers for those of the base.

    For a view whose weights were changed. It still shares with the base what was not; saving it changes nothing more.
    """
    _make_whole(view)
    path, layers = find_layers(view)
    mark(view, Operated(path, LayerPlan.identity(len(layers)), None))
    return view


def _make_whole(view: Any) -> None:
    """Have a view's weights and config say all that a view keeps apart."""
    merge(view)
    unshare_layers(view)
    _cut_per_layer_inputs(view)
    _settle(view, text_config(view))


def _stored(state: State, dtype: torch.dtype, exact: bool) -> State:
    """Return weights in another number format; tensors that share their memory still do.

    What accelerate keeps on a disk is without memory here, and stays as it is.
    """
    cast: dict[tuple[object, ...], torch.Tensor] = {}
    found = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr() or name, tensor.shape, tensor.stride(), tensor.dtype)
        if place not in cast:
            cast[place] = _in_format(tensor, dtype, exact)
        found[name] = cast[place]
    return found


def _in_format(tensor: torch.Tensor, dtype: torch.dtype, exact: bool) -> torch.Tensor:
    if not tensor.is_floating_point() or tensor.dtype == dtype or tensor.is_meta:
        return tensor
    rounded = tensor.to(dtype)
    # what is no number is not equal to itself
    same = not exact or torch.equal(rounded.to(tensor.dtype).nan_to_num(), tensor.nan_to_num())
    return rounded if same else tensor


def _main_format(state: State, default: torch.dtype) -> torch.dtype:
    """Return the format of most of the numbers."""
    counts = Counter[torch.dtype]()
    for tensor in state.values():
        if tensor.is_floating_point():
            counts[tensor.dtype] += tensor.numel()
    return counts.most_common(1)[0][0] if counts else default


def _state_format(path: Path, written: torch.dtype, stored: torch.dtype) -> None:
    """Have a config state the format that its weights are stored in; transformers writes that of the open model."""
    if written == stored:
        return
    before, after = (f'"dtype": "{str(one).removeprefix("torch.")}"' for one in (written, stored))
    path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")


def unshare_layers(model: nn.Module) -> None:
    """Give every repeated layer of a view tensors of its own; safetensors refuses to store one tensor twice."""
    seen: set[int] = set()
    for layer in find_layers(model)[1]:
        copies: dict[int, torch.Tensor] = {}
        for module in layer.modules():
            for store in (module._parameters, module._buffers):
                _unshare(store, seen, copies)
        seen |= {id(tensor) for tensor in (*layer.parameters(), *layer.buffers())}


def cannot_be_saved(view: nn.Module, saved: nn.Module) -> str:
    """Return why a model that was saved and opened again differs from the view, as a sentence; empty if unknown."""
    ours, theirs = find_layers(view)[1], find_layers(saved)[1]
    name = type(view).__name__
    for number, (layer, other) in enumerate(zip(ours, theirs, strict=False)):
        left, right = dict(layer.named_modules()), dict(other.named_modules())
        kinds = [type(left[path]).__mro__ for path in left.keys() & right.keys()]
        same = all(type(right[path]) in mro for path, mro in zip(left.keys() & right.keys(), kinds, strict=True))
        if left.keys() != right.keys() or not same:
            return (
                f"The config of {name} states which kind of layer stands where in a form that cannot express this order: "
                f"slot {number} would be built as another kind of layer."
            )
        for path in left:
            if (key := _other_number(left[path], right[path])) is not None:
                return (
                    f"{name} sets {key} of a layer by the layer's place when it builds it, and its config has no way to "
                    f"keep what the layer in slot {number} has from the place that it came from."
                )
    stored = saved.state_dict()
    changed = [
        key for key, tensor in view.state_dict().items() if key in stored and not torch.equal(tensor, stored[key])
    ]
    return f"transformers changes {changed[0]} when it opens a {name}." if changed else ""


def _unshare(store: Any, seen: set[int], copies: dict[int, torch.Tensor]) -> None:
    for name, tensor in store.items():
        if tensor is not None and id(tensor) in seen:
            copy = tensor.detach().clone()
            copies.setdefault(id(tensor), nn.Parameter(copy, False) if isinstance(tensor, nn.Parameter) else copy)
            store[name] = copies[id(tensor)]


def _cut_per_layer_inputs(view: nn.Module) -> None:
    """Cut embeddings with a part for each layer to the layers that run, in their order."""
    owner: Any = view.get_submodule(find_layers(view)[0].rpartition(".")[0])
    if PerLayerInputs not in type(owner).__mro__ or not getattr(owner, "hidden_size_per_layer_input", 0):
        return
    picked = needed_mark(owner, Picked)
    order, n_layers = list(picked.order), picked.whole.config.num_hidden_layers
    table, projection = owner.embed_tokens_per_layer, owner.per_layer_model_projection
    columns = table.weight.unflatten(1, (n_layers, -1))[:, order].flatten(1)
    rows = projection.weight.unflatten(0, (n_layers, -1))[order].flatten(0, 1)
    for module, weight in ((table, columns), (projection, rows)):
        module.weight = nn.Parameter(weight.clone(), requires_grad=False)
    table.embedding_dim, projection.out_features = columns.shape[1], rows.shape[0]
    owner.__class__ = type(owner).__mro__[2]


def _settle(view: nn.Module, config: Any) -> None:
    """Rewrite those settings of a view's config from which a class builds its layers by their place or number."""
    known, layers = config.__dict__, find_layers(view)[1]
    for key in DEPTH_UNDER_ROOT:
        if isinstance(value := known.get(key), float | int):
            known[key] = value * math.sqrt(len(layers) / len(find_layers(root_of(view))[1]))
    for key, listed, yes, no in PATTERNS:
        if key in known:
            known[key] = [yes if is_attention(kind) else no for kind in getattr(config, listed)]
    for period, offset, listed in PERIODS:
        if period in known and (found := _period([_is_marked(entry) for entry in getattr(config, listed)])) is not None:
            known[period], known[offset] = found
    if known.get("num_kv_shared_layers"):
        known["num_kv_shared_layers"] = sum(reads_shared(layer) for layer in layers)


def _is_marked(entry: str | int) -> bool:
    """Whether an entry of a list is the kind that stands at every n-th place: attention, or more than one expert."""
    return is_attention(entry) if isinstance(entry, str) else entry > 1


def _period(marks: list[bool]) -> tuple[int, int] | None:
    """Return (period, offset) of places `offset`, `offset + period`, ... that are marked, or None where no such fits."""
    for period in range(1, len(marks) + 2):
        for offset in range(period):
            if marks == [place % period == offset for place in range(len(marks))]:
                return period, offset
    return None


def _other_number(left: nn.Module, right: nn.Module) -> str | None:
    """Return the name of a number that two modules keep and that differs, or None; cache indices may differ."""
    for key, value in left.__dict__.items():
        other = right.__dict__.get(key)
        numbers = isinstance(value, int | float) and isinstance(other, int | float)
        if numbers and value != other and key not in index_names() and not key.startswith("_"):
            return key
    return None


def _whole_config(view: Any) -> Any:
    """Return the config to store where the view's own, of a language part, is none that AutoModelForCausalLM knows."""
    config, names = view.config, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if config.model_type in names:
        return None
    for model_type in (key for key, name in names.items() if name == type(view).__name__):
        whole: Any = CONFIG_MAPPING[model_type]
        part = getattr(whole, "sub_configs", {}).get("text_config")
        if part is not None and part.__name__ == type(config).__name__:
            return whole(text_config=config.to_dict(), architectures=[type(view).__name__])
    return None


def reopened(view: Any, folder: str | Path) -> Any:
    """Return the model that was saved in a folder, opened by plain transformers as the view was: format and device."""
    with ONE_AT_A_TIME:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=view.dtype, local_files_only=True)
    return model.to(view.device).eval()

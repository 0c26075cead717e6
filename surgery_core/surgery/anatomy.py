"""Find the parts of a causal language model: layers, final norm, embeddings, and the halves of a layer.

Parts are found by structure, with the names that architectures share as a tie-break, never by a list of classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery_core.errors import AnatomyError
from surgery_core.plans.plan import LayerPlan, normalise_positions
from surgery_core.surgery.adapters import adapter_paths
from surgery_core.surgery.layer_parts import halves_of
from surgery_core.surgery.marks import mark_of
from surgery_core.surgery.names import CONTEXT_KEYS, DEPTH_KEYS, FINAL_NORMS, NOT_FINAL, WIDTH_KEYS, names_of


@dataclass(frozen=True, eq=False)
class Operated:
    """What an operated model remembers.

    Attributes:
        layers_path: dotted path of its layers, whose number says nothing any more.
        plan: what it was made with.
        base: what it is a view of, in a `Held`; None where it was operated in place.
    """

    layers_path: str
    plan: LayerPlan
    base: Held | None = None


@dataclass(frozen=True, eq=False)
class Held:
    """Holds a model where cloning does not follow it, as it would follow a module."""

    model: Any


def base_of(model: nn.Module) -> Any:
    """Return the model that a view was made of, or None for a model that is no view."""
    known = mark_of(model, Operated)
    return known.base.model if known is not None and known.base is not None else None


def root_of(model: nn.Module) -> nn.Module:
    """Return the model that a view, or a view of a view, was made of in the end; a model that is no view itself."""
    while (base := base_of(model)) is not None:
        model = base
    return model


def plan_of(model: nn.Module) -> LayerPlan:
    """Return the plan that a view was made with; the identity for a model that is no view."""
    known = mark_of(model, Operated)
    return known.plan if known is not None else LayerPlan.identity(len(find_layers(model)[1]))


def adapters_around(model: nn.Module) -> tuple[str, ...]:
    """Return the paths of the adapters outside of a model's layers: on its embeddings, final norm or head.

    A view may run without those that its base has.
    """
    paths = adapter_paths(model)
    layers = f"{find_layers(model)[0]}." if paths else ""
    return tuple(path for path in paths if not path.startswith(layers))


def adapters_left_out(model: nn.Module, plan: LayerPlan) -> tuple[str, ...]:
    """Return which of those a plan leaves out: all of them where every layer of the model that runs is bare.

    So a plan whose layers all run without their adapters is the model without its adapter, wherever it has some.
    """
    own = [layer for slot in plan for layer in slot.layers if layer.donor is None]
    return () if not own or any(layer.adapter for layer in own) else adapters_around(model)


@dataclass(frozen=True)
class Anatomy:
    """Where the parts of a model are.

    Attributes:
        layers_path: dotted path of the layer list from the model.
        layers: the layer list itself, `n_layers` modules.
        owner: the module that holds the layer list.
        n_layers: how many layers run.
        d_model: width of the residual stream.
        final_norm: the norm after the last layer, or None where the model has none.
        final_norm_path: its dotted path, or None.
        embed: the token embedding.
        unembed: the module that maps the normed residual stream to logits, or None.
        attention_path: path of the attention (or other token mixer) in the first layer, or None.
        mlp_path: path in the first layer of the module whose output is the MLP's contribution, or None. Layers can
            differ; `halves_of` has those of any layer, also where there are several of a kind.
        context_length: most tokens that the model reads at once, or None where it states none.
        vocab_size: number of logits.
    """

    layers_path: str
    layers: nn.ModuleList
    owner: nn.Module
    n_layers: int
    d_model: int
    final_norm: nn.Module | None
    final_norm_path: str | None
    embed: nn.Module
    unembed: nn.Module | None
    attention_path: str | None
    mlp_path: str | None
    context_length: int | None
    vocab_size: int

    def layer(self, index: int) -> LayerParts:
        """Return the parts of one layer as modules; a negative index counts from the end.

        Raises:
            PlanError: when there is no such layer.
        """
        layer = self.layers[normalise_positions(index, len(self.layers))[0]]
        attention, mlp = (layer.get_submodule(path) if path else None for path in find_halves(layer))
        return LayerParts(layer, attention, mlp)


@dataclass(frozen=True, eq=False)
class LayerParts:
    """A layer and its two halves, each the model's own module.

    Attributes:
        layer: itself.
        attention: its attention or other token mixer, or None where it has none.
        mlp: the module whose output is the MLP's contribution, or None. Mostly it reads and writes the residual stream.
    """

    layer: nn.Module
    attention: nn.Module | None
    mlp: nn.Module | None


def inspect_model(model: nn.Module) -> Anatomy:
    """Find the parts of a causal language model.

    Raises:
        AnatomyError: when no list of layers is found.
    """
    path, layers = find_layers(model)
    owner = model.get_submodule(path.rpartition(".")[0])
    norm = find_final_norm(model)
    config = text_config(model)
    attention, mlp = find_halves(layers[0]) if len(layers) else (None, None)
    return Anatomy(
        layers_path=path,
        layers=layers,
        owner=owner,
        n_layers=len(layers),
        d_model=width_of(model),
        final_norm=norm[1] if norm else None,
        final_norm_path=norm[0] if norm else None,
        embed=model.get_input_embeddings(),  # type: ignore[operator]
        unembed=model.get_output_embeddings(),  # type: ignore[operator]
        attention_path=attention,
        mlp_path=mlp,
        context_length=context_length(model),
        vocab_size=int(getattr(config, "vocab_size", 0)),
    )


def find_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the dotted path and the module list of the decoder's layers.

    It is the outermost module list whose length is the depth in the text config; of several, the one with most
    parameters. A view of another depth remembers the path, and a path that `name_parts` gave comes first.

    Raises:
        AnatomyError: when there is none.
    """
    known = mark_of(model, Operated)
    if known is not None:
        return known.layers_path, model.get_submodule(known.layers_path)  # type: ignore[return-value]
    if told := names_of(model).layers:
        return told, _told_list(model, told)
    depths = set(depths_of(text_config(model)))
    candidates = [
        (path, module) for path, module in _outer_lists(model) if len(module) in depths and len(set(module)) > 0
    ]
    if not candidates:
        raise AnatomyError(
            f"No list of layers was found in {type(model).__name__}; "
            f"a module list of {_spoken(depths)} layers was looked for. This architecture is not supported."
        )
    if len(candidates) == 1:
        return candidates[0]
    return max(candidates, key=lambda item: sum(p.numel() for p in item[1].parameters()))


def find_final_norm(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Return the path and module of the norm between the last layer and the unembedding, or None.

    It is the normalisation beside the layer list that is not the embeddings' own (LFM2 calls its last one
    `embedding_norm`) nor that of inputs which each layer gets (Gemma 3n).
    """
    if told := names_of(model).final_norm:
        return told, model.get_submodule(told)
    path = find_layers(model)[0]
    owner_path = path.rpartition(".")[0]
    owner = model.get_submodule(owner_path)
    norms = [
        (name, child)
        for name, child in owner.named_children()
        if "norm" in type(child).__name__.lower()
        and (name in FINAL_NORMS or not any(part in name.lower() for part in NOT_FINAL))
    ]
    if not norms:
        return None
    name, norm = norms[-1]
    return f"{owner_path}.{name}" if owner_path else name, norm


def find_halves(layer: nn.Module) -> tuple[str | None, str | None]:
    """Return the paths of the attention (or other token mixer) and the MLP inside a layer, None where not found."""
    halves = halves_of(layer)
    return halves.mixer, halves.mlp[0] if halves.mlp else None


def text_config(model: nn.Module) -> Any:
    """Return the config of the language part (the model's own where it is not multimodal).

    Raises:
        AnatomyError: when the model has none, as only models of transformers do.
    """
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "get_text_config"):
        raise AnatomyError(f"{type(model).__name__} has no config of transformers; give a causal language model of it.")
    return config.get_text_config(decoder=True)


def depths_of(config: Any) -> list[int]:
    """Return the depths that a config states under any of the usual names."""
    return [
        value for key in (*names_of(config).depth, *DEPTH_KEYS) if isinstance(value := getattr(config, key, None), int)
    ]


def width_of(model: nn.Module) -> int:
    """Return d_model, the width of the residual stream."""
    config = text_config(model)
    for key in (*names_of(config).width, *WIDTH_KEYS):
        if isinstance(value := getattr(config, key, None), int):
            return value
    return int(model.get_input_embeddings().weight.shape[-1])  # type: ignore[operator]


def context_length(model: nn.Module) -> int | None:
    """Return the most tokens that the model reads at once, or None where its config states no bound."""
    config = text_config(model)
    keys = (*names_of(config).context, *CONTEXT_KEYS)
    values = [value for key in keys if isinstance(value := getattr(config, key, None), int) and value > 0]
    return min(values) if values else None


def is_quantised(model: nn.Module) -> bool:
    """Whether weights are stored as anything else than plain tensors (bitsandbytes, torchao, packed dynamic int8)."""
    if getattr(getattr(model, "config", None), "quantization_config", None) is not None:
        return True
    packed = any(callable(getattr(module, "weight", None)) for module in model.modules())
    return packed or any(type(parameter) is not nn.Parameter for parameter in model.parameters())


def device_of(model: nn.Module) -> torch.device:
    """Return the device that inputs go to: where accelerate runs an offloaded model, else that of its weights."""
    for module in model.modules():
        place = getattr(module.__dict__.get("_hf_hook"), "execution_device", None)
        if place is not None:
            return torch.device(place)
    devices = (parameter.device for parameter in model.parameters() if parameter.device.type != "meta")
    return next(devices, torch.device("cpu"))


def _told_list(model: nn.Module, path: str) -> nn.ModuleList:
    try:
        found = model.get_submodule(path)
    except AttributeError:
        found = None
    if not isinstance(found, nn.ModuleList):
        raise AnatomyError(
            f"{type(model).__name__} has no list of layers at {path!r}, which it was said to have; name another path."
        )
    return found


def _outer_lists(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.ModuleList]]:
    for name, child in module.named_children():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(child, nn.ModuleList):
            yield path, child
        else:
            yield from _outer_lists(child, path)


def _spoken(depths: set[int]) -> str:
    return " or ".join(map(str, sorted(depths))) or "an unstated number of"

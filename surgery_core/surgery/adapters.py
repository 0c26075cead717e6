"""Adapters that peft has put into a model: where they are, how one is taken off, how it becomes part of the weights.

An adapter is a module around one of the model's own, which it keeps unchanged. Nothing here loads peft: where it made a
module, it is loaded already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from surgery_core.surgery.clone import HOOK_DICTS


def adapter_paths(module: nn.Module) -> list[str]:
    """Return the dotted paths of the adapters inside a module."""
    kinds = _kinds()
    return list(_walk(module, "", kinds)) if kinds else []


def has_adapter(module: nn.Module) -> bool:
    """Whether there is an adapter inside a module."""
    return bool(adapter_paths(module))


def bare(adapter: Any) -> nn.Module:
    """Return the module that an adapter was put around."""
    found: nn.Module = adapter.get_base_layer() if hasattr(adapter, "get_base_layer") else adapter.original_module
    return found


def take_off(clone: nn.Module, paths: Iterable[str] | None = None) -> None:
    """Put what adapters were put around in their place, with the hooks that the adapters had.

    Args:
        clone: a module that is nobody else's.
        paths: of the adapters; by default of all inside it.
    """
    for path in adapter_paths(clone) if paths is None else paths:
        parent, name, adapter = _held(clone, path)
        parent._modules[name] = taken_off(adapter)


def taken_off(adapter: nn.Module) -> nn.Module:
    """Return what a cloned adapter was put around, with the adapter's hooks."""
    found = bare(adapter)
    for key in HOOK_DICTS:
        found.__dict__[key].update(adapter.__dict__[key])
    return found


def merge(view: nn.Module) -> None:
    """Make the adapters in a view part of its weights, as peft merges them; weights that change are new tensors.

    A bias that an adapter adds needs one in the module that it was put around; that gets one where it has none.
    """
    paths = adapter_paths(view)
    for path in paths:
        parent, name, adapter = _held(view, path)
        parent._modules[name] = _merged(adapter)
    if paths:
        view.__dict__.pop("peft_config", None)
        _untie(view)


def unwrapped(model: Any) -> Any:
    """Return the model in the wrapper that peft's own functions return; any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def switched_off(copy: nn.Module, paths: Iterable[str], *, off: bool = True) -> dict[str, bool]:
    """Switch adapters off, or on, by peft's own switch, which is not how surgery takes them off.

    Args:
        copy: a module that is nobody else's.
        paths: of the adapters in it.
        off: whether they are off from then on.

    Returns:
        Whether each was off before, by its path.
    """
    before = {}
    for path in paths:
        for inner, module in copy.get_submodule(path).named_modules(prefix=path):
            if isinstance(module, _kinds()):  # several may lie around one another
                switch: Any = module
                before[inner] = bool(switch.disable_adapters)
                # its public switch changes which weights want gradients, and those are everybody's
                switch._disable_adapters = off
    return before


def _kinds() -> tuple[type, ...]:
    """Return the classes of modules that peft puts around others; none where peft was never loaded."""
    if "peft" not in sys.modules:
        return ()
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    return BaseTunerLayer, AuxiliaryTrainingWrapper


def _walk(module: nn.Module, prefix: str, kinds: tuple[type, ...]) -> Iterator[str]:
    for name, child in module._modules.items():
        if isinstance(child, kinds):
            yield prefix + name
        elif child is not None:
            yield from _walk(child, f"{prefix}{name}.", kinds)


def _held(module: nn.Module, path: str) -> tuple[nn.Module, str, Any]:
    """Return what holds the module at a path, its name there, and the module."""
    outer, _, name = path.rpartition(".")
    parent = module.get_submodule(outer)
    return parent, name, parent._modules[name]


def _merged(adapter: Any) -> nn.Module:
    if hasattr(adapter, "unload_and_optionally_merge_module"):
        whole: nn.Module = adapter.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
        return whole
    base: Any = adapter.get_base_layer()
    for name, tensor in base._parameters.items():
        if tensor is not None:
            base._parameters[name] = nn.Parameter(tensor.detach().clone(), requires_grad=False)
    if any(getattr(adapter, "lora_bias", {}).values()) and base.bias is None:
        base._parameters["bias"] = nn.Parameter(torch.zeros_like(base.weight[:, 0]), requires_grad=False)
    adapter.merge(safe_merge=True)
    return base  # type: ignore[no-any-return]


def _untie(view: Any) -> None:
    """Say in the config that embeddings and head are two things, where merging has made them so."""
    ends = view.get_input_embeddings(), view.get_output_embeddings()
    if None not in ends and ends[0].weight is not ends[1].weight and getattr(view.config, "tie_word_embeddings", False):
        view.config.tie_word_embeddings = False

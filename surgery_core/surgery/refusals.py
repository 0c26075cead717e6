"""What the structure of a model forbids, said before anything is built."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.surgery.anatomy import base_of, text_config
from surgery_core.surgery.behaviours import (
    Member,
)
from surgery_core.surgery.config import is_attention
from surgery_core.surgery.marks import mark_of
from surgery_core.surgery.names import names_of
from surgery_core.surgery.sharing import sharing_of


def check_groups(layers: nn.ModuleList | Sequence[nn.Module], order: Sequence[int]) -> None:
    """Refuse to tear apart the parallel layers, or the damped block, of a view that is operated once more.

    Raises:
        RefusedPlanError: when a member runs without the others of its group, or in another order.
    """
    expected = 0
    for index in order:
        layer: Any = layers[index]
        member = mark_of(layer, Member)
        if (member.number if member else 0) != expected:
            break
        expected = 0 if member is None or member.is_last else member.number + 1
    else:
        if expected == 0:
            return
    raise RefusedPlanError(
        "The model that is operated has parallel or damped layers, which would be torn apart; make one plan for its base."
    )


def check_single_list(model: nn.Module, path: str, n_layers: int) -> None:
    """Refuse models that keep the parts of a layer in several lists side by side (XLM and its kin).

    Whoever said which list the layers are in (`name_parts`) is believed; `prove` tries it.

    Raises:
        RefusedPlanError: naming the lists.
    """
    # of a view, the base tells: another list (of Gemma 3n's streams) can have as many entries as the view has layers
    while (base := base_of(model)) is not None:
        model = base
        n_layers = len(model.get_submodule(path))  # type: ignore[arg-type]
    if names_of(model).layers:
        return
    owner = model.get_submodule(path.rpartition(".")[0])
    lists = [
        name
        for name, child in owner.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == n_layers and next(child.parameters(), None) is not None
    ]
    if len(lists) > 1 and n_layers > 1:
        raise RefusedPlanError(
            f"A {type(model).__name__} keeps the parts of its layers in {len(lists)} lists ({', '.join(lists)}), "
            "so its layers cannot be rearranged; choose another architecture."
        )


def check_attention(model: nn.Module, order: Sequence[int]) -> None:
    """Refuse a plan that leaves a hybrid model without attention, where its cache counts the tokens.

    Raises:
        RefusedPlanError: naming the attention layers of the base.
    """
    types = getattr(text_config(model), "layer_types", None) or []
    attention = [index for index, kind in enumerate(types) if is_attention(kind)]
    if not order or not attention or len(attention) == len(types) or set(order) & set(attention):
        return
    names = ", ".join(f"L{index}" for index in attention)
    raise RefusedPlanError(
        "No attention layer is left, and this architecture counts its tokens in the cache of one; "
        f"keep at least one of {names}."
    )


def check_sharing(layers: nn.ModuleList | Sequence[nn.Module], order: Sequence[int]) -> None:
    """Refuse a plan in which a layer that reads an earlier layer's keys and values has none to read before it.

    Only some of the layers with keys and values of their own keep them for later ones (Gemma 3n, Gemma 4).

    Args:
        layers: of the base.
        order: what runs, by original index.

    Raises:
        RefusedPlanError: naming the layer, and those that could run before it.
    """
    kept: set[Hashable] = set()
    for index in order:
        found = sharing_of(layers[index])
        if found is None:
            continue
        if found.reads and found.kind not in kept:
            raise RefusedPlanError(
                f"L{index} has no keys and values of its own, and no layer that keeps its own for it runs before it; "
                f"run {_keepers(layers, found.kind)} earlier, or leave L{index} out."
            )
        if found.keeps:
            kept.add(found.kind)


def _keepers(layers: nn.ModuleList | Sequence[nn.Module], kind: Hashable) -> str:
    shared = ((at, sharing_of(layer)) for at, layer in enumerate(layers))
    return " or ".join(f"L{at}" for at, found in shared if found is not None and found.keeps and found.kind == kind)

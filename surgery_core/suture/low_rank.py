"""Low-rank updates of a view's layers (LoRA, Hu et al., arXiv 2106.09685), as peft's own modules on private clones.

peft's functions that put adapters on a whole model set which of its weights want gradients, and those are everybody's. So
its modules are put around the linear maps of a private view one by one, and gradients are asked of their matrices alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.layer_parts import halves_of

_NAME = "heal"
"""What peft calls them."""


class LowRank:
    """Updates of linear maps in some slots of a view.

    Args:
        view: nobody else's; its modules are put into others.
        plan: as it was asked for: a half that does not run there is not trained back.
        slots: whose maps are updated.
        rank: of each, or the smaller side of the map where that is less.
        seed: of the first matrices; the second ones begin as zeros, so the view computes what it did.

    Raises:
        RefusedPlanError: when there is no linear map in them.
    """

    def __init__(self, view: nn.Module, plan: LayerPlan, slots: Sequence[int], rank: int, seed: int) -> None:
        self._adapters = dict[str, Any]()
        layers, generator = find_layers(view)[1], torch.Generator().manual_seed(seed)
        for slot in slots:
            for path in _linear_maps(layers[slot], plan[slot].layers[0].part):
                self._adapters[f"{slot}.{path}"] = _put_around(layers[slot], path, rank, generator)
        if not self._adapters:
            raise RefusedPlanError(
                f"Layers of a {type(layers[slots[0]]).__name__} have no linear maps of their own that could be trained."
            )

    @property
    def matrices(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by name: of each map `A` `[rank, width]` and `B` `[width, rank]`, in float32."""
        return {
            f"{name}.{kind}": getattr(adapter, f"lora_{kind}")[_NAME].weight
            for name, adapter in self._adapters.items()
            for kind in "AB"
        }

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of the matrices."""
        return {name: matrix.detach().clone() for name, matrix in self.matrices.items()}

    def take(self, state: Mapping[str, torch.Tensor]) -> None:
        """Set the matrices."""
        with torch.no_grad():
            for name, matrix in self.matrices.items():
                matrix.copy_(state[name])


def _linear_maps(layer: nn.Module, part: str) -> list[str]:
    """Return the paths of a layer's linear maps, without those of a half that does not run."""
    halves = halves_of(layer)
    silent = {"attn": halves.mlp, "mlp": halves.attention}.get(part, ())
    return [
        path
        for path, module in layer.named_modules()
        if _is_linear(module) and not any(path == half or path.startswith(f"{half}.") for half in silent)
    ]


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return type(module) in (nn.Linear, Conv1D) and module.weight.is_floating_point()  # type: ignore[operator]


def _put_around(layer: nn.Module, path: str, rank: int, generator: torch.Generator) -> Any:
    from peft import LoraConfig
    from peft.tuners.lora.layer import Linear

    outer, _, name = path.rpartition(".")
    module: Any = layer.get_submodule(path)
    turned, width = type(module) is not nn.Linear, min(rank, *module.weight.shape)
    config = LoraConfig(r=width, lora_alpha=width, lora_dropout=0.0, fan_in_fan_out=turned)
    # what peft draws by itself is drawn anew below, and nobody else's numbers shall depend on it
    with torch.random.fork_rng(devices=()):
        adapter: Any = Linear(module, _NAME, config, r=width, lora_alpha=width, is_target_conv_1d_layer=turned)
    first, second = (getattr(adapter, f"lora_{kind}")[_NAME].float() for kind in "AB")
    bound = 1 / math.sqrt(first.weight.shape[1])
    with torch.no_grad():
        first.weight.copy_(torch.empty(first.weight.shape).uniform_(-bound, bound, generator=generator))
        second.weight.zero_()
    layer.get_submodule(outer)._modules[name] = adapter.eval()
    return adapter

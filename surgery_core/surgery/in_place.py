"""`ModelSurgery`: temporary surgery on a model object, for scripts and notebooks.

Unlike a view, the same model object is operated inside a `with` block, so code that holds the model (a trainer, an
evaluation harness, hooks on its layers) sees the change. Outside, everything is put back: the identical module
list, layer objects, indices and config values, after an exception too. One thread at a time; for many plans at
once use `surgery_core.operate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from surgery_core.errors import AnatomyError, PlanError, RefusedPlanError
from surgery_core.plans.plan import LayerPlan, normalise_positions
from surgery_core.plans.slots import Slot
from surgery_core.surgery.adapters import taken_off
from surgery_core.surgery.anatomy import Operated, find_final_norm, find_layers
from surgery_core.surgery.assembly import Assembly, assemble
from surgery_core.surgery.behaviours import equip
from surgery_core.surgery.building import clone_layer
from surgery_core.surgery.cache import index_slots, own_indices
from surgery_core.surgery.clone import CAPTURE_MARK, Cloner
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.surgery.layer_inputs import kept_inputs
from surgery_core.surgery.marks import KEY, mark_of, marks_of
from surgery_core.surgery.replacement import Adapter, adapt, check_width
from surgery_core.surgery.view import checked_plan

_MISSING = object()


class ModelSurgery:
    """Operate on a model in place, for the length of a `with` block.

    Args:
        model: a transformers causal language model.

    Raises:
        AnatomyError: when the model's layers cannot be found.
    """

    def __init__(self, model: nn.Module) -> None:
        find_layers(model)
        self._model = model

    def get_model(self) -> Any:
        """Return the model object, the same one inside and outside of every `with` block."""
        return self._model

    def get_final_norm(self) -> nn.Module:
        """Return the norm between the last layer and the unembedding.

        Raises:
            ValueError: when the model has none.
        """
        norm = find_final_norm(self._model)
        if norm is None:
            raise AnatomyError(f"{type(self._model).__name__} has no norm after its last layer.")
        return norm[1]

    def get_transformer_layers(self) -> tuple[str, nn.ModuleList]:
        """Return the dotted path of the layer list in the model, and the list as it is now."""
        return find_layers(self._model)

    @contextmanager
    def delete_layers(self, indices: Iterable[int] | int) -> Iterator[Any]:
        """Run the block without these layers. Deleting all of them leaves embeddings straight to the head.

        Args:
            indices: layers of the model as it is now; negative ones count from the end.

        Raises:
            PlanError: for an index that is out of range or repeated.
        """
        with self.apply(self._identity().delete(indices)) as model:
            yield model

    @contextmanager
    def permute_layers(self, order: Iterable[int]) -> Iterator[Any]:
        """Run the block with the layers in this order; a shorter order drops layers, a longer one repeats them.

        Args:
            order: layers of the model as it is now; negative ones count from the end.

        Raises:
            PlanError: for an index that is out of range.
        """
        with self.apply(self._identity().permute(order)) as model:
            yield model

    @contextmanager
    def replace_layers(
        self, indices: Iterable[int] | int, replacements: Iterable[int | nn.Module] | int | nn.Module
    ) -> Iterator[Any]:
        """Run the block with each of these layers replaced.

        Args:
            indices: layers of the model as it is now; negative ones count from the end.
            replacements: one for each index: a layer number of this model, or a module. A module is called like a
                layer (`hidden_states` `[batch, seq, d_model]` first, then those of the layer's keyword arguments
                that its `forward` takes) and returns a tensor of that shape, or a tuple that begins with one.

        Raises:
            PlanError: for an index that is out of range or repeated, a different number of replacements, or a
                module of another width; nothing has run by then.
        """
        positions, modules, numbers = self._split(indices, replacements)
        plan = self._identity().replace(positions, numbers)
        with self._operated(plan, dict(modules)) as model:
            yield model

    @contextmanager
    def apply(self, plan: LayerPlan | str) -> Iterator[Any]:
        """Run the block with the model operated by `plan`.

        Args:
            plan: a plan, or the notation of one, for the layers of the model as it is now.

        Raises:
            PlanError: when the plan is for another number of layers or does not parse.
            RefusedPlanError: when the plan cannot be trusted on this model.
        """
        with self._operated(plan, {}) as model:
            yield model

    def _identity(self) -> LayerPlan:
        return LayerPlan.identity(len(find_layers(self._model)[1]))

    def _split(
        self, indices: Iterable[int] | int, replacements: Iterable[int | nn.Module] | int | nn.Module
    ) -> tuple[list[int], list[tuple[int, nn.Module]], list[int | Slot]]:
        """Return positions, the modules by position, and a layer number for every position (its own for a module)."""
        positions = normalise_positions(indices, len(find_layers(self._model)[1]))
        single = isinstance(replacements, nn.Module) or hasattr(replacements, "__index__")
        new: Sequence[Any] = [replacements] if single else list(replacements)  # type: ignore[arg-type]
        if len(new) != len(positions):
            raise PlanError(
                f"{len(positions)} layers but {len(new)} replacements were given; give one replacement a layer."
            )
        layers = list(find_layers(self._model)[1])
        new = [layers.index(item) if item in layers else item for item in new]
        modules = [(at, item) for at, item in zip(positions, new, strict=True) if isinstance(item, nn.Module)]
        for _, module in modules:
            check_width(module, self._model)
        modules = [
            (at, module if _first(modules, at, module) else Cloner(keep_hooks=True).module(module))
            for at, module in modules
        ]
        numbers = [at if isinstance(item, nn.Module) else item for at, item in zip(positions, new, strict=True)]
        return positions, modules, numbers

    @contextmanager
    def _operated(self, plan: LayerPlan | str, modules: dict[int, nn.Module]) -> Iterator[Any]:
        plan = checked_plan(plan, len(find_layers(self._model)[1]))
        _check_in_place(plan)
        adapted = {at: adapt(module, self._model) for at, module in modules.items()}
        made = assemble(self._model, plan, Ingredients(), adapted)
        clones = self._clones(made, set(adapted))
        order = [placement.layer.index for placement in made.placements]
        new = [adapted.get(at) or clones.get(at) or made.layers[index] for at, index in enumerate(order)]
        with ExitStack() as undo:
            journal = _Journal(undo)
            self._journal_marks(journal)
            self._journal_list(journal, made.layers, OperatedLayers(new, str(plan)))
            self._journal_owner(journal, made)
            self._journal_adapters(journal, made)
            for change in made.configs:
                journal.become(change.config, change.cls)
                for key, value in change.values.items():
                    journal.set(change.config.__dict__, key, value)
            for layer, original, position in zip(new, order, made.positions, strict=True):
                _set_index(journal, layer, original, position, made.stride)
            known = mark_of(self._model, Operated)
            journal.mark(self._model, Operated(made.path, plan, known.base if known else None))
            yield self._model

    def _clones(self, made: Assembly, taken: set[int]) -> dict[int, nn.Module]:
        """Return a clone for every position that cannot use the original layer object itself.

        The original runs at its first plain use, with the hooks that a person put on it; further uses and modified
        ones are clones, which carry the same hooks. Clones refer to everything outside of the layer as it is.
        """
        originals, outside = list(made.layers), Cloner()
        inside = {id(module) for layer in originals for module in layer.modules()}
        for module in self._model.modules():
            if id(module) not in inside:
                outside.adopt(module, module)
            if (config := module.__dict__.get("config")) is not None:
                outside.adopt(config, config)
        used: set[int] = set()
        clones: dict[int, nn.Module] = {}
        for at, placement in enumerate(made.placements):
            original = originals[placement.layer.index]
            if at in taken:
                continue
            if placement.layer.is_plain and placement.group is None and id(original) not in used:
                used.add(id(original))
                continue
            clones[at] = clone_layer(outside, original, placement, made.positions[at], made.stride, keep_hooks=True)
            equip(clones[at], placement)
        return clones

    def _journal_list(self, journal: _Journal, layers: nn.ModuleList, operated: nn.ModuleList) -> None:
        """Put a new list where the old one is registered; the old list object stays as it is."""
        operated.training = layers.training
        for module in list(self._model.modules()):
            for name, child in list(module._modules.items()):
                if child is layers:
                    journal.set(module._modules, name, operated)

    def _journal_owner(self, journal: _Journal, made: Assembly) -> None:
        """Let what holds the layers, and computes what each of them gets, follow the plan."""
        owner: Any = self._model.get_submodule(made.owner_path)
        if made.inputs is not None:
            cls, kept = kept_inputs(owner, owner.config, made.inputs)
            journal.become(owner, cls)
            journal.mark(owner, kept)
        for key, value in made.owner.items():
            journal.set(owner.__dict__, key, value)

    def _journal_adapters(self, journal: _Journal, made: Assembly) -> None:
        """Leave out the adapters outside of the layers that do not run."""
        for path in made.left_out:
            outer, _, name = path.rpartition(".")
            parent = self._model.get_submodule(outer)
            copy = Cloner(keep_hooks=True).module(parent.get_submodule(name))
            journal.set(parent._modules, name, taken_off(copy))

    def _journal_marks(self, journal: _Journal) -> None:
        """On exit, take off output-capturing hooks that transformers puts on the operated model in between."""
        for module in self._model.modules():
            if hasattr(module, "get_input_embeddings") and CAPTURE_MARK not in module.__dict__:
                journal.on_exit(_uncapture, module)


class OperatedLayers(nn.ModuleList):
    """Layers in the order in which they run; printed with their plan, for a tree does not show which is which.

    Args:
        layers: as they run.
        plan: in notation; None for a part of them, as slices are.
    """

    plan: str | None = None

    def __init__(self, layers: Iterable[nn.Module] = (), plan: str | None = None) -> None:
        super().__init__(layers)
        self.plan = plan

    def __repr__(self) -> str:
        if self.plan is None:
            return super().__repr__()
        head, newline, rest = super().__repr__().partition("\n")
        return f"{head}  # plan {self.plan or 'without layers'}{newline}{rest}"


class _Journal:
    """Writes to dictionaries and undoes it all in reverse order when its stack closes."""

    def __init__(self, undo: ExitStack) -> None:
        self.undo = undo

    def set(self, target: dict[str, Any], key: str, value: Any) -> None:
        """Set an entry now; put back what was there, or remove it, on exit."""
        self.undo.callback(_restore, target, key, target.get(key, _MISSING))
        target[key] = value

    def mark(self, module: nn.Module, record: Any) -> None:
        """Put a record on a module now; put back the records that were there on exit."""
        self.set(module.__dict__, KEY, marks_of(module).with_(record))

    def become(self, target: Any, cls: type) -> None:
        """Give an object another class now, and its own again on exit."""
        self.undo.callback(setattr, target, "__class__", type(target))
        target.__class__ = cls

    def on_exit(self, action: Any, *args: Any) -> None:
        """Run an action on exit."""
        self.undo.callback(action, *args)


def _restore(target: dict[str, Any], key: str, value: Any) -> None:
    if value is _MISSING:
        target.pop(key, None)
    else:
        target[key] = value


def _check_in_place(plan: LayerPlan) -> None:
    """Refuse slots that need more than the model itself."""
    special = [layer for slot in plan for layer in slot.layers if layer.mean or layer.donor or layer.stitched]
    if special:
        raise RefusedPlanError(
            f"{special[0]} needs more than this model itself; make a view with operate(model, plan, donors=..., means=...)."
        )


def _first(modules: list[tuple[int, nn.Module]], at: int, module: nn.Module) -> bool:
    """Whether this is the first place of the module; at further ones it needs a cache index of its own."""
    return next(position for position, other in modules if other is module) == at


def _set_index(journal: _Journal, layer: nn.Module, original: int, position: int, stride: int) -> None:
    """Give a layer its cache position; a replacement module that keeps an index of its own gets it too."""
    for index in own_indices(layer) if isinstance(layer, Adapter) else {original}:
        for module, name, value in index_slots(layer, index, position, stride):
            journal.set(module.__dict__, name, value)


def _uncapture(model: nn.Module) -> None:
    """Remove the capturing hooks that were installed since the mark was absent; they would miss deleted layers."""
    if model.__dict__.pop(CAPTURE_MARK, None) is None:
        return
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if getattr(hook, "__qualname__", "").endswith("output_capturing_hook"):
                del module._forward_hooks[key]

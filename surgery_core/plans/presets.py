"""Plans that are worth one click, as data."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from surgery_core.errors import PlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plugins import several, with_added


@dataclass(frozen=True)
class Preset:
    """A named way to rearrange a model of any depth.

    Attributes:
        key: stable name, for links and recipes.
        title: what a button says.
        help: one sentence on what it does and why one would.
        needs: what it asks for besides the depth: `"layer"`, `"seed"`, or nothing.
        make: (n_layers, layer, seed) to a plan.
    """

    key: str
    title: str
    help: str
    needs: tuple[str, ...]
    make: Callable[[int, int, int], LayerPlan]

    @property
    def seeded(self) -> bool:
        """Whether another seed gives another plan."""
        return "seed" in self.needs

    def apply(self, n_layers: int, *, layer: int | None = None, seed: int = 0) -> LayerPlan:
        """Return the preset's plan for a model of `n_layers` layers.

        Args:
            n_layers: depth of the model.
            layer: the layer for presets that need one; by default the middle one.
            seed: for presets that shuffle.

        Raises:
            PlanError: when the model is too shallow or has no such layer.
        """
        if n_layers < 2:
            raise PlanError(f"{self.title} needs a model of at least 2 layers; this one has {n_layers}.")
        return self.make(n_layers, n_layers // 2 if layer is None else layer, seed)


def preset(key: str) -> Preset:
    """Return the preset with this key.

    Raises:
        PlanError: when there is none; it names them all.
    """
    for candidate in all_presets():
        if candidate.key == key:
            return candidate
    raise PlanError(f"There is no preset {key!r}; there are: {', '.join(p.key for p in all_presets())}.")


@cache
def all_presets() -> tuple[Preset, ...]:
    """Return the presets that come with this package, then those of others (`model_surgery.presets`)."""
    return with_added("presets", PRESETS, lambda preset: preset.key, several(Preset))


def middle(n_layers: int) -> tuple[int, int]:
    """Return start and stop of the middle: what is left when a quarter is kept at each end, at least one layer."""
    edge = max(1, n_layers // 4) if n_layers > 2 else 0
    return edge, n_layers - edge


def _drop_one(n_layers: int, layer: int, seed: int) -> LayerPlan:
    return LayerPlan.identity(n_layers).delete([layer])


def _drop_last_quarter(n_layers: int, layer: int, seed: int) -> LayerPlan:
    count = max(1, n_layers // 4)
    return LayerPlan.identity(n_layers).delete(range(n_layers - 1 - count, n_layers - 1))


def _reverse_middle(n_layers: int, layer: int, seed: int) -> LayerPlan:
    return LayerPlan.identity(n_layers).reverse(*middle(n_layers))


def _swap_neighbours(n_layers: int, layer: int, seed: int) -> LayerPlan:
    first = n_layers - 2 if layer in (-1, n_layers - 1) else layer
    return LayerPlan.identity(n_layers).swap(first, first + 1)


def _repeat_middle(n_layers: int, layer: int, seed: int) -> LayerPlan:
    return LayerPlan.identity(n_layers).repeat(*middle(n_layers), 2)


def _loop_middle(n_layers: int, layer: int, seed: int) -> LayerPlan:
    return LayerPlan.identity(n_layers).loop(*middle(n_layers), 2)


def _second_thought(n_layers: int, layer: int, seed: int) -> LayerPlan:
    start, stop = middle(n_layers)
    twice = LayerPlan.identity(n_layers).repeat(start, stop, 2)
    return twice.damp(stop, stop + stop - start, 0.5)


def _shuffle_middle(n_layers: int, layer: int, seed: int) -> LayerPlan:
    start, stop = middle(n_layers)
    block = list(range(start, stop))
    shuffled = block.copy()
    generator = random.Random(seed)
    while shuffled == block and len(block) > 1:
        generator.shuffle(shuffled)
    return LayerPlan.identity(n_layers).permute([*range(start), *shuffled, *range(stop, n_layers)])


PRESETS: tuple[Preset, ...] = (
    Preset(
        "drop-one",
        "Drop one layer",
        "Delete a single layer. Most middle layers are hardly missed; the first one is.",
        ("layer",),
        _drop_one,
    ),
    Preset(
        "drop-last-quarter",
        "Drop the last quarter, keep the last layer",
        "Delete a quarter of the layers just before the last one, as pruning studies do (arXiv 2403.17887).",
        (),
        _drop_last_quarter,
    ),
    Preset(
        "reverse-middle",
        "Reverse the middle",
        "Run the middle half of the layers backwards (arXiv 2407.09298).",
        (),
        _reverse_middle,
    ),
    Preset(
        "swap-neighbours",
        "Swap two neighbours",
        "Exchange a layer and the next one. Usually hurts less than deleting either (arXiv 2406.19384).",
        ("layer",),
        _swap_neighbours,
    ),
    Preset(
        "repeat-middle",
        "Repeat the middle",
        "Run the middle half of the layers twice in a row.",
        (),
        _repeat_middle,
    ),
    Preset(
        "shuffle-middle",
        "Shuffle the middle",
        "Put the middle half of the layers in a random order that the seed decides (arXiv 2407.09298).",
        ("seed",),
        _shuffle_middle,
    ),
    Preset(
        "loop-middle",
        "Loop the middle in half steps",
        "Run the middle half of the layers twice, and take half of what it adds each time (arXiv 2605.23872).",
        (),
        _loop_middle,
    ),
    Preset(
        "loop-halfway",
        "Loop the middle, then go halfway",
        "Run the middle half of the layers again, and go on halfway between the looped state and the one that was not "
        "looped (arXiv 2602.14759).",
        (),
        _second_thought,
    ),
)
"""The presets of this package, in the order in which they are offered."""

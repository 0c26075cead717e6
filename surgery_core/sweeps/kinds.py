"""Which plans a sweep tries: pure, from a plan to start from and a kind to a tuple of points.

A kind has one axis (bars, one a position) or two (a heat map, several of them side by side, or lines of variants).
Sources: blocks as in "The Unreasonable Ineffectiveness of the Deeper Layers" (arXiv 2403.17887), variants of a growing
middle as in "Transformer Layers as Painters" (arXiv 2407.09298, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Literal

from surgery_core.errors import SettingsError
from surgery_core.plans.cuts import cut_behind
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import MAX_SLOTS, Part
from surgery_core.plugins import several, with_added
from surgery_core.sweeps.middle import LOOPS, VARIANTS, middles
from surgery_core.sweeps.options import DAMPINGS, FACTORS, MAX_TIMES, SweepOptions

Axis = int | float | str


Form = Literal["bars", "heat", "lines", "maps"]


MAX_POINTS = 4096
"""Most plans of one sweep."""


@dataclass(frozen=True)
class SweepPoint:
    """One plan of a sweep and where it stands on the chart.

    Attributes:
        number: its place in the sweep, from 0.
        x, y: its coordinates; `y` is None for a sweep with one axis.
        plan: what is run.
    """

    number: int
    x: Axis
    y: Axis | None
    plan: LayerPlan


Tried = Iterator[tuple[Axis, Axis | None, LayerPlan]]


@dataclass(frozen=True)
class SweepKind:
    """A family of plans.

    Attributes:
        key: stable name, for the command line and files.
        title: what a menu says.
        about: one sentence on what is tried and why.
        form: how it is drawn: bars over x, a heat map of x and y, lines over x with one line a y, or maps side by side:
            the first word of `y` says which, the rest is the place in it.
        x_title, y_title: of the axes.
        needs: options that it reads, names of `SweepOptions`.
        least: fewest slots that it makes sense for.
        make: the plans, with their coordinates.
        adapter: whether it is about the adapter that a model was opened with.
        stitched: whether its plans have stitches, which are fitted on texts of their own.
    """

    key: str
    title: str
    about: str
    form: Form
    x_title: str
    y_title: str
    needs: tuple[str, ...]
    least: int
    make: Callable[[LayerPlan, SweepOptions], Tried]
    adapter: bool = False
    stitched: bool = False


BEST = 10
"""Plans that a long sweep looks for unless it is told otherwise."""
MANY = 100
"""Plans beyond which a sweep is long."""


def usual_best(kind: SweepKind, n_points: int) -> int | None:
    """Return how many plans of the least loss a sweep looks for unless it is told otherwise; None for all of them.

    A map shows every cell, and lines are compared over all their points.
    """
    return BEST if kind.form == "bars" and n_points > MANY else None


def sweep_kind(key: str) -> SweepKind:
    """Return the kind with this key.

    Raises:
        SettingsError: when there is none; it names them all.
    """
    for kind in all_kinds():
        if kind.key == key:
            return kind
    raise SettingsError(f"There is no sweep {key!r}; there are: {', '.join(kind.key for kind in all_kinds())}.")


@cache
def all_kinds() -> tuple[SweepKind, ...]:
    """Return the kinds that come with this package, then those of others (`model_surgery.sweeps`)."""
    return with_added("sweeps", KINDS, lambda kind: kind.key, several(SweepKind))


def sweep_points(key: str, start: LayerPlan, options: SweepOptions | None = None) -> tuple[SweepPoint, ...]:
    """Return the plans of a sweep, in the order in which they are shown.

    Args:
        key: of the kind.
        start: the plan that every point changes in one way; the identity for a sweep over the base.
        options: what the kind may need.

    Raises:
        SettingsError: for an unknown kind, a plan too short for it, an option out of range, or too many plans.
    """
    kind, options = sweep_kind(key), options or SweepOptions()
    if len(start) < kind.least:
        raise SettingsError(
            f"{kind.title} needs at least {kind.least} layers and the model has {len(start)}; choose another sweep."
        )
    points: list[SweepPoint] = []
    for x, y, plan in kind.make(start, options):
        if len(points) == MAX_POINTS:
            raise SettingsError(f"{kind.title} would try more than {MAX_POINTS:,} plans; set a smaller longest block.")
        points.append(SweepPoint(len(points), x, y, plan))
    return tuple(points)


def _delete(start: LayerPlan, options: SweepOptions) -> Tried:
    for position in range(len(start)):
        yield position, None, start.delete(position)


def _keep(part: Part) -> Callable[[LayerPlan, SweepOptions], Tried]:
    def make(start: LayerPlan, options: SweepOptions) -> Tried:
        for position in range(len(start)):
            yield position, None, start.keep(position, part)

    return make


def _adapter_off(start: LayerPlan, options: SweepOptions) -> Tried:
    for position in range(len(start)):
        yield position, None, start.switch_adapter(position, on=False)


def _adapter_only(start: LayerPlan, options: SweepOptions) -> Tried:
    none = start.switch_adapter(range(len(start)), on=False)
    for position in range(len(start)):
        yield position, None, none.switch_adapter(position, on=True)


def _blocks(start: LayerPlan, options: SweepOptions) -> Iterator[tuple[int, int]]:
    """Yield start and length of every block, block starts first."""
    for begin in range(len(start)):
        for length in range(1, min(options.longest(len(start)), len(start) - begin) + 1):
            yield begin, length


def _skip_block(start: LayerPlan, options: SweepOptions) -> Tried:
    for begin, length in _blocks(start, options):
        yield begin, length, start.delete(range(begin, begin + length))


def _stitch_block(start: LayerPlan, options: SweepOptions) -> Tried:
    """Yield every block of which the layer before can take up what makes up for it."""
    for begin, length in _blocks(start, options):
        cut = start.delete(range(begin, begin + length))
        if begin and cut_behind(cut, begin - 1) is not None:
            yield begin, length, cut.stitch(begin - 1)


def _repeat_block(start: LayerPlan, options: SweepOptions) -> Tried:
    for begin, length in _blocks(start, options):
        yield begin, length, start.repeat(begin, begin + length, options.times)


def _damped_block(start: LayerPlan, options: SweepOptions) -> Tried:
    for begin, length in _blocks(start, options):
        if _is_single(start, begin, begin + length):
            yield begin, length, start.loop(begin, begin + length, options.times, options.damping)


def _damped_repeat(start: LayerPlan, options: SweepOptions) -> Tried:
    for position in range(len(start)):
        if _is_single(start, position, position + 1):
            yield position, None, start.loop(position, position + 1, options.times, options.damping)


def _atlas(start: LayerPlan, options: SweepOptions) -> Tried:
    """Yield every block left out, then run again, then run again in smaller steps."""
    for name, make in ATLAS.items():
        for begin, length, plan in make(start, options):
            yield begin, f"{name} {length}", plan


ATLAS = {"skip": _skip_block, "repeat": _repeat_block, "damped": _damped_block}
"""The maps of the atlas, by the word that their cells begin with."""


def _loop_block(start: LayerPlan, options: SweepOptions) -> Tried:
    begin, end = options.block(len(start))
    if not _is_single(start, begin, end):
        raise SettingsError(f"Layers {begin} to {end - 1} are not all single ones; choose another block to loop.")
    for times in range(2, options.times + 1):
        for part in DAMPINGS if options.factors == FACTORS else options.factors:
            yield float(part), times, start.loop(begin, end, times, part)


def _is_single(plan: LayerPlan, begin: int, end: int) -> bool:
    """Whether a block can become one slot: it consists of single layers without stitches."""
    return all(len(slot.layers) == 1 and not slot.is_stitched for slot in plan[begin:end])


def _repeat(start: LayerPlan, options: SweepOptions) -> Tried:
    for position in range(len(start)):
        yield position, None, start.repeat(position, position + 1, options.times)


def _swap_neighbours(start: LayerPlan, options: SweepOptions) -> Tried:
    for position in range(len(start) - 1):
        yield position, None, start.swap(position, position + 1)


def _swap_pairs(start: LayerPlan, options: SweepOptions) -> Tried:
    for a, b in combinations(range(len(start)), 2):
        yield a, b, start.swap(a, b)


def _move(start: LayerPlan, options: SweepOptions) -> Tried:
    position = options.position(len(start))
    for to in range(len(start)):
        yield to, None, start.move(position, to)


def _scale(start: LayerPlan, options: SweepOptions) -> Tried:
    position = options.position(len(start))
    for factor in options.factors:
        yield float(factor), None, start.scale(position, factor)


def _replace(start: LayerPlan, options: SweepOptions) -> Tried:
    for position in range(len(start)):
        for other in range(len(start)):
            if other != position:
                yield position, other, start.replace(position, start[other])


def _middle(*names: str) -> Callable[[LayerPlan, SweepOptions], Tried]:
    def make(start: LayerPlan, options: SweepOptions) -> Tried:
        for name in names:
            for begin, end in middles(start):
                if end - begin > 1 or name == "skip":
                    plan = VARIANTS[name](start, begin, end, options.seed)
                    yield end - begin, name if len(names) > 1 else None, plan

    return make


_SIZE = "Layers in the middle"


KINDS: tuple[SweepKind, ...] = (
    SweepKind("delete", "Delete each layer", "Which layers matter: each one is left out once.",
              "bars", "Deleted layer", "", (), 1, _delete),
    SweepKind("delete-attention", "Delete each layer's attention", "Each layer keeps only its MLP, once.",
              "bars", "Layer without attention", "", (), 1, _keep("mlp")),
    SweepKind("delete-mlp", "Delete each layer's MLP", "Each layer keeps only its attention, once.",
              "bars", "Layer without MLP", "", (), 1, _keep("attn")),
    SweepKind("adapter-off", "Switch each layer's adapter off",
              "Where the adapter lives: each layer runs once without its part of it.",
              "bars", "Layer without adapter", "", (), 1, _adapter_off, adapter=True),
    SweepKind("adapter-only", "Keep one layer's adapter",
              "Where the adapter lives: every layer but one runs without its part of it. From a plan with all of them off, "
              "bars begin at the model without its adapter.",
              "bars", "Only layer with adapter", "", (), 1, _adapter_only, adapter=True),
    SweepKind("skip-block", "Skip every block", "Every run of neighbouring layers is left out: first layer by length.",
              "heat", "First layer of the block", "Layers skipped", ("max_length",), 2, _skip_block),
    SweepKind("stitch-block", "Skip every block and stitch",
              "Every run of neighbouring layers is left out, and a projection that is fitted before it makes up for what it can.",
              "heat", "First layer of the block", "Layers skipped", ("max_length",), 2, _stitch_block, stitched=True),
    SweepKind("swap-neighbours", "Swap neighbours", "Every layer changes places with the next one.",
              "bars", "First of the two", "", (), 2, _swap_neighbours),
    SweepKind("swap-pairs", "Swap every pair", "Every two layers change places.",
              "heat", "First of the two", "Second of the two", (), 2, _swap_pairs),
    SweepKind("repeat", "Repeat each layer", "Each layer runs more than once in a row.",
              "bars", "Repeated layer", "", ("times",), 1, _repeat),
    SweepKind("repeat-block", "Repeat every block", "Every run of neighbouring layers runs again behind itself.",
              "heat", "First layer of the block", "Layers repeated", ("max_length", "times"), 2, _repeat_block),
    SweepKind("damped-repeat", "Repeat each layer in smaller steps",
              "Each layer runs more than once in a row, and only a part of what it adds is taken each time.",
              "bars", "Repeated layer", "", ("times", "damping"), 1, _damped_repeat),
    SweepKind("damped-block", "Repeat every block in smaller steps",
              "Every run of neighbouring layers runs again behind itself, and only a part of what it adds is taken each time.",
              "heat", "First layer of the block", "Layers repeated", ("max_length", "times", "damping"), 2, _damped_block),
    SweepKind("atlas", "Atlas of blocks",
              "Every run of neighbouring layers is left out, runs again, and runs again in smaller steps: three maps side by side.",
              "maps", "First layer of the block", "Layers in the block", ("max_length", "times", "damping"), 2, _atlas),
    SweepKind("loop-block", "Loop one block, more and less",
              "One block runs more and more often, and of what it adds each time more and less is taken.",
              "heat", "Part taken each time", "Runs", ("layer", "length", "times", "factors"), 2, _loop_block),
    SweepKind("move", "Move one layer everywhere", "One layer is put at every position.",
              "bars", "New position", "", ("layer",), 2, _move),
    SweepKind("scale", "Scale one layer", "What one layer adds to the residual stream is weakened or strengthened.",
              "bars", "Factor on its contribution", "", ("layer", "factors"), 1, _scale),
    SweepKind("replace", "Replace each by each", "Every layer runs in the place of every other one.",
              "heat", "Position", "Layer that runs there", (), 2, _replace),
    SweepKind("skip-middle", "Skip a growing middle", "The layers around the middle are left out, more and more.",
              "bars", _SIZE, "", (), 3, _middle("skip")),
    SweepKind("reverse-middle", "Reverse a growing middle", "The middle runs backwards.",
              "bars", _SIZE, "", (), 4, _middle("reverse")),
    SweepKind("shuffle-middle", "Shuffle a growing middle", "The middle runs in a random order.",
              "bars", _SIZE, "", ("seed",), 4, _middle("shuffle")),
    SweepKind("parallel-middle", "Run a growing middle in parallel",
              "The layers of the middle read the same input; what they add is averaged.",
              "bars", _SIZE, "", (), 4, _middle("parallel")),
    SweepKind("looped-parallel-middle", "Loop a parallel middle", f"The parallel middle runs {LOOPS} times in a row.",
              "bars", _SIZE, "", (), 4, _middle("looped parallel")),
    SweepKind("repeat-middle", "Repeat the centre layer", "The centre layer runs in place of the whole middle.",
              "bars", _SIZE, "", (), 4, _middle("repeat centre")),
    SweepKind("painters", "Six changes of a growing middle",
              "Skip, reverse, shuffle, parallel, looped parallel and repeated centre, side by side.",
              "lines", _SIZE, "What happens to the middle", ("seed",), 4, _middle(*VARIANTS)),
)  # fmt: skip
"""Every kind of sweep, in the order of menus."""


def longest_block(kind: str, length: int) -> int:
    """Return the length of the longest block, of all but one slot at most, with which a sweep over blocks can be made.

    Args:
        kind: key of the kind.
        length: slots of the plan to start from.
    """
    allowed = MAX_POINTS // (len(ATLAS) if kind == "atlas" else 1)
    fitting = (most for most in range(length - 1, 1, -1) if sum(range(length - most + 1, length + 1)) <= allowed)
    return next(fitting, 1)


def most_times(kind: str, length: int, block: int = 1) -> int:
    """Return how often what is repeated may run at most, at least 2, so that the longest plan still fits.

    Args:
        kind: key of the kind.
        length: slots of the plan to start from.
        block: slots of the longest block, where the kind repeats blocks.
    """
    repeated = max(1, block) if kind in ("repeat-block", "damped-block", "atlas", "loop-block") else 1
    return max(2, min(MAX_TIMES, (MAX_SLOTS - length) // repeated + 1))

"""Programs of layers for single inputs: plans that run each layer once, skip it or repeat it, found by a beam.

The tree of plans is walked layer by layer. A node is a beginning of a plan: what it does with the layers so far. Its
state is kept, so that each of its continuations costs only the layer that it runs. Which beginnings are gone on with is
decided by what a lens reads in their states: the margin of the wanted answer. For every number of slots the best ones
are kept, so that short programs are not driven out by long ones, and the unchanged model's own beginning always is.
Complete plans are judged by the model's own output.

The space is that of "Skip a Layer or Loop it?" (Li, Li and Zhou, arXiv 2507.07996, and its successor 2606.06574), without
their repeats of whole segments; they search it by Monte Carlo. The beam is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from surgery_core.errors import AnatomyError
from surgery_core.lenses.answers import AnswerReader
from surgery_core.measure.skills import SkillItem
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Slot
from surgery_core.states.beginnings_check import cannot_run_together, cannot_start_in_the_middle
from surgery_core.states.layer_calls import Rest, call_layer, calls_of_copies, record_calls
from surgery_core.surgery.anatomy import find_layers
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.stream_form import stream_of
from surgery_core.surgery.view import operate_slot

HELD_BYTES = 2**28
"""Bytes of states that the search of a group of items holds (256 MB), as long as one item does not need more."""

TOGETHER = {"cpu": 2_048, "cuda": 2**15}
"""Tokens that run through a layer at once."""

Look = Callable[[], None]


@dataclass(frozen=True)
class Breadth:
    """What is searched.

    Attributes:
        beam: how many beginnings of each number of slots are gone on with.
        times: how often a layer may run in a row at most.
        extra: how many slots a program may have more than the model.
        least: how many slots a program has at least.
    """

    beam: int = 4
    times: int = 2
    extra: int = 2
    least: int = 1


@dataclass(frozen=True)
class Program:
    """A complete plan for one item.

    Attributes:
        layers: the layers that run, in order.
        margin: nats by which the wanted answer is ahead of the best other one under it.
    """

    layers: tuple[int, ...]
    margin: float

    @property
    def works(self) -> bool:
        """Whether the wanted answer is strictly the likeliest."""
        return self.margin > 0

    def plan(self, n_layers: int) -> LayerPlan:
        """Return it as a plan of a model of `n_layers` layers."""
        return LayerPlan(tuple(Slot.of(layer) for layer in self.layers), n_layers)


@dataclass(frozen=True)
class Found:
    """What the search came to for one item.

    Attributes:
        own: the unchanged model.
        programs: the best program of every number of slots, the shortest first.
    """

    own: Program
    programs: tuple[Program, ...]

    @property
    def shortest(self) -> Program | None:
        """Return the shortest program under which the wanted answer is the likeliest, if there is one."""
        return next((one for one in self.programs if one.works), None)


@dataclass
class Work:
    """How many layer runs a search took, each over the prompts of one item.

    Attributes:
        shared: runs that were made.
        alone: runs that the same search needs when every beginning that it judges is run from the first layer on.
    """

    shared: int = 0
    alone: int = 0


@dataclass(eq=False)
class _Level:
    """The beginnings that are gone on with, as many for each item.

    Attributes:
        states: `[width, rows, seq, d_model]`.
        lengths: `[width]`, slots of each; the same for all items.
        layers: by item, then by place, the layers that ran.
        own: by item, at which place the unchanged model's beginning is.
    """

    states: torch.Tensor
    lengths: list[int]
    layers: list[list[tuple[int, ...]]]
    own: list[int]


class ProgramSearch:
    """Searches programs for items.

    Args:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        lens: a tuned lens of the model, or None for the logit lens.
        breadth: what is searched.
        look: called between layers; it may raise to stop the work.
        on_layer: told of the items that are one layer further.

    Attributes:
        work: layer runs so far.

    Raises:
        AnatomyError: when the layers of this model cannot be called one by one, or its head needs more than their states.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, lens: Any = None, breadth: Breadth | None = None,
        look: Look = lambda: None, on_layer: Callable[[int], None] = lambda items: None,
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.lens = model, tokenizer, lens
        self.breadth, self.work = breadth or Breadth(), Work()
        self.look, self.on_layer = look, on_layer
        self.n = len(find_layers(model)[1])
        self.layers = [find_layers(operate_slot(model, Slot.of(layer)))[1][0] for layer in range(self.n)]
        self.checked = False

    def find(self, items: Sequence[SkillItem], wanted: Sequence[int]) -> Iterator[list[Found]]:
        """Yield what is found for some items after the others.

        Args:
            items: what is asked.
            wanted: which of each item's answers the program is to make the likeliest; 0 is the one that is right.
        """
        pairs = list(zip(items, wanted, strict=True))
        while pairs:
            size = self._how_many([item for item, _ in pairs])
            group, pairs = pairs[:size], pairs[size:]
            yield self._group([item for item, _ in group], [answer for _, answer in group])

    def _how_many(self, items: Sequence[SkillItem]) -> int:
        """Return how many of the next items fit the memory together."""
        reader = AnswerReader(self.model, self.tokenizer, items)
        widest = min(self._widest(), (self.breadth.times + 1) ** min(self.n, 12))
        seq, width = reader.batch.input_ids.shape[1], stream_of(self.model).width
        row = 4 * widest * (self.breadth.times + 2) * seq * width
        rows = torch.bincount(reader.item_of_row).cumsum(0)
        return max(1, int((rows * row <= HELD_BYTES).sum()))

    def _widest(self) -> int:
        return self.breadth.beam * (self.n + self.breadth.extra + 1)

    def _group(self, items: Sequence[SkillItem], wanted: Sequence[int]) -> list[Found]:
        reader = AnswerReader(self.model, self.tokenizer, items, self.lens)
        self._check(reader)
        runner = _Runner(self.model, reader, self.look)
        level = _Level(runner.entering()[None], [0], [[()] for _ in items], [0] * len(items))
        margins = torch.empty(0)
        for layer in range(self.n):
            level, margins = self._next(level, layer, reader, runner, wanted)
            self.on_layer(len(items))
        return [self._found(level, margins, item) for item in range(len(items))]

    def _check(self, reader: AnswerReader) -> None:
        """Refuse a model whose layers cannot be called one by one, over several copies of a batch."""
        base = LayerPlan.identity(self.n)
        if not self.checked:
            probe = base.delete(self.n // 2) if self.n > 1 else base
            problem = cannot_start_in_the_middle(self.model, reader.batch, [probe])
            if not problem and cannot_run_together(self.model, reader.batch, [probe]):
                problem = "Several copies of a batch do not run as one."
            if problem:
                raise AnatomyError(
                    f"Programs cannot be searched on a {type(self.model).__name__}, whose layers cannot be called one by "
                    f"one: {problem} Try single plans on the Skills page instead."
                )
            self.checked = True

    def _next(
        self, level: _Level, layer: int, reader: AnswerReader, runner: _Runner, wanted: Sequence[int]
    ) -> tuple[_Level, torch.Tensor]:
        """Skip, run and repeat a layer behind every beginning, and return the best ones with their margins."""
        states, parents, runs = [level.states], list(range(len(level.lengths))), [0] * len(level.lengths)
        going = list(range(len(level.lengths)))
        for count in range(1, self.breadth.times + 1):
            going_on = [place for place in going if level.lengths[place] + count <= self.n + self.breadth.extra]
            before = states[-1] if count > 1 else level.states
            keep = [going.index(place) for place in going_on]
            going = going_on
            if not going:
                break
            # layers may be spread over devices
            states.append(runner.run(self.layers[layer], layer, before[keep]).to(level.states.device))
            parents += going
            runs += [count] * len(going)
            self.work.shared += len(going) * len(wanted)
            self.work.alone += sum(level.lengths[place] + count for place in going) * len(wanted)
        last = layer == self.n - 1
        scores = [reader.scores(state, None if last else layer + 1, self.look) for state in states]
        margins = reader.margins(torch.cat(scores), wanted)
        return self._best(level, layer, _Candidates(torch.cat(states), parents, runs, margins), reader)

    def _best(
        self, level: _Level, layer: int, candidates: _Candidates, reader: AnswerReader
    ) -> tuple[_Level, torch.Tensor]:
        """Return the best beginnings of every number of slots, for each item, and their margins `[width, items]`."""
        lengths = [
            level.lengths[parent] + runs for parent, runs in zip(candidates.parents, candidates.runs, strict=True)
        ]
        worth = candidates.margins.nan_to_num(nan=-torch.inf)
        for item, place in enumerate(level.own):
            worth[candidates.at(place, 1), item] = torch.inf
        chosen, kept = [], []
        for length in sorted(set(lengths)):
            if length + self.breadth.times * (self.n - 1 - layer) < self.breadth.least:
                continue
            here = torch.tensor([at for at, own in enumerate(lengths) if own == length])
            best = worth[here].topk(min(self.breadth.beam, len(here)), dim=0).indices
            chosen.append(here[best])
            kept += [length] * len(best)
        picks = torch.cat(chosen)
        layers = [
            [level.layers[item][candidates.parents[pick]] + (layer,) * candidates.runs[pick] for pick in column]
            for item, column in enumerate(picks.T.tolist())
        ]
        # the unchanged model's beginning is the first of its length
        own = [kept.index(layer + 1)] * len(layers)
        rows = torch.arange(len(reader.item_of_row))
        states = candidates.states[picks[:, reader.item_of_row], rows]
        return _Level(states, kept, layers, own), candidates.margins.gather(0, picks)

    def _found(self, level: _Level, margins: torch.Tensor, item: int) -> Found:
        programs = [
            Program(layers, float(margin)) for layers, margin in zip(level.layers[item], margins[:, item], strict=True)
        ]
        best: dict[int, Program] = {}
        for one in programs:
            known = best.get(len(one.layers))
            if known is None or one.margin > known.margin:
                best[len(one.layers)] = one
        return Found(programs[level.own[item]], tuple(best[length] for length in sorted(best)))


@dataclass(eq=False)
class _Candidates:
    """Every continuation of a level: its state, which beginning it continues, and how often it runs the layer."""

    states: torch.Tensor
    parents: list[int]
    runs: list[int]
    margins: torch.Tensor
    places: dict[tuple[int, int], int] = field(init=False)

    def __post_init__(self) -> None:
        self.places = {pair: at for at, pair in enumerate(zip(self.parents, self.runs, strict=True))}

    def at(self, parent: int, runs: int) -> int:
        """Return the place of one of them."""
        return self.places[parent, runs]


class _Runner:
    """Runs single layers over copies of a batch, as many at a time as fit."""

    def __init__(self, model: nn.Module, reader: AnswerReader, look: Look) -> None:
        self.model, self.batch, self.look = model, reader.batch, look
        device = self.batch.input_ids.device.type
        tokens = TOGETHER["cpu" if device == "cpu" else "cuda"]
        self.copies = max(1, tokens // self.batch.input_ids.numel())
        self.calls: dict[int, list[Rest]] = {}

    def entering(self) -> torch.Tensor:
        """Return what enters the first layer, `[rows, seq, d_model]`."""
        first: list[torch.Tensor] = []

        def seen(depth: int, state: torch.Tensor) -> None:
            if not depth:
                first.append(state.clone())

        self.calls[1] = record_calls(private_copy(self.model), self.batch, seen, self.look)
        return first[0]

    def run(self, layer: nn.Module, number: int, states: torch.Tensor) -> torch.Tensor:
        """Return what leaves a layer for states `[k, rows, seq, d_model]`."""
        done = []
        for some in states.split(self.copies):  # type: ignore[no-untyped-call]
            self.look()
            rest = self._calls(len(some))[number]
            # a copy: a layer may write into its input
            done.append(call_layer(layer, rest, some.flatten(0, 1).clone()).view_as(some))
        return torch.cat(done)

    def _calls(self, copies: int) -> list[Rest]:
        if copies not in self.calls:
            self.calls[copies] = calls_of_copies(self.model, self.batch, copies)
        return self.calls[copies]

"""The Jacobians of one text: how what leaves each layer moves what leaves the last one, from one graph.

For a text, row d of a layer's matrix is the gradient of the sum over the valid positions of component d of the target
layer's output with respect to that layer's output, averaged over the valid positions: the estimator of the reference
(transformer-circuits.pub/2026/workspace), in which terms between positions are part of the sum. Valid are the positions
from the 17th to the last but one.

One forward pass makes the graph, from the first wanted layer to the target: none below, none through the vocabulary.
Output components go backward through it several at once, and every layer's rows come from the same pass. On a CPU each
of torch's threads has a graph and passes of its own: small products share two threads badly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from surgery_core.errors import LensError
from surgery_core.failures import FAILURES
from surgery_core.states.last import run_body
from surgery_core.states.residuals import places_of
from surgery_core.surgery.anatomy import device_of, find_layers, plan_of, width_of
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.cache import reading_on
from surgery_core.surgery.closeness import relative_difference
from surgery_core.surgery.layer_io import hidden_of, with_hidden
from surgery_core.surgery.recording import replacing
from surgery_core.surgery.stream_form import Stream, stream_of

Look = Callable[[], None]

ELEMENTS = {"cpu": 2**18, "cuda": 2**24}
"""Most values of one layer's gradients that are held at once: 1 MB on a CPU, whose cache holds them, 64 MB on a GPU."""
MOST_COPIES = 8
"""Most copies of a text that run where a graph cannot be shared: each has the graph's memory once more."""
TRIED = 2
"""Output components whose rows have to agree before a faster way is taken."""
CLOSE, CLOSE_HALF = 1e-5, 1e-2


@dataclass(frozen=True)
class Way:
    """How a text is run and differentiated.

    Attributes:
        shared: all components go backward through one graph, as a batch of gradients; else the text runs in copies, one
            for each component of a pass.
        after_prefix: what comes before the first valid position runs first and fills a cache, and the graph begins
            behind it: what is left out reaches no valid position.
    """

    shared: bool
    after_prefix: bool


WAYS = (Way(shared=True, after_prefix=True), Way(shared=True, after_prefix=False))
"""Faster ways, the fastest first; each is tried against the plain one on the first text."""
PLAIN = Way(shared=False, after_prefix=False)


@dataclass(frozen=True, eq=False)
class _Graph:
    """What leaves the wanted layers and the target, `[copies, seq, d_model]`, and the first valid of its positions."""

    sources: tuple[torch.Tensor, ...]
    target: torch.Tensor
    begin: int
    end: int


class TextJacobians:
    """Reads the Jacobians of texts, one after the other, on private copies of a model.

    Args:
        model: a causal language model or a view of one; it is not changed.
        sources: slots whose output is differentiated by, rising.
        target: the slot whose output is.
        skip: positions at the beginning that are not valid.
        look: called before every pass; it may raise to stop the work.
    """

    def __init__(
        self, model: nn.Module, sources: Sequence[int], target: int, skip: int, look: Look = lambda: None
    ) -> None:
        places = places_of(plan_of(model))
        self.sources, self.target = [places[slot] - 1 for slot in sources], places[target] - 1
        self.model, self.skip, self.look = model, skip, look
        self.width, self.stream = width_of(model), stream_of(model)
        self.way: Way | None = None
        self._copies: dict[bool, Any] = {}

    def read(self, ids: Sequence[int]) -> torch.Tensor:
        """Return a text's Jacobians `[sources, d_model, d_model]` in float32 on the CPU.

        Memory: the result; and for each of torch's threads a graph of the text, and the gradients of as many components as
        `ELEMENTS` has room for.

        Raises:
            LensError: when the model's code cannot be differentiated.
        """
        tokens = torch.tensor([list(ids)], device=device_of(self.model))
        if self.way is None:
            self.way = self._tried(tokens)
        return self._rows(tokens, self.way, self.width)

    def _tried(self, tokens: torch.Tensor) -> Way:
        """Return the fastest way whose first rows are those of the plain one."""
        plain = self._rows(tokens, PLAIN, TRIED)
        close = CLOSE if next(self.model.parameters()).dtype == torch.float32 else CLOSE_HALF
        for way in WAYS:
            try:
                rows = self._rows(tokens, way, TRIED)
            except FAILURES:
                continue
            if relative_difference(rows, plain, blind=True) <= close:
                return way
        return PLAIN

    def _rows(self, tokens: torch.Tensor, way: Way, most: int) -> torch.Tensor:
        """Return the first rows of every matrix, `[sources, most, d_model]`."""
        length = tokens.shape[1] - (self.skip if way.after_prefix else 0)
        at_once = _at_once(length * self.width, tokens.device)
        at_once = min(most, at_once if way.shared else min(at_once, MOST_COPIES))
        passes, found = range(0, most, at_once), torch.empty((len(self.sources), most, self.width))
        threads = min(torch.get_num_threads(), len(passes)) if way.shared and tokens.device.type == "cpu" else 1
        with torch.enable_grad():
            graphs = [self._graph(tokens.expand(1 if way.shared else at_once, -1), way) for _ in range(threads)]

        def run(graph: _Graph, starts: Sequence[int]) -> None:
            for start in starts:
                self.look()
                stop = min(most, start + at_once)
                for matrix, rows in zip(found, _backward(graph, start, stop, shared=way.shared), strict=True):
                    matrix[start:stop] = rows

        _side_by_side([partial(run, graph, passes[at::threads]) for at, graph in enumerate(graphs)])
        return found

    def _graph(self, tokens: torch.Tensor, way: Way) -> _Graph:
        view, begin = self._view(eager=way.shared), self.skip
        past: dict[str, Any] = {}
        cut = tokens
        if way.after_prefix:
            with torch.no_grad():
                past = reading_on(view.base_model(input_ids=tokens[:, :begin], use_cache=True))
            # the last token is not valid, and nothing valid comes after it
            cut, begin = tokens[:, begin:-1], 0
        taken = _Taken(self.stream, self.sources, self.target)
        with replacing(find_layers(view)[1], taken.take):
            if past:
                view.base_model(input_ids=cut, use_cache=True, **past)
            else:
                run_body(view, cut, torch.ones_like(cut), grad=True)
        return taken.graph(begin, cut.shape[1] - (not way.after_prefix), self.model)

    def _view(self, *, eager: bool) -> Any:
        """Return a private copy whose weights ask for no gradients; the model's own weights keep what they ask for."""
        if eager not in self._copies:
            view = private_copy(self.model)
            for module in view.modules():
                for name, weight in module._parameters.items():
                    if weight is not None and weight.requires_grad:
                        module._parameters[name] = nn.Parameter(weight.detach(), requires_grad=False)
            if eager:
                # fused kernels have no rule for a batch of gradients; that the result is the same is tried
                view.set_attn_implementation("eager")
            self._copies[eager] = view
        return self._copies[eager]


class _Taken:
    """Takes the states that are wanted while layers run, and begins the graph at the first of them."""

    def __init__(self, stream: Stream, sources: Sequence[int], target: int) -> None:
        self.stream, self.sources, self.target = stream, sources, target
        self.states: dict[int, torch.Tensor] = {}

    def take(self, number: int, output: Any) -> Any:
        """Keep a wanted state; what is handed on is a copy, for a layer may write into its input."""
        if number == self.target:
            self.states[number] = self.stream.leaving(output)
            return self._handed_on(output, self.states[number].detach())
        if number not in self.sources:
            return output
        state = self.stream.leaving(output)
        self.states[number] = state.detach().requires_grad_() if number == self.sources[0] else state
        return self._handed_on(output, self.states[number].clone())

    def _handed_on(self, output: Any, state: torch.Tensor) -> Any:
        return with_hidden(output, hidden_of(self.stream.output(state)))

    def graph(self, begin: int, end: int, model: nn.Module) -> _Graph:
        """Return what was taken; a layer that did not run, or a target that nothing leads to, is refused."""
        missing = [number for number in (*self.sources, self.target) if number not in self.states]
        name = type(model).__name__
        if missing:
            raise LensError(f"Layer {missing[0]} of {name} does not run on text alone, so it has no Jacobian.")
        target = self.states[self.target]
        if not target.requires_grad:
            raise LensError(
                f"{name} cannot be differentiated: what leaves layer {self.target} has no gradient with respect to layer "
                f"{self.sources[0]}. A Jacobian lens needs a model whose own code keeps gradients; use a tuned lens."
            )
        return _Graph(tuple(self.states[number] for number in self.sources), target, begin, end)


def _backward(graph: _Graph, start: int, stop: int, *, shared: bool) -> list[torch.Tensor]:
    """Return rows `start` to `stop` of each layer's matrix, `[stop - start, d_model]`."""
    target, count = graph.target, stop - start
    wanted = torch.zeros((count, *target.shape) if shared else target.shape, dtype=target.dtype, device=target.device)
    seeds = wanted[:, 0] if shared else wanted
    for row in range(count):
        seeds[row, graph.begin : graph.end, start + row] = 1

    def backward(cotangent: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(target, graph.sources, cotangent, retain_graph=True, materialize_grads=True)

    # `vmap` of torch.func, and not `is_grads_batched`: that has no rules for several activations and loops over them
    found = torch.func.vmap(backward)(wanted) if shared else backward(wanted)
    return [
        (grads[:, 0] if shared else grads[:count])[:, graph.begin : graph.end].float().mean(1).cpu() for grads in found
    ]


def _side_by_side(runs: Sequence[Callable[[], None]]) -> None:
    """Do pieces of work at once, each in a thread with one of torch's own threads; raise what the first of them raises."""
    if len(runs) == 1:
        return runs[0]()
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(len(runs), "jacobians", partial(torch.set_num_threads, 1)) as pool:
            for done in [pool.submit(run) for run in runs]:
                done.result()
    finally:
        # it is also what threads of somebody else's begin with
        torch.set_num_threads(before)


def _at_once(elements: int, device: torch.device) -> int:
    return max(1, ELEMENTS["cpu" if device.type == "cpu" else "cuda"] // elements)

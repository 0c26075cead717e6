"""Sweeps: one kind of edit tried everywhere, each row exact and the common work done once.

    for row in sweep(model, tokenizer, texts, "delete"):
        print(row.plan, row.perplexity)

The base runs once (`prefix`); of every plan only what lies behind its first change is run, the head is applied
once a plan in chunks, and all figures of a row come from one pass over its logits (`sweep_statistics`). Where a
model cannot start in the middle, plans are run whole, and `Sweep.note` says so.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery_core.anatomy import find_layers
from surgery_core.errors import PlanError, RefusedPlanError, SettingsError, Stopped
from surgery_core.generate import GenerationSettings, complete
from surgery_core.head import BaseSide, Figures, Head, of_logits
from surgery_core.material import Means
from surgery_core.measure import Encoded, Progress, encode_texts
from surgery_core.plan import LayerPlan
from surgery_core.prefix import DEFAULT_MEMORY, SharedRuns, cannot_start_in_the_middle, layer_runs
from surgery_core.skills import Skill, score_skill
from surgery_core.sweep_plans import SweepOptions, SweepPoint, sweep_points
from surgery_core.sweep_rows import SweepRow
from surgery_core.sweep_statistics import Sums, text_bytes
from surgery_core.text import Text
from surgery_core.view import checked_plan, operate

KEPT_BYTES = 2**28
"""Most bytes of the base's probabilities that are kept; beyond it they are made again for each plan."""


@dataclass(frozen=True)
class SweepMeasures:
    """What is measured of every plan, besides its loss.

    Attributes:
        agreement: KL(base || operated), top-1 and top-5 kept.
        skills: labelled prompts to answer; run whole, which takes longer.
        prompt: a beginning to continue greedily, for distinct-n of the text; None for no text.
        new_tokens: length of that text in tokens.
    """

    agreement: bool = True
    skills: tuple[Skill, ...] = ()
    prompt: str | None = None
    new_tokens: int = 64


class Sweep:
    """One sweep over a model: its points, what it starts from, and its rows as they come.

    Args:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        texts: what is scored; `Encoded` where that was done before.
        points: the plans, of `sweep_points`.
        start: the plan that they change; by default the unchanged model.
        measures: what is measured.
        donors, means: as for `operate`, for plans that name them.
        stride: tokens between windows of a long text, as for `score`.
        memory: bytes of hidden states that may be kept.
        stop: when set, the sweep ends with `Stopped` within a layer's or a chunk's time.

    Raises:
        TextError: when there is no text, or one of fewer than two tokens.
        SettingsError: when there is no plan.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        texts: Iterable[Text] | Text | str | Encoded,
        points: Sequence[SweepPoint],
        *,
        start: LayerPlan | str | None = None,
        measures: SweepMeasures | None = None,
        donors: Mapping[str, nn.Module] | None = None,
        means: Means | None = None,
        stride: int | None = None,
        memory: int = DEFAULT_MEMORY,
        stop: threading.Event | None = None,
    ) -> None:
        n_layers = len(find_layers(model)[1])
        self.model, self.tokenizer, self.points = model, tokenizer, tuple(points)
        self.start = LayerPlan.identity(n_layers) if start is None else checked_plan(start, n_layers)
        self.measures, self.memory, self.stop = measures or SweepMeasures(), memory, stop
        self.material: dict[str, Any] = {"donors": donors, "means": means}
        if not self.points:
            raise SettingsError("There is no plan to try; choose a sweep that fits the model.")
        self.encoded = texts if isinstance(texts, Encoded) else encode_texts(model, tokenizer, texts, stride)
        self.note = ""

    @property
    def layer_runs(self) -> int:
        """Return how many layers run over the texts when every common beginning runs once."""
        return layer_runs([LayerPlan.identity(self.start.n_layers), self.start, *(p.plan for p in self.points)])

    def look(self) -> None:
        """Stop the work where that was asked for.

        Raises:
            Stopped: when `stop` was set.
        """
        if self.stop is not None and self.stop.is_set():
            raise Stopped("The sweep was stopped.")

    def rows(self, done: Iterable[int] = (), on_progress: Progress | None = None) -> Iterator[SweepRow]:
        """Yield the row of the starting plan (number -1), then one a point, each as soon as it is known.

        Args:
            done: numbers of points to leave out, because their rows are there already.
            on_progress: called with (rows done, rows in all).

        Raises:
            Stopped: when `stop` was set.
        """
        left = [point for point in self.points if point.number not in set(done)]
        run = _Run(self, [self.start, *(point.plan for point in left)])
        self.note = run.note
        first = run.row(SweepPoint(-1, "start", None, self.start))
        yield first
        for count, point in enumerate(left, 1 + len(self.points) - len(left)):
            row = run.row(point, first.nats)
            if on_progress is not None:
                on_progress(count, len(self.points))
            yield row


def sweep(
    model: nn.Module,
    tokenizer: Any,
    texts: Iterable[Text] | Text | str,
    kind: str = "delete",
    options: SweepOptions | None = None,
    *,
    start: LayerPlan | str | None = None,
    measures: SweepMeasures | None = None,
    memory: int = DEFAULT_MEMORY,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Iterator[SweepRow]:
    """Try one kind of edit everywhere and yield a row a plan as soon as it is known, the starting plan's first.

    Args:
        model: the base; it is not changed.
        tokenizer: its tokenizer.
        texts: what is scored.
        kind: key of a kind, such as `"delete"` or `"skip-block"`; `KINDS` lists them.
        options: what the kind may need.
        start: the plan that every point changes; by default the unchanged model.
        measures: what is measured besides the loss.
        memory: bytes of hidden states that may be kept.
        stop: when set, the sweep ends with `Stopped`.
        on_progress: called with (rows done, rows in all).

    Raises:
        SettingsError: for an unknown kind, or one that does not fit the model's depth.
        TextError: when there is no text, or one of fewer than two tokens.
    """
    n_layers = len(find_layers(model)[1])
    begin = LayerPlan.identity(n_layers) if start is None else checked_plan(start, n_layers)
    points = sweep_points(kind, begin, options)
    run = Sweep(model, tokenizer, texts, points, start=begin, measures=measures, memory=memory, stop=stop)
    return run.rows(on_progress=on_progress)


class _Run:
    """The state of a running sweep: how hidden states are made, the base's side, and the head."""

    def __init__(self, sweep: Sweep, plans: Sequence[LayerPlan]) -> None:
        self.sweep, self.encoded = sweep, sweep.encoded
        self.note = _why_whole(sweep, plans)
        made = _WholeRuns if self.note else _SharedPrefix
        self.runs: _WholeRuns | _SharedPrefix = made(sweep, plans)

    def row(self, point: SweepPoint, before: float | None = None) -> SweepRow:
        """Return a point's row; `before` is the starting plan's loss in nats a token."""
        began = time.perf_counter()
        try:
            view = operate(self.sweep.model, point.plan, **self.sweep.material)
            figures = self._figures(point.plan, view) | self._extras(view)
        except (RefusedPlanError, PlanError) as error:
            return SweepRow(point.number, point.x, point.y, str(point.plan), refused=str(error))
        finally:
            self.runs.finish(point.plan)
        change = 0.0 if before is None else figures["nats"] - before
        seconds = time.perf_counter() - began
        return SweepRow(point.number, point.x, point.y, str(point.plan), loss_change=change, seconds=seconds, **figures)

    def _figures(self, plan: LayerPlan, view: Any) -> dict[str, Any]:
        sums = Sums(len(self.encoded.texts))
        for number, batch in enumerate(self.encoded.batches):
            sums.put(batch, self.runs.figures(plan, view, number))
        return _summary(self.encoded, sums, agreement=self.sweep.measures.agreement)

    def _extras(self, view: Any) -> dict[str, Any]:
        wanted, tokenizer = self.sweep.measures, self.sweep.tokenizer
        extras: dict[str, Any] = {}
        if wanted.skills:
            results = []
            for skill in wanted.skills:
                self.sweep.look()
                results.append(score_skill(view, tokenizer, skill))
            extras["skills"] = {result.skill.title: result.accuracy for result in results}
        if wanted.prompt is not None:
            settings = GenerationSettings(max_new_tokens=wanted.new_tokens)
            text = complete(view, tokenizer, wanted.prompt, settings, stop=self.sweep.stop)
            ids = tokenizer(text.text)["input_ids"]
            extras["distinct"] = tuple(distinct(ids, n) for n in (1, 2, 3))
        return extras


class _SharedPrefix:
    """Figures of plans whose common beginnings run once."""

    def __init__(self, sweep: Sweep, plans: Sequence[LayerPlan]) -> None:
        self.sweep, self.batches = sweep, sweep.encoded.batches
        self.head = Head(sweep.model)
        self.shared = SharedRuns(sweep.model, self.batches, plans, memory=sweep.memory, stop=sweep.stop)
        n_scored = sum(len(batch.targets) for batch in self.batches)
        self.keep = n_scored * self.head.vocab * 4 <= KEPT_BYTES
        self.base: dict[int, BaseSide] = {}

    def figures(self, plan: LayerPlan, view: Any, number: int) -> Figures:
        """Return the figures of a batch's scored positions under a plan."""
        base = self._base(number) if self.sweep.measures.agreement else None
        if base is not None and plan.is_identity:
            return self.head.own_figures(base, self.batches[number].targets)
        entered = self._entered(number, self.shared.hidden(plan, view, number))
        return self.head.figures(entered, self.batches[number].targets, base, self.sweep.look)

    def finish(self, plan: LayerPlan) -> None:
        """Let go of what only this plan needed."""
        self.shared.finish(plan)

    def _entered(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        batch = self.batches[number]
        return self.head.enter(hidden[batch.rows, batch.columns])

    def _base(self, number: int) -> BaseSide:
        if number not in self.base:
            entered = self._entered(number, self.shared.base_hidden(number))
            self.base[number] = self.head.base_side(entered, keep=self.keep, look=self.sweep.look)
        return self.base[number]


class _WholeRuns:
    """Figures of plans that are run whole, for models that cannot start in the middle."""

    def __init__(self, sweep: Sweep, plans: Sequence[LayerPlan]) -> None:
        self.sweep, self.batches = sweep, sweep.encoded.batches
        self.base: dict[int, torch.Tensor] = {}

    def figures(self, plan: LayerPlan, view: Any, number: int) -> Figures:
        """Return the figures of a batch's scored positions under a plan."""
        logits, targets = self._logits(view, number), self.batches[number].targets
        if not self.sweep.measures.agreement:
            return of_logits(logits, targets)
        logp = self._base(number).log_softmax(-1)
        entropy = -torch.where(logp > -torch.inf, logp.exp() * logp, 0.0).sum(-1)
        return of_logits(logits, targets, logp.exp(), (logp.argmax(-1), entropy))

    def finish(self, plan: LayerPlan) -> None:
        """There is nothing to let go of."""

    def _base(self, number: int) -> torch.Tensor:
        if number in self.base:
            return self.base[number]
        logits = self._logits(self.sweep.model, number)
        if logits.numel() * 4 * len(self.batches) <= KEPT_BYTES:
            self.base[number] = logits
        return logits

    def _logits(self, model: Any, number: int) -> torch.Tensor:
        self.sweep.look()
        batch = self.batches[number]
        with torch.inference_mode():
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        scored: torch.Tensor = logits[batch.rows, batch.columns].float()
        return scored


def _why_whole(sweep: Sweep, plans: Sequence[LayerPlan]) -> str:
    if any(layer.donor for plan in plans for slot in plan for layer in slot.layers):
        return "Plans with layers of other models are run whole."
    return cannot_start_in_the_middle(sweep.model, sweep.encoded.batches[0], plans)


def distinct(ids: Sequence[int], n: int) -> float:
    """Return distinct-n: different n-grams over n-grams, 0 to 1 (Li et al., arXiv 1510.03055); NaN where none."""
    grams = [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def _summary(encoded: Encoded, sums: Sums, *, agreement: bool) -> dict[str, Any]:
    nats, tokens = sums.by_text("nats"), sums.by_text("tokens")
    titles = [text.title for text in encoded.texts]
    mean = float(nats.sum() / tokens.sum())
    figures: dict[str, Any] = {
        "nats": mean,
        "perplexity": math.exp(mean) if mean < 700 else math.inf,
        "bits_per_byte": float(nats.sum()) / math.log(2) / max(1, sum(text_bytes(encoded))),
        "texts": dict(zip(titles, (nats / tokens).tolist(), strict=True)),
    }
    if agreement:
        figures |= {"kl": max(0.0, sums.mean("kl")), "top1": sums.mean("top1"), "top5": sums.mean("top5")}
    return figures

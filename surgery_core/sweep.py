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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from surgery_core.anatomy import find_layers
from surgery_core.errors import PlanError, RefusedPlanError, SettingsError, Stopped
from surgery_core.generate import GenerationSettings, complete
from surgery_core.material import Means
from surgery_core.measure import Encoded, Progress, encode_texts
from surgery_core.plan import LayerPlan
from surgery_core.prefix import DEFAULT_MEMORY, SharedRuns, cannot_start_in_the_middle, layer_runs
from surgery_core.skills import Skill, score_skills
from surgery_core.sweep_plans import SweepOptions, SweepPoint, sweep_points
from surgery_core.sweep_rows import SweepRow
from surgery_core.sweep_statistics import KEPT_BYTES, BaseChunk, Sums, text_bytes
from surgery_core.tail import CHUNK_ELEMENTS, Tail
from surgery_core.text import Text
from surgery_core.view import checked_plan, operate
from surgery_core.windows import Batch


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
    """The state of a running sweep: shared hidden states, the base's side, and the head."""

    def __init__(self, sweep: Sweep, plans: Sequence[LayerPlan]) -> None:
        self.sweep, self.encoded = sweep, sweep.encoded
        self.batches: tuple[Batch, ...] = sweep.encoded.batches
        self.sizes = text_bytes(sweep.encoded)
        self.tail = Tail(sweep.model)
        self.note = self._why_whole(plans)
        self.shared: SharedRuns | None = None
        if not self.note:
            self.shared = SharedRuns(sweep.model, self.batches, plans, memory=sweep.memory, stop=sweep.stop)
        self.base = _BaseSide(self) if sweep.measures.agreement else None

    def row(self, point: SweepPoint, before: float | None = None) -> SweepRow:
        """Return a point's row; `before` is the starting plan's loss in nats a token."""
        began = time.perf_counter()
        try:
            view = operate(self.sweep.model, point.plan, **self.sweep.material)
            figures = self._figures(point.plan, view)
            figures |= self._extras(view)
        except (RefusedPlanError, PlanError) as error:
            return SweepRow(point.number, point.x, point.y, str(point.plan), refused=str(error))
        finally:
            if self.shared is not None:
                self.shared.finish(point.plan)
        change = 0.0 if before is None else figures["nats"] - before
        seconds = time.perf_counter() - began
        return SweepRow(point.number, point.x, point.y, str(point.plan), loss_change=change, seconds=seconds, **figures)

    def parts(self, batch: Batch) -> Iterator[slice]:
        """Yield scored positions of a batch, as many at a time as logits may be held at once."""
        step = max(1, CHUNK_ELEMENTS // self.vocab)
        for at in range(0, len(batch.targets), step):
            if self.sweep.stop is not None and self.sweep.stop.is_set():
                raise Stopped("The sweep was stopped.")
            yield slice(at, at + step)

    @property
    def vocab(self) -> int:
        """Return the number of logits."""
        head = self.sweep.model.get_output_embeddings()  # type: ignore[operator]
        return int(head.weight.shape[0] if head is not None else self.sweep.model.config.vocab_size)  # type: ignore[union-attr, arg-type]

    def scored(self, plan: LayerPlan, view: Any, number: int) -> Callable[[slice], torch.Tensor]:
        """Return what makes logits `[n, vocab]`, float32, of scored positions of a batch under a plan."""
        batch = self.batches[number]
        if self.shared is None:
            with torch.inference_mode():
                logits = view(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
            whole = logits[batch.rows, batch.columns]
            return lambda part: whole[part].float()
        return self.head(batch, self.shared.hidden(plan, view, number))

    def head(self, batch: Batch, hidden: torch.Tensor) -> Callable[[slice], torch.Tensor]:
        """Return what makes logits of scored positions from what leaves the last layer."""
        scored = hidden[batch.rows, batch.columns]
        return lambda part: self.tail.logits(scored[part][None])[0].float()

    def _why_whole(self, plans: Sequence[LayerPlan]) -> str:
        if any(layer.donor for plan in plans for slot in plan for layer in slot.layers):
            return "Plans with layers of other models are run whole."
        return cannot_start_in_the_middle(self.sweep.model, self.batches[0], plans)

    def _figures(self, plan: LayerPlan, view: Any) -> dict[str, Any]:
        sums = Sums(len(self.encoded.texts))
        for number, batch in enumerate(self.batches):
            logits = self.scored(plan, view, number)
            for part in self.parts(batch):
                base = self.base.chunk(number, part) if self.base is not None else None
                sums.put(batch, part, logits(part), base)
        return _summary(self.encoded, sums, self.sizes, agreement=self.base is not None)

    def _extras(self, view: Any) -> dict[str, Any]:
        wanted, tokenizer = self.sweep.measures, self.sweep.tokenizer
        extras: dict[str, Any] = {}
        if wanted.skills:
            results = score_skills(view, tokenizer, wanted.skills)
            extras["skills"] = {result.skill.title: result.accuracy for result in results}
        if wanted.prompt is not None:
            settings = GenerationSettings(max_new_tokens=wanted.new_tokens)
            text = complete(view, tokenizer, wanted.prompt, settings, stop=self.sweep.stop)
            ids = tokenizer(text.text)["input_ids"]
            extras["distinct"] = tuple(distinct(ids, n) for n in (1, 2, 3))
        return extras


class _BaseSide:
    """The base's probabilities at every scored position, kept where they fit and made again where not."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.logits = [self._logits(number) for number in range(len(run.batches))]
        total = sum(len(batch.targets) for batch in run.batches) * run.vocab * 4
        self.kept: dict[tuple[int, int], BaseChunk] | None = {} if total <= KEPT_BYTES else None

    def chunk(self, number: int, part: slice) -> BaseChunk:
        """Return the base's side of scored positions of a batch."""
        if self.kept is None:
            return BaseChunk.of(self.logits[number](part))
        key = number, part.start
        if key not in self.kept:
            self.kept[key] = BaseChunk.of(self.logits[number](part))
        return self.kept[key]

    def _logits(self, number: int) -> Callable[[slice], torch.Tensor]:
        run, batch = self.run, self.run.batches[number]
        if run.shared is not None:
            return run.head(batch, run.shared.base_hidden(number))
        identity = LayerPlan.identity(run.sweep.start.n_layers)
        return lambda part: run.scored(identity, run.sweep.model, number)(part)


def distinct(ids: Sequence[int], n: int) -> float:
    """Return distinct-n: different n-grams over n-grams, 0 to 1 (Li et al., arXiv 1510.03055); NaN where none."""
    grams = [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def _summary(encoded: Encoded, sums: Sums, sizes: Sequence[int], *, agreement: bool) -> dict[str, Any]:
    nats, tokens = sums.by_text("nats"), sums.by_text("tokens")
    titles = [text.title for text in encoded.texts]
    mean = float(nats.sum() / tokens.sum())
    figures: dict[str, Any] = {
        "nats": mean,
        "perplexity": math.exp(mean) if mean < 700 else math.inf,
        "bits_per_byte": float(nats.sum()) / math.log(2) / max(1, sum(sizes)),
        "texts": dict(zip(titles, (nats / tokens).tolist(), strict=True)),
    }
    if agreement:
        figures |= {"kl": max(0.0, sums.mean("kl")), "top1": sums.mean("top1"), "top5": sums.mean("top5")}
    return figures

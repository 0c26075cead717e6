"""How fast a model runs on this machine: a short timing, from which the time of any work is counted.

Times are of one model, whatever is read later. A layer costs something for each call and for each token; attention
adds to that with the width of the window. Everything is timed warm, and the better of two times counts where they
are short: the first run reads weights from disk, and other work on the machine only ever adds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from surgery_core.measure.encoding import Encoded, encode_texts
from surgery_core.measure.generation import complete
from surgery_core.measure.readout import rows_at_once
from surgery_core.measure.skills import Skill, score_skill
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.windows import Batch
from surgery_core.stopping import Progress, raise_if_stopped
from surgery_core.surgery.anatomy import device_of, find_layers, width_of
from surgery_core.sweeps.kinds import SweepPoint
from surgery_core.sweeps.sweep import Sweep
from surgery_core.text import Text, bundled_texts

FEW_TOKENS = 16
"""Tokens of the run that shows what a call costs."""
FEW_WORDS = "Once upon a time there was a king."
SAMPLE_TOKENS = 450
"""Tokens, at least, of the run that shows what a token costs. Plans that are timed over so many are not run together."""
SAMPLE_CHARACTERS = 1_600
ENOUGH = 0.5
"""Seconds: a shorter timing is taken twice."""
PLAIN = 0.75
"""Share of a head's time that is left where a plan is not compared with the base (0.6 to 0.95 were measured)."""
ATTENTION = 2.5
"""How much slower an operation of attention is than one of a product with weights, about (2 to 3.4 were measured)."""
WRITTEN = 4
"""Tokens written for a timing."""
PROMPTS = 8
"""Prompts of each skill that are asked for a timing, about."""
MOST_ROWS = 512
"""Tokens at most of the products that are timed, of which as many logits are made at once as training makes."""


@dataclass(frozen=True)
class Speeds:
    """What parts of the work cost on this machine, in seconds.

    Attributes:
        n_layers: of the model.
        call: one layer over one batch, however small.
        layer: one layer over one token more.
        window: share by which `layer` grows with each token of the window, for attention.
        head: the head and all figures of one scored token, of a plan that is compared with the base.
        base: the same of the base itself.
        begin: the checks at the beginning of a sweep.
        prompt: one prompt of a skill.
        token: one written token.
        whole: whether plans are run whole, because the model cannot start in the middle.
        product: one token's product with the unembedding, which is a part of `head`; 0 where the model has none.
    """

    n_layers: int
    call: float
    layer: float
    window: float
    head: float
    base: float
    begin: float
    prompt: float
    token: float
    whole: bool = False
    product: float = 0.0

    def run(self, batches: Sequence[Batch]) -> float:
        """Return how long one layer takes over all batches."""
        return sum(self.call + self.layer * self.tokens(batch) for batch in batches)

    def tokens(self, batch: Batch) -> float:
        """Return a batch's tokens, padding included; those of a wide window count for more."""
        return batch.input_ids.numel() * (1 + self.window * batch.input_ids.shape[-1])

    def depth(self, n_slots: int) -> float:
        """Return the share of a whole model's time that one of `n_slots` layers takes."""
        layers = self.n_layers * self.layer
        everything = layers + self.head
        return (layers * n_slots / max(1, self.n_layers) + self.head) / everything if everything else 1.0


def measure_speeds(
    model: nn.Module, tokenizer: Any, skills: Sequence[Skill] = (), *, stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Speeds:  # fmt: skip
    """Time a model: layers, head, a skill's prompts, written tokens.

    Args:
        model: the base.
        tokenizer: its tokenizer.
        skills: what may be asked, if anything.
        stop: when set, the work ends with `Stopped`.
        on_progress: told how many of the four timings are done.

    Raises:
        Stopped: when `stop` was set.
    """
    told = on_progress or (lambda done, total: None)
    layers = find_layers(model)[1]
    sample = _sample(model, tokenizer)
    weights = sum(one.numel() for one in layers[0].parameters()) if len(layers) else 1
    known = Speeds(
        n_layers=len(layers), call=_call_seconds(model, stop) / max(1, len(layers)), layer=0.0,
        window=ATTENTION * width_of(model) / max(1, weights), head=0.0, base=0.0, begin=0.0, prompt=0.0, token=0.0,
    )  # fmt: skip
    told(1, 4)
    known = _timed_sweep(known, model, tokenizer, sample, stop)
    told(2, 4)
    known = replace(known, product=_product_seconds(model), prompt=_prompt_seconds(model, tokenizer, skills, stop))
    told(3, 4)
    return replace(known, token=_token_seconds(model, tokenizer, sample.texts[0].text, stop))


def _timed_sweep(
    known: Speeds, model: nn.Module, tokenizer: Any, sample: Encoded, stop: threading.Event | None
) -> Speeds:
    """Run a sweep of two plans, behind whose beginnings no layer runs and all but one, and take it apart."""
    identity = LayerPlan.identity(known.n_layers)
    plans = [identity.delete(-1), identity.delete(0)]
    points = [SweepPoint(number, number, None, plan) for number, plan in enumerate(plans)]
    # What a model's first sweep does once, such as to prove its kinds of plans, is no part of a row's time.
    _rows(model, tokenizer, encode_texts(model, tokenizer, Text("Few", FEW_WORDS)), points, stop)
    best = _rows(model, tokenizer, sample, points, stop)
    if best[0] + sum(best[2]) < ENOUGH:
        again = _rows(model, tokenizer, sample, points, stop)
        best = (min(best[0], again[0]), again[1], [min(pair) for pair in zip(best[2], again[2], strict=True)])
    entry, whole, (first, short, long) = best
    scored, n_runs = scored_tokens(sample), max(1, known.n_layers - 1)
    alike = short == long
    head = 0.0 if whole else min(first, short) if alike else short
    layer = (long if whole else 2 * long - 2 * head if alike else long - head) / n_runs
    spent = known.call * len(sample.batches)
    per_token = max(0.0, layer - spent) / sum(known.tokens(batch) for batch in sample.batches)
    reading = known.n_layers * max(layer, spent)
    return replace(
        known, layer=per_token, head=head / scored, base=first / scored, begin=max(0.0, entry - reading), whole=whole
    )


def _rows(
    model: nn.Module, tokenizer: Any, sample: Encoded, points: Sequence[SweepPoint], stop: threading.Event | None
) -> tuple[float, bool, list[float]]:
    """Return how long a sweep takes to begin, whether it runs plans whole, and the time of each row."""
    began = time.perf_counter()
    sweep = Sweep(model, tokenizer, sample, points, stop=stop)
    rows = sweep.rows()
    first = next(rows)
    entry = time.perf_counter() - began - first.seconds
    return max(0.0, entry), bool(sweep.note), [first.seconds, *(row.seconds for row in rows)]


def scored_tokens(encoded: Encoded) -> int:
    """Return how many tokens are scored."""
    return sum(len(batch.targets) for batch in encoded.batches)


def _sample(model: nn.Module, tokenizer: Any) -> Encoded:
    """Return bundled texts, cut where they are long, of enough tokens in one batch."""
    texts: list[Text] = []
    room = SAMPLE_CHARACTERS
    for text in bundled_texts():
        texts.append(Text(text.title, text.text[: max(200, room)]))
        room -= len(texts[-1].text)
        if room <= 0:
            break
    encoded = encode_texts(model, tokenizer, texts)
    while max(batch.input_ids.numel() for batch in encoded.batches) < SAMPLE_TOKENS and len(texts) < 64:
        texts += [Text(f"{text.title} {len(texts)}", text.text) for text in texts]
        encoded = encode_texts(model, tokenizer, texts)
    return encoded


def _call_seconds(model: Any, stop: threading.Event | None) -> float:
    """Return how long the layers take over a few tokens."""
    ids = torch.ones((1, FEW_TOKENS), dtype=torch.long, device=device_of(model))

    def run() -> None:
        raise_if_stopped(stop, "The timing was stopped.")
        with torch.inference_mode():
            model.base_model(input_ids=ids, use_cache=False)

    run()
    return min(_seconds(run) for _ in range(3))


def _product_seconds(model: Any) -> float:
    """Return how long a token's product with the unembedding takes: the mean of that to its logits and that back."""
    weight = getattr(model.get_output_embeddings(), "weight", None)
    if weight is None or not weight.numel():
        return 0.0
    rows: int = min(MOST_ROWS, rows_at_once(int(weight.shape[0]), weight.device))
    states = torch.ones((rows, weight.shape[1]), dtype=weight.dtype, device=weight.device)

    def multiply() -> None:
        with torch.inference_mode():
            # reading a value waits for a device that works by itself
            float((nn.functional.linear(states, weight) @ weight)[0, 0])

    multiply()
    return min(_seconds(multiply) for _ in range(3)) / rows / 2


def _prompt_seconds(model: Any, tokenizer: Any, skills: Sequence[Skill], stop: threading.Event | None) -> float:
    """Return how long a prompt takes: some of every skill, for those of one skill are alike."""
    times, count = 0.0, 0
    for skill in skills:
        raise_if_stopped(stop, "The timing was stopped.")
        asked = replace(skill, items=skill.items[:: max(1, len(skill.items) // PROMPTS)])
        times += _seconds(lambda: score_skill(model, tokenizer, asked, stop=stop))  # noqa: B023 - called at once
        count += len(asked.items)
    return times / max(1, count)


def _token_seconds(model: Any, tokenizer: Any, text: str, stop: threading.Event | None) -> float:
    """Return how long one more token takes to write; reading the prompt is taken off."""

    def write(count: int) -> float:
        raise_if_stopped(stop, "The timing was stopped.")
        settings = GenerationSettings(max_new_tokens=count)
        return _seconds(lambda: complete(model, tokenizer, text[:100], settings, stop=stop))

    write(1)
    one, more = write(1), write(1 + WRITTEN)
    return max(0.0, more - one) / WRITTEN


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began

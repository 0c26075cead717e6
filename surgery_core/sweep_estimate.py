"""How long a sweep will take, from a short timing of the model and a count of what has to run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from surgery_core.anatomy import find_layers
from surgery_core.errors import Stopped
from surgery_core.generate import GenerationSettings, complete
from surgery_core.measure import Encoded, encode_texts
from surgery_core.plan import LayerPlan
from surgery_core.skills import Skill, score_skill
from surgery_core.sweep import Sweep, SweepMeasures
from surgery_core.sweep_file import texts_digest
from surgery_core.sweep_plans import SweepPoint
from surgery_core.text import Text, as_texts

SAMPLE_CHARACTERS = 1_500
"""About how much text is run for a timing: some hundred tokens."""
SAMPLE_TOKENS = 4
"""Tokens written for a timing."""


@dataclass(frozen=True)
class Costs:
    """What parts of a sweep cost on this machine, in seconds.

    Attributes:
        layer: one layer over all texts.
        head: the head and the figures of one plan.
        item: one prompt of a skill.
        token: one written token.
        whole: whether plans are run whole, because the model cannot start in the middle.
        n_tokens: scored tokens of all texts.
        texts: how many texts, and their digest, as in a results file.
    """

    layer: float
    head: float
    item: float
    token: float
    whole: bool
    n_tokens: int
    texts: str

    def point_seconds(self, runs: int, measures: SweepMeasures) -> float:
        """Return how long a plan takes for which so many layers run."""
        items = sum(len(skill.items) for skill in measures.skills)
        tokens = measures.new_tokens if measures.prompt is not None else 0
        return runs * self.layer + self.head + items * self.item + tokens * self.token

    def seconds(self, start: LayerPlan, points: Sequence[SweepPoint], measures: SweepMeasures) -> list[float]:
        """Return how long each point takes; the base and the starting plan are added to the first one's."""
        runs = point_runs(start, [point.plan for point in points], whole=self.whole)
        found = [self.point_seconds(one, measures) for one in runs]
        if found:
            found[0] += self.point_seconds(start.n_layers, SweepMeasures()) + self.point_seconds(0, measures)
        return found


def point_runs(start: LayerPlan, plans: Sequence[LayerPlan], *, whole: bool = False) -> list[int]:
    """Return how many layers run for each plan when every beginning that came before runs once.

    Args:
        start: the plan that the sweep starts from; it and the base ran before.
        plans: in the order in which they run.
        whole: whether nothing is shared.
    """
    tree: dict[Any, Any] = {}
    for plan in (LayerPlan.identity(start.n_layers), start):
        _walk(tree, plan)
    return [_layers(plan) if whole else _walk(tree, plan) for plan in plans]


def measure_costs(
    model: nn.Module, tokenizer: Any, texts: Iterable[Text] | Text | str, skill: Skill | None = None, *,
    stop: threading.Event | None = None,
) -> Costs:  # fmt: skip
    """Time a model on a beginning of the texts, and scale to all of them.

    Args:
        model: the base.
        tokenizer: its tokenizer.
        texts: what a sweep will score.
        skill: one skill to time, if skills may be asked for.
        stop: when set, the work ends with `Stopped`.

    Raises:
        TextError: when there is no text, or one of fewer than two tokens.
        Stopped: when `stop` was set.
    """
    wanted = as_texts(texts)
    encoded = encode_texts(model, tokenizer, wanted)
    sample = encode_texts(model, tokenizer, _sample(wanted))
    n_layers = len(find_layers(model)[1])
    identity = LayerPlan.identity(n_layers)
    plans = [identity.delete(-1), identity.delete(0)] if n_layers > 1 else [identity.delete(0)]
    points = [SweepPoint(number, number, None, plan) for number, plan in enumerate(plans)]
    sweep = Sweep(model, tokenizer, sample, points, stop=stop)
    rows = list(sweep.rows())[1:]
    short, long = rows[0].seconds, rows[-1].seconds
    layer = long / max(1, n_layers - 1) if sweep.note else max(0.0, long - short) / max(1, n_layers - 1)
    return Costs(
        layer=layer * _cells(encoded) / _cells(sample),
        head=(0.0 if sweep.note else short) * _scored(encoded) / _scored(sample),
        item=_item_seconds(model, tokenizer, skill, stop),
        token=_token_seconds(model, tokenizer, sample.texts[0].text, stop),
        whole=bool(sweep.note),
        n_tokens=_scored(encoded),
        texts=texts_digest(encoded),
    )


def _walk(tree: dict[Any, Any], plan: LayerPlan) -> int:
    """Put a plan into a tree of beginnings and return how many layers it adds."""
    added = 0
    for slot in plan:
        if slot not in tree:
            tree[slot] = {}
            added += len(slot.layers)
        tree = tree[slot]
    return added


def _layers(plan: LayerPlan) -> int:
    return sum(len(slot.layers) for slot in plan)


def _sample(texts: Sequence[Text]) -> list[Text]:
    """Return texts, cut where they are long, of about as many characters as are timed."""
    found: list[Text] = []
    room = SAMPLE_CHARACTERS
    for text in texts:
        if room > 0 and text.text[:room].strip():
            found.append(Text(text.title, text.text if len(text.text) <= room else text.text[: max(room, 200)]))
            room -= len(found[-1].text)
    return found or [texts[0]]


def _cells(encoded: Encoded) -> int:
    return sum(batch.input_ids.numel() for batch in encoded.batches)


def _scored(encoded: Encoded) -> int:
    return sum(len(batch.targets) for batch in encoded.batches)


def _item_seconds(model: Any, tokenizer: Any, skill: Skill | None, stop: threading.Event | None) -> float:
    _look(stop)
    if skill is None:
        return 0.0
    began = time.perf_counter()
    score_skill(model, tokenizer, skill)
    return (time.perf_counter() - began) / len(skill.items)


def _token_seconds(model: Any, tokenizer: Any, text: str, stop: threading.Event | None) -> float:
    _look(stop)
    began = time.perf_counter()
    complete(model, tokenizer, text[:100], GenerationSettings(max_new_tokens=SAMPLE_TOKENS), stop=stop)
    return (time.perf_counter() - began) / SAMPLE_TOKENS


def _look(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Stopped("The timing was stopped.")

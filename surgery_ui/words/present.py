"""How numbers, plans and messages read on a page. Nothing here computes a result or imports Streamlit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from surgery_core.measure.generation import Generation
from surgery_core.measure.results import Comparison, Figure, ScoreTable
from surgery_core.models.opening import AdapterInfo, ModelInfo
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.words import which
from surgery_core.statistics.verdict import Word

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&])")

NOTHING = "–"
"""What stands where there is no figure."""


@dataclass(frozen=True)
class Metric:
    """One headline figure: its value, its change against the base model, and what it means."""

    label: str
    value: str
    change: str | None
    help: str
    colour: Literal["red", "green", "gray"] = "gray"


def plain(text: str) -> str:
    """Return text so that Markdown shows it letter for letter, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def amount(value: float) -> str:
    """Return a perplexity or another positive number in about three digits: `6.21`, `62.1`, `1,234`, `1.2e+09`."""
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞"
    if abs(value) >= 1e7:
        return f"{value:.1e}"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def share(value: float) -> str:
    """Return a share between 0 and 1 as a percentage with one decimal."""
    return NOTHING if math.isnan(value) else f"{value:.1%}"


def decimals(value: float, signed: bool = False) -> str:
    """Return a figure with three decimals, `1.903` or `+0.048`; what is no number has none."""
    if not math.isfinite(value):
        return amount(value)
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def times(value: float) -> str:
    """Return a ratio: `×1.52`."""
    return f"×{amount(value)}"


def count(value: int) -> str:
    """Return a large count in short: `6.1M`, `1.2B`, `940`."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return str(value)


def size(n_bytes: int) -> str:
    """Return an amount of memory: `24 MB`, `1.3 GB`."""
    for unit_bytes, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit_bytes:
            return f"{n_bytes / unit_bytes:.3g} {unit}"
    return f"{n_bytes} bytes"


def facts(info: ModelInfo) -> str:
    """Return the facts of a model in one line."""
    return (
        f"{info.n_layers} layers, {info.d_model} wide, {count(info.n_parameters)} parameters, "
        f"{info.dtype} on {_device(info.device)}"
    )


def title(info: ModelInfo, plan: LayerPlan) -> str:
    """Return the heading of a page about a plan."""
    return f"{plain(info.title)}, unchanged" if plan.is_identity else f"{plain(info.title)} after surgery"


def headline(result: Comparison | ScoreTable) -> tuple[Metric, ...]:
    """Return the four headline figures, of a comparison or of the unchanged model alone."""
    base = result if isinstance(result, ScoreTable) else result.base
    after = result if isinstance(result, ScoreTable) else result.operated
    compared = None if isinstance(result, ScoreTable) else result
    ratio = bits = top1 = kl = None
    if compared is not None:
        ratio = f"{times(compared.ratio)}{_span(compared, 'ratio', amount)}"
        bits = f"{decimals(compared.bits_change, signed=True)}{_span(compared, 'bits_change', decimals)}"
        top1 = _span(compared, "top1", share).strip(" ()") or None
        kl = _span(compared, "kl", decimals).strip(" ()") or None
    was = ["", ""] if compared is None else [
        f" Before surgery it was {said}." for said in (amount(base.perplexity), decimals(base.bits_per_byte))
    ]  # fmt: skip
    colour = "gray" if compared is None else _colour(compared.verdict().word)
    return (
        Metric("Perplexity", amount(after.perplexity), ratio, PERPLEXITY + was[0], colour),
        Metric("Bits per byte", decimals(after.bits_per_byte), bits, BITS + was[1], colour),
        Metric("Top-1 agreement", share(compared.top1 if compared else 1.0), top1, TOP1),
        Metric("Mean KL", f"{decimals(compared.kl if compared else 0.0)} nats", kl, KL),
    )


def interval_help(margin: float) -> str:
    """Return what intervals are about and what they are not; `margin` is what counts as the same, as a share."""
    return f"{_INTERVAL} “The same” means that the whole interval lies within {100 * margin:g} % of no change."


_INTERVAL = (
    "Figures in brackets, and those under Top-1 agreement and Mean KL, are 95 % intervals: where the figure would lie on "
    "other texts of the same kind as these, for this model. They say nothing about other kinds of text. Differences are "
    "taken on the same tokens before and after; what counts as one is a text, or a run of 16 tokens where there are fewer "
    "than eight texts, because the tokens of one text hang together."
)


def _span(compared: Comparison, figure: Figure, how: Callable[[float], str]) -> str:
    """Return the interval of a figure in brackets, or nothing where there is none."""
    found = compared.interval(figure)
    return "" if math.isnan(found.low) else f" ({how(found.low)} to {how(found.high)})"


PERPLEXITY = "How many tokens the model is torn between on average, pooled over the bundled texts. Lower is better."
BITS = "Loss per byte of text, which compares between models with different tokenizers. Lower is better."
TOP1 = "How often the token that the model thinks likeliest is the same as without surgery."
KL = "Mean KL(base || operated) per token: how far the predictions as a whole have moved."


def written(generation: Generation) -> str:
    """Return how a text came to its end, in a line."""
    ended = {"length": "", "end of text": ", the model ended it", "stopped": ", stopped"}[generation.ended]
    return f"{generation.n_tokens} tokens{ended}"


def _colour(word: Word) -> Literal["red", "green", "gray"]:
    """Return the colour of a change: only one that would be seen again has one."""
    colours: dict[str, Literal["red", "green", "gray"]] = {"worse": "red", "better": "green"}
    return colours.get(word, "gray")


def _device(device: str) -> str:
    return {"cpu": "CPU", "mps": "Apple GPU"}.get(device, device.upper())


def _place(source: str, paths: bool) -> str:
    """Return where something lies as a visitor may read it: of a path on the server its last part, unless all may."""
    return source if paths or not Path(source).is_absolute() else Path(source).name


def _adapter_rows(adapter: AdapterInfo | None, paths: bool) -> dict[str, str]:
    if adapter is None:
        return {}
    base, source = _place(adapter.base, paths), _place(adapter.source, paths)
    ranks = adapter.ranks
    rank = "none" if not ranks else f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    around = (path.rpartition(".")[2] for path in adapter.around)
    return {
        "Adapter": f"{adapter.name}, {adapter.kind} of rank {rank}, {count(adapter.n_parameters)} parameters",
        "Adapter is on": f"{', '.join(adapter.modules) or 'no module'} in {which(adapter.layers)}"
        + "".join(f", {name}" for name in around),
        "Base model": base + ("" if source == base else f", from {source}"),
    }


def fact_rows(info: ModelInfo, *, paths: bool = False) -> dict[str, str]:
    """Return every fact of a model by its name.

    Args:
        info: of the model.
        paths: whether whoever reads it may know where on the server it lies.
    """
    context = f"{info.context_length:,} tokens" if info.context_length else "no stated limit"
    return _adapter_rows(info.adapter, paths) | {
        "Architecture": info.architecture,
        "Layers": str(info.n_layers),
        "Width of the residual stream": f"{info.d_model:,}",
        "Vocabulary": f"{info.vocab_size:,} tokens",
        "Context": context,
        "Parameters": f"{info.n_parameters:,}",
        "Memory": size(info.bytes),
        "Runs as": f"{info.dtype} on {_device(info.device)}",
        "From": _place(info.source, paths),
        "Revision": info.revision[:12],
        "Licence": info.licence or "not stated",
    }


def memory(opened: Sequence[ModelInfo], free: int, most: int) -> str:
    """Return what the open models take of the server's memory, what is left, and how many stay open at most."""
    taken = size(sum(info.bytes for info in opened))
    models = f"{len(opened)} {'model is' if len(opened) == 1 else 'models are'} in memory"
    return (
        f"{models} and {'takes' if len(opened) == 1 else 'take'} {taken}; {size(free)} are free. A model that needs more than "
        f"that is refused before it is read. At most {most} stay open; the one that was wanted longest ago goes first."
    )

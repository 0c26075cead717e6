"""Sentences of the Sweep page: times, what papers saw, what this model shows. Nothing here imports Streamlit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile

from surgery_core.measure.importance import rank_correlation
from surgery_core.statistics.ranks import rank_interval
from surgery_core.statistics.verdict import losses_said
from surgery_core.sweeps.estimate import Span
from surgery_core.sweeps.file import SweepIdentity
from surgery_core.sweeps.findings import kept_in_the_middle, longest_block, ordered, variants
from surgery_core.sweeps.frames import figure
from surgery_core.sweeps.kinds import all_kinds
from surgery_core.sweeps.rows import SweepRow
from surgery_ui.words import present

FAMILIES: dict[str, tuple[str, ...]] = {
    "Delete": ("delete", "delete-attention", "delete-mlp", "skip-block", "stitch-block"),
    "Reorder": ("swap-neighbours", "swap-pairs", "move"),
    "Repeat": ("repeat", "repeat-block", "damped-repeat", "damped-block", "loop-block", "atlas"),
    "Scale and replace": ("scale", "replace"),
    "Adapter": ("adapter-off", "adapter-only"),
    "Growing middle": (
        "painters", "skip-middle", "reverse-middle", "shuffle-middle", "parallel-middle", "looped-parallel-middle",
        "repeat-middle",
    ),
}  # fmt: skip
"""Kinds of sweeps by what they do to a layer."""
ADDED = "From packages"
"""Family of the kinds that other packages add."""


PAPERS = {
    "delete": "ShortGPT (arXiv 2403.03853) found that in Llama-2-7B the layers that can go are deep ones: 27, 26, 25, "
    "28 and 24 went first and perplexity rose from 8.0 to 11.4. The first layer is the one that GPT-2 and Pythia "
    "cannot do without; deleting a middle one keeps 72 to 95% of their top predictions (arXiv 2406.19384).",
    "swap-neighbours": "In GPT-2 and Pythia, swapping two middle neighbours keeps 72 to 95% of the top predictions and "
    "hurts less than deleting one of them (arXiv 2406.19384).",
    "skip-block": "“The Unreasonable Ineffectiveness of the Deeper Layers” (arXiv 2403.17887) could drop blocks of deep "
    "layers, but never the last one: Llama-2's answers collapsed only when 45 to 55% of its layers were gone, "
    "Mistral-7B's at 35%, Phi-2's at 25%, Qwen's at 20%.",
    "stitch-block": "ReplaceMe (arXiv 2505.02819, abstract) took out up to 25% of the layers of large models and kept about "
    "90% of what they can do, without training, by a linear map before the block.",
    "painters": "“Transformer Layers as Painters” (arXiv 2407.09298) ranked what can be done to the middle of "
    "Llama-2-7B, from the least to the most harmful: looped parallel, shuffle, reverse, parallel, skip, repeated "
    "centre. The first and the last layers could not be touched.",
    "repeat-block": "RYS, a blog and not reviewed, repeated a block of middle layers of a 72B model and gained 2.6% on "
    "average; repeating a single layer nearly always hurt, and small models did not gain.",
    "damped-block": "“Training-Free Looped Transformers” (arXiv 2605.23872, abstract) found that plain repetition usually "
    "makes a model worse, and that smaller, damped steps can make it better: Qwen3-4B-Instruct by 2.64 points on MMLU-Pro.",
    "loop-block": "“Inner Loop Inference” (arXiv 2602.14759, abstract) ran a block again and went on between the looped state "
    "and the one that was not looped: modest but consistent gains on several benchmarks.",
    "scale": "A factor of 0 deletes the layer, 1 leaves it as it is.",
}  # fmt: skip
PAPERS["adapter-off"] = (
    "LoRA (arXiv 2106.09685, section 7.2) found that a rank as low as one can be enough, and AdaLoRA (arXiv 2303.10512, "
    "section 1) that trained parameters do more in upper layers and MLPs: an adapter need not live everywhere alike."
)
PAPERS["adapter-only"] = PAPERS["adapter-off"]
PAPERS["repeat"] = PAPERS["repeat-block"]
PAPERS["damped-repeat"] = PAPERS["atlas"] = PAPERS["damped-block"]
SMALL = "A small model need not show the same."
IMPORTANCE = (
    "ShortGPT (arXiv 2403.03853) removed the layers of Llama-2-7B with the lowest Block Influence, deep ones first, "
    "and kept most of its quality; “The Unreasonable Ineffectiveness of the Deeper Layers” (arXiv 2403.17887) "
    "removed the block with the smallest angular distance between its ends, and found it among the deeper layers."
)


def families(*, adapter: bool = True) -> dict[str, tuple[str, ...]]:
    """Return the kinds of sweeps by what they do to a layer, and those of other packages, where there are any.

    Args:
        adapter: whether those about an adapter are among them.
    """
    own = {key for keys in FAMILIES.values() for key in keys}
    kinds = {kind.key: kind for kind in all_kinds() if adapter or not kind.adapter}
    found = FAMILIES | {ADDED: tuple(key for key in kinds if key not in own)}
    kept = {name: tuple(key for key in keys if key in kinds) for name, keys in found.items()}
    return {name: keys for name, keys in kept.items() if keys}


def duration(seconds: float) -> str:
    """Return a time in words: `1 s`, `40 s`, `3 min`, `1 h 20 min`."""
    if not math.isfinite(seconds):
        return "a while"
    if seconds < 99:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def span(time: Span) -> str:
    """Return a time that is known to lie between two ends: `2 to 4 min`, `40 s to 2 min`, `about 3 min`."""
    low, high = duration(_round(time.low)), duration(_round(time.high))
    if low == high:
        return f"about {high}"
    (first, unit), (_, last) = low.rsplit(" ", 1), high.rsplit(" ", 1)
    return f"{first} to {high}" if unit == last and " " not in first + high.rsplit(" ", 1)[0] else f"{low} to {high}"


def _round(seconds: float) -> float:
    """Return seconds that are no more exact than a person would say them."""
    step = 1 if seconds < 10 else 5 if seconds < 60 else 10 if seconds < 99 else 60
    return max(1.0, step * round(seconds / step)) if math.isfinite(seconds) else seconds


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 plan`, `2,016 plans`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def lower(title: str) -> str:
    """Return a title for the middle of a sentence."""
    first = title.split(" ")[0]
    # what begins with somebody's name, or with an abbreviation, keeps it
    return title if first.endswith("'s") or first[1:].lower() != first[1:] else title[:1].lower() + title[1:]


def here(kind: str, rows: Sequence[SweepRow], names: dict[int, str]) -> str:
    """Return what this sweep shows where a paper said something about its kind, or an empty string.

    Args:
        kind: key of the kind.
        rows: of the whole sweep.
        names: what its points are called, by number.
    """
    found = ordered(rows)
    if len(found) < 2:
        return ""
    if kind == "painters":
        names_by_harm = [name for name, _ in variants(rows)]
        return f"Here, by mean change of loss: {', '.join(names_by_harm)}." if names_by_harm else ""
    if kind == "skip-block":
        return _block(longest_block(rows), names)
    if kind in _ADAPTER:
        highest, lowest = (
            f"{words.format(names[row.number])} ({figure(row.perplexity)})"
            for words, row in zip(_ADAPTER[kind], (found[-1], found[0]), strict=True)
        )
        return f"Here perplexity is highest {highest} and lowest {lowest}."
    if kind in ("delete", "swap-neighbours"):
        least, most = kept_in_the_middle(rows)
        between = f"Here, between the two ends, {least:.0%} to {most:.0%} of top predictions stay."
        return "" if math.isnan(least) else between
    return ""


def seen(rows: Sequence[SweepRow], names: dict[int, str], margin: float) -> str:
    """Return what a sweep shows so far, in two sentences; empty before two plans are measured.

    Args:
        rows: that are there.
        names: what its points are called, by number.
        margin: within which two models count as the same, as a share.
    """
    found = ordered(rows)
    if len(found) < 2:
        return ""
    # the figures of those that were left are of fewer texts, and surely none of the best
    whole = [row for row in found if not row.left]
    if not whole:
        return ""
    words = Counter(row.within(margin).verdict for row in whole)
    parts = [f"{words[word]} {said.format(100 * margin)}" for word, said in _WORDS.items() if words[word]]
    among = f"Of {counted(len(whole), 'plan')}{' measured to the end' if len(whole) < len(found) else ''}"
    least, most = names[whole[0].number], names[whole[-1].number]
    if len(whole) < len(found):
        ends = f"{least} costs least{_harm(whole[0], 'perplexity ')}."
    else:
        first = _harm(whole[-1], "perplexity ")
        ends = f"{most} costs most{first}, {least} least{_harm(whole[0], '' if first else 'perplexity ')}."
    return f"{among}: {', '.join(parts)}. {ends}" if parts else ends


def removed(rows: Sequence[SweepRow], margin: float) -> str:
    """Return what a greedy removal shows, in two sentences; empty before a layer is gone.

    Args:
        rows: of its steps.
        margin: within which two models count as the same, as a share.
    """
    steps = sorted((row for row in rows if row.number >= 0 and not math.isnan(row.nats)), key=lambda row: row.number)
    if not steps:
        return ""
    free = list(takewhile(lambda row: row.within(margin).verdict in _NOT_WORSE, steps))
    first, doubled = steps[0], next((row for row in steps if row.loss_change > math.log(2)), None)
    if first.verdict == "too few to say":
        head = f"{_gone(first)} goes first; there are too few texts to say how much the model misses it on others."
    elif not free:
        head = f"Even without {_gone(first)}, the first to go, the model is worse."
    else:
        can = f"{counted(len(free), 'layer')} can go" if len(free) < len(steps) else f"All {len(free)} that went can go"
        can = can if len(steps) > 1 or len(free) < len(steps) else "It can go"
        head = f"{can} without the model being seen to be worse: {_listed([str(row.y) for row in free])}."
    if doubled is None:
        return f"{head} With {counted(int(steps[-1].x), 'layer')} left, perplexity is {_times(steps[-1])} that of the start."
    return f"{head} Perplexity is more than twice that of the start once {_gone(doubled)} is gone, {doubled.x} left."


_NOT_WORSE = ("the same", "no difference seen", "better")
_LISTED = 6
"""Most names that a sentence lists."""


def _gone(row: SweepRow) -> str:
    return f"{row.y} ({_times(row)})"


def _times(row: SweepRow) -> str:
    return present.times(math.exp(min(700.0, row.loss_change)))


def _listed(names: Sequence[str]) -> str:
    if len(names) > _LISTED:
        return f"{', '.join(names[: _LISTED - 1])} and {len(names) - _LISTED + 1} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def ranked(estimates: Mapping[str, float], name: str, measured: tuple[Sequence[float], Sequence[float]] | None) -> str:
    """Return what an estimate of importance shows: the two ends, and whether deleting each layer agrees with it.

    Args:
        estimates: of each layer, by its label.
        name: of the estimate.
        measured: the estimates of the layers whose deletion was measured, and the damage; None where none was.
    """
    known = sorted(((value, label) for label, value in estimates.items() if not math.isnan(value)), reverse=True)
    if len(known) < 2:
        return ""
    (most, first), (least, last) = known[0], known[-1]
    head = f"{first} changes the residual stream most ({name} {present.amount(most)}), {last} least ({present.amount(least)})."
    return f"{head} {_foreseen(name, *measured)}" if measured is not None else head


def _foreseen(name: str, estimate: Sequence[float], damage: Sequence[float]) -> str:
    """Return whether an estimate and the measured damage rank layers alike, by the interval of their correlation."""
    rho, ends = agreement(estimate, damage)
    if not ends:
        return "There are too few layers to say whether that foretells what deleting one costs."
    low, high = (float(end) for end in ends.split(" to "))
    if low > 0:
        return f"That foretells what deleting a layer costs: {name} ranks layers alike ({rho}, {ends})."
    if high < 0:
        return f"Deleting ranks layers the other way round ({rho}, {ends})."
    return f"Whether that foretells what deleting a layer costs is not seen ({rho}, {ends})."


_WORDS = {
    "worse": "worse", "the same": "the same within {:g} %", "no difference seen": "without a difference seen",
    "better": "better", "too few to say": "with too few texts to say",
}  # fmt: skip


def _harm(row: SweepRow, of: str) -> str:
    """Return what a plan costs in perplexity, in brackets; nothing of an end that overflows."""
    change = row.loss_change
    return f" ({of}{present.times(math.exp(change))})" if abs(change) < 700 else ""


_ADAPTER = {
    "adapter-off": ("without the adapter of {}", "without that of {}"),
    "adapter-only": ("with the adapter of {} alone", "with that of {} alone"),
}


def _block(row: SweepRow | None, names: dict[int, str]) -> str:
    if row is None:
        return "Here every skipped block at least doubles perplexity."
    return (
        f"Here the longest block that can be skipped before perplexity doubles has {counted(int(row.y or 0), 'layer')} "
        f"and begins at {names[row.number]}."
    )


def agreement(estimate: Sequence[float], measured: Sequence[float]) -> tuple[str, str]:
    """Return how well two rankings agree, Spearman's rank correlation, and its 95 % interval; empty where unknown."""
    rho = rank_correlation(list(estimate), list(measured))
    n = sum(not (math.isnan(a) or math.isnan(b)) for a, b in zip(estimate, measured, strict=True))
    low, high = rank_interval(rho, n)
    ends = "" if math.isnan(low) else f"{low:.2f} to {high:.2f}"
    return "" if math.isnan(rho) else f"ρ = {rho:.2f}", ends


def differences(identity: SweepIdentity, model: str, texts: str | None) -> list[str]:
    """Return in what a saved sweep differs from what is open: the model, and the texts where those are known."""
    found = []
    if identity.model != model:
        found.append(f"it was made with the model “{identity.model}”, and “{model}” is open")
    if texts is not None and identity.texts != texts:
        found.append(f"it was measured on other texts ({identity.texts}; chosen here: {texts})")
    return found


MARKS = (
    "Lines on bars and points are 95 % intervals on texts like these. “=” marks plans whose loss cannot be told from the "
    "starting plan's; the others are told apart at a false discovery rate of 5 % over all plans of the sweep."
)
MARKS_OF_SKILLS = (
    "Lines on bars and points are 95 % intervals on prompts like these. “=” marks plans whose answers, prompt by prompt, cannot "
    "be told from the starting plan's; the others are told apart at a false discovery rate of 5 % over all plans of the sweep."
)


def left_early(count: int) -> str:
    """Return what is said of plans that were left before all texts were measured."""
    return (
        f"{counted(count, 'plan')}, drawn faintly, {'was' if count == 1 else 'were'} left early: surely not among the best. "
        "What is shown of them is of the texts until then; their change against the starting plan is of the same texts."
    )


def least_said(label: str, row: SweepRow, margin: float, unit: str = "text") -> str:
    """Return what is said of the layer that was removed because the model misses it least.

    Args:
        label: of the layer.
        row: of the sweep that deleted each, of this one.
        margin: share of the perplexity within which two models count as the same.
        unit: what the texts are, `"text"` or `"window"`.
    """
    word, texts = row.within(margin).verdict, len(row.texts)
    found = losses_said(word, row.loss_change, row.change_low, row.change_high, texts, margin, unit)
    return f"{label} hurt least and was removed: {found}"


def least_help(n_layers: int, margin: float) -> str:
    """Return how to read that."""
    return (
        f"Against the plan before, on the texts below. The layer was chosen among {n_layers} on these same texts, so on "
        f"others it may cost a little more. The interval is one of 95 %; two models count as the same within "
        f"{100 * margin:g} %. Undo brings the layer back."
    )

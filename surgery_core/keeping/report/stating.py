"""From what was measured to figures with their tolerances: one name for each."""

from __future__ import annotations

import math
from collections.abc import Iterator

from surgery_core.charts.style import layer_losses
from surgery_core.keeping.report.figures import Stated, Tolerance, Unit, number
from surgery_core.keeping.report.findings import Findings
from surgery_core.keeping.report.tolerances import Tolerances, tolerances_of
from surgery_core.measure.results import Comparison
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import StudyResult
from surgery_core.recipes.run import Report
from surgery_core.studies.finding import Figure

SIDES = ("before", "after")


def figures_of(found: Findings) -> tuple[Stated, ...]:
    """Return every figure of a report, in the order in which it shows them."""
    allowed = tolerances_of(found.made["dtype"])
    compared, parts = found.report.comparison, found.asked.parts
    return (
        *(written_figures(found.report, found.firm) if "writing" in parts else ()),
        *(_overall(compared, allowed) if compared else ()),
        *(_each(compared, allowed) if compared and "scores" in parts else ()),
        *(_plan_figures(found.report, allowed) if "plans" in parts else ()),
        *_lens_figures(found, allowed),
        *_skill_figures(found, allowed),
        *_sweep_figures(found, allowed),
        *_swap_figures(found),
        *_study_figures(found, allowed),
    )


def written_figures(report: Report, firm: tuple[tuple[int, int], ...]) -> Iterator[Stated]:
    """Yield the texts before and after of each prompt."""
    for at, (one, sure) in enumerate(zip(report.continuations, firm, strict=True), 1):
        for side, text, n in zip(SIDES, (one.before.text, one.after.text), sure, strict=True):
            yield _text_figure(f"prompt {at}: text {side}", text, n, report.recipe)


def _text_figure(name: str, text: str, firm: int, recipe: Recipe) -> Stated:
    """Return a text as a figure; its first `firm` characters do not hang on rounding."""
    kind = Tolerance("free") if recipe.temperature > 0 else Tolerance("exact") if firm == len(text) else None
    return Stated(name, text, kind or Tolerance("beginning", float(firm)), "text")


def _swap_figures(found: Findings) -> Iterator[Stated]:
    """Yield the texts before, after and with the swap."""
    if found.swap is None:
        return
    for (side, text), n in zip(found.swap.written.items(), found.firm_swap, strict=True):
        yield _text_figure(swap_name(side), text.text, n, found.report.recipe)


def swap_name(side: str) -> str:
    """Return what a swap's text is called by: of `before`, `after` or `swapped`."""
    return f"swap: text {side}"


def score_figures(compared: Comparison, allowed: Tolerances) -> Iterator[Stated]:
    """Yield the figures over all texts, then those of each text."""
    yield from _overall(compared, allowed)
    yield from _each(compared, allowed)


def _each(compared: Comparison, allowed: Tolerances) -> Iterator[Stated]:
    close = Tolerance("relative", allowed.perplexity)
    for at, row in enumerate(compared.rows, 1):
        of, n = text_name(at, row.before.title), row.before.n_tokens
        yield number(f"{of}: tokens", n, Tolerance("exact"))
        for side, score in zip(SIDES, (row.before, row.after), strict=True):
            yield number(f"{of}: perplexity {side}", score.perplexity, close)
        yield number(f"{of}: ratio", row.ratio, close)
        yield number(f"{of}: KL", row.kl, allowed.divergence(row.kl))
        yield number(f"{of}: top-1 kept", row.top1, allowed.share(n), "share")


def _plan_figures(report: Report, allowed: Tolerances) -> Iterator[Stated]:
    """Yield the figures over all texts of each of the plans that stand side by side."""
    close, ends = Tolerance("relative", allowed.perplexity), Tolerance("relative", allowed.ends)
    for at, one in enumerate(report.plans, 1):
        of, found = plan_name(at, one.name), one.comparison
        interval = found.interval("ratio")
        yield number(f"{of}: perplexity", found.operated.perplexity, close)
        yield number(f"{of}: ratio", found.ratio, close)
        yield number(f"{of}: low end", interval.low, ends)
        yield number(f"{of}: high end", interval.high, ends)
        yield number(f"{of}: KL", found.kl, allowed.divergence(found.kl))
        yield number(f"{of}: top-1 kept", found.top1, allowed.share(found.base.n_tokens), "share")
        yield Stated(f"{of}: verdict", found.verdict().word, Tolerance("exact"), "text")


def plan_name(at: int, name: str) -> str:
    """Return what the figures of the plan at a place are called by."""
    return f"plan {at} ({name})"


def text_name(at: int, title: str) -> str:
    """Return what the figures of the text at a place are called by."""
    return f"text {at} ({title})"


def _overall(compared: Comparison, allowed: Tolerances) -> Iterator[Stated]:
    close, ends = Tolerance("relative", allowed.perplexity), Tolerance("relative", allowed.ends)
    sides = tuple(zip(SIDES, (compared.base, compared.operated), strict=True))
    for side, table in sides:
        yield number(f"perplexity {side}", table.perplexity, close)
    yield number("ratio", compared.ratio, close)
    interval = compared.interval("ratio")
    yield number("ratio, low end", interval.low, ends)
    yield number("ratio, high end", interval.high, ends)
    for side, table in sides:
        yield number(f"bits a byte {side}", table.bits_per_byte, close)
    yield number("KL", compared.kl, allowed.divergence(compared.kl))
    n = compared.base.n_tokens
    yield number("top-1 kept", compared.top1, allowed.share(n), "share")
    yield number("top-5 kept", compared.top5, allowed.share(n), "share")
    yield Stated("verdict", compared.verdict().word, Tolerance("exact"), "text")


def _lens_figures(found: Findings, allowed: Tolerances) -> Iterator[Stated]:
    if not found.lens:
        return
    for side, row, layer, loss in lens_losses(found):
        yield number(lens_name(side, row, layer), loss, Tolerance("relative", allowed.layer))


def lens_losses(found: Findings) -> list[tuple[str, int, str, float]]:
    """Return side, row, layer and the loss that the lens reads after it, in nats; none for a single token."""
    losses = layer_losses(*(one.frame() for one in found.lens))
    columns = (losses[name].tolist() for name in ("side", "row", "layer", "loss"))
    return [(str(side), int(row), str(layer), float(loss)) for side, row, layer, loss in zip(*columns, strict=True)]


def lens_name(side: str, row: int, layer: str) -> str:
    """Return what the loss after a layer is called by."""
    return f"lens {side.lower()}, row {row} ({layer}): loss"


def _skill_figures(found: Findings, allowed: Tolerances) -> Iterator[Stated]:
    for pair in zip(*found.skills, strict=True):
        for side, one in zip(SIDES, pair, strict=True):
            yield number(f"skill {one.skill.title}: right {side}", one.accuracy, allowed.share(len(one.items)), "share")


def _sweep_figures(found: Findings, allowed: Tolerances) -> Iterator[Stated]:
    if found.swept is None:
        return
    n = found.report.comparison.base.n_tokens if found.report.comparison else 1
    items = sum(len(skill.items) for skill in found.swept.request.measures.skills)
    for row in found.swept.rows:
        if row.refused:
            continue
        # where a plan is left may hang on the last digit, and so does what it writes
        free = Tolerance("free") if row.left else None
        close = free or Tolerance("relative", allowed.layer)
        name = sweep_name(row.number)
        yield number(f"{name}: perplexity", row.perplexity, close)
        yield number(f"{name}: KL", row.kl, free or allowed.divergence(row.kl))
        yield number(f"{name}: top-1 kept", row.top1, free or allowed.share(n), "share")
        if row.skills:
            yield number(f"{name}: skills right", row.skill_accuracy, free or allowed.share(items), "share")
        if row.distinct:
            yield number(f"{name}: distinct pairs", row.distinct_2, Tolerance("free"), "share")


def _study_figures(found: Findings, allowed: Tolerances) -> Iterator[Stated]:
    if found.study is None:
        return
    for at, one in enumerate(figures_in(found.study), 1):
        unit: Unit = "share" if one.percent else "number"
        name, close = study_name(at, one.name), allowed.finding(one)
        yield number(name, one.value, close, unit)
        if not math.isnan(one.low) and not math.isnan(one.high):
            yield number(f"{name}, low end", one.low, close, unit)
            yield number(f"{name}, high end", one.high, close, unit)
    if found.study.outcome is not None:
        yield Stated("study: outcome", found.study.outcome, Tolerance("exact"), "text")


def figures_in(study: StudyResult) -> list[Figure]:
    """Return the figures of a study, the one that its claim is about first."""
    return list(dict.fromkeys((study.finding.figure, *study.finding.others)))


def study_name(at: int, name: str) -> str:
    """Return what the figure of a study at a place is called by."""
    return f"study, figure {at} ({name})"


def sweep_name(place: int) -> str:
    """Return what a plan of a sweep is called by; its notation stands beside its figures."""
    return "sweep, start" if place < 0 else f"sweep, plan {place + 1}"

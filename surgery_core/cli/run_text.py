"""What a run measured, as text for a person."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from surgery_core.cli.output import frame_rows, paragraph, table

if TYPE_CHECKING:
    from surgery_core.measure.results import Comparison
    from surgery_core.recipes.parts import Paper
    from surgery_core.recipes.recipe import Recipe
    from surgery_core.recipes.results import PlanResult, StudyResult, SwapResult, SweptRows
    from surgery_core.recipes.run import Continuation, Report

_OF_A_PLAN = ("name", "plan", "layers", "perplexity", "ratio", "low", "high", "top1", "verdict")
_SHOWN_SCORES = ("title", "tokens", "perplexity_before", "perplexity_after", "ratio", "kl", "top1")


def report_text(report: Report) -> str:
    """Return what a run measured."""
    parts = [f"{report.model.title} ({report.model.n_layers} layers), plan {str(report.plan) or '(no layers)'}"]
    parts += [_continuation_text(continuation) for continuation in report.continuations]
    parts += [] if report.stitches is None else [report.stitches.sentence]
    if report.comparison:
        rows = [{name: row[name] for name in _SHOWN_SCORES} for row in frame_rows(report.frame())]
        parts += [table([*rows, _totals(report.comparison)]), _certainty(report.comparison)]
        parts += [report.comparison.cut.sentence] if report.comparison.cut else []
        parts += [report.comparison.not_finite] if report.comparison.not_finite else []
    parts += [plans_text(report.plans)] if report.plans else []
    parts += [sweep_text(report.sweep)] if report.sweep is not None else []
    parts += [swap_text(report.swap)] if report.swap is not None else []
    parts += [study_text(report.recipe, report.study)] if report.study is not None else []
    return "\n\n".join(parts)


def report_rows(report: Report) -> list[dict[str, Any]]:
    """Return what a report is about as one table: texts, or else a study's figures, a sweep's rows, plans, or a swap's texts."""
    if report.comparison is not None:
        return frame_rows(report.frame())
    if report.study is not None:
        return [asdict(one) for one in (report.study.finding.figure, *report.study.finding.others)]
    if report.sweep is not None:
        return [row.record() for row in report.sweep.rows]
    if report.swap is not None and not report.plans:
        return [{"side": side, "text": text.text} for side, text in report.swap.written.items()]
    return [one.row() for one in report.plans]


def _continuation_text(continuation: Continuation) -> str:
    sides = (("before", continuation.before), ("after", continuation.after))
    parts = [paragraph("prompt", continuation.prompt), *(paragraph(label, side.text) for label, side in sides)]
    return "\n".join(parts)


def _totals(comparison: Comparison) -> dict[str, object]:
    before, after = comparison.base, comparison.operated
    values = ("all", sum(row.n_tokens for row in before.rows), before.perplexity, after.perplexity)
    return dict(
        zip(_SHOWN_SCORES, (*values, after.perplexity / before.perplexity, comparison.kl, comparison.top1), strict=True)
    )


def _certainty(comparison: Comparison) -> str:
    found, ratio = comparison.verdict(), comparison.interval("ratio")
    ends = (
        ""
        if math.isnan(ratio.low)
        else f"ratio {comparison.ratio:.4g} (95 % interval {ratio.low:.4g} to {ratio.high:.4g}). "
    )
    return f"{ends}{found.sentence}"


def study_text(recipe: Recipe, result: StudyResult) -> str:
    """Return the paper's figure beside ours, what came of it, and what that means."""
    from surgery_core.studies.words import interval_text, units_text, value_text

    finding, figure = result.finding, result.finding.figure
    interval = interval_text(figure)
    ends = f" (95 % interval {interval})" if interval else ""
    over = f", over {units_text(figure)}" if figure.n_units else ""
    lines = [recipe.question or recipe.title or result.key, ""]
    if recipe.paper is not None:
        lines += [paragraph("the paper saw", _paper(recipe.paper))]
    lines += [paragraph("here", f"{figure.name}: {value_text(figure)}{ends}{over}")]
    if recipe.claim is not None and result.outcome is not None:
        said = f"{result.outcome}. The claim: {recipe.claim.says}"
        lines += [paragraph("outcome", said)]
        lines += [paragraph("what that means", recipe.meaning.of(result.outcome))] if recipe.meaning else []
    others = [
        {"figure": one.name, "value": value_text(one), "95 % interval": interval_text(one), "over": units_text(one)}
        for one in finding.others
    ]
    lines += ["", table(others)] if others else []
    lines += ["", finding.note] if finding.note else []
    return "\n".join([*lines, "", f"The study {result.key} took {result.seconds:.0f} s."])


def plans_text(plans: tuple[PlanResult, ...]) -> str:
    """Return the plans that stand side by side as a table, with the sentence of each."""
    rows = [{name: row[name] for name in _OF_A_PLAN} for row in (one.row() for one in plans)]
    return "\n".join([table(rows), "", *(f"{one.name}: {one.comparison.verdict().sentence}" for one in plans)])


def swap_text(found: SwapResult) -> str:
    """Return what was swapped, and the texts before, after and with the swap."""
    sides = (paragraph(side, text.text) for side, text in found.written.items())
    return "\n".join([found.says, paragraph("text", found.before.prompt), *sides])


def sweep_text(swept: SweptRows) -> str:
    """Return the rows of a sweep."""
    from surgery_core.cli.sweep import rows_text

    head = f"{swept.choice.kind}: {len(swept.rows) - 1} plans"
    return "\n".join([head, "", rows_text(swept.rows), *([swept.note] if swept.note else [])])


def _paper(paper: Paper) -> str:
    from surgery_core.recipes.parts import HOW_READ

    source = f"arXiv {paper.arxiv}" if paper.arxiv else paper.url
    where = "; ".join(part for part in (paper.by, paper.title, source, paper.where, HOW_READ[paper.read]) if part)
    return f"{paper.figure + '. ' if paper.figure else ''}{paper.says} ({where})"

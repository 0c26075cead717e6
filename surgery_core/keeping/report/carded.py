"""The figures of a checkpoint's card: the part that a person reads, and the block that `verify` does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import pandas as pd

from surgery_core.keeping.report.asked import Asked
from surgery_core.keeping.report.evidence import Evidence, card_block
from surgery_core.keeping.report.figures import Stated
from surgery_core.keeping.report.stating import score_figures, text_name
from surgery_core.keeping.report.tolerances import tolerances_of
from surgery_core.keeping.tables import cell_text, markdown
from surgery_core.measure.results import Comparison
from surgery_core.models.opening import ModelInfo
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.made import made_with
from surgery_core.recipes.recipe import Recipe

HEADING = "## Before and after"
_COLUMNS = ("tokens", "perplexity before", "perplexity after", "ratio", "KL", "top-1 kept")


def card_evidence(info: ModelInfo, plan: LayerPlan, compared: Comparison, *, unproved: bool) -> Evidence:
    """Return what a card states of a plan that was compared over the bundled texts."""
    recipe = Recipe(info.name, str(plan), revision=info.revision if info.kind == "hub" else None)
    figures = tuple(score_figures(compared, tolerances_of(info.dtype)))
    return Evidence(recipe, Asked(("scores",), unproved=unproved), made_with(info), figures)


def figures_section(evidence: Evidence, compared: Comparison) -> str:
    """Return the figures of a card: in a sentence, in a table, and in a comment for `verify`."""
    sentence = f"{_overall(evidence)} {compared.verdict().sentence}"
    again = "`python -m surgery_core verify README.md` runs them again."
    return f"{HEADING}\n\n{sentence} {again}\n\n{markdown(_frame(evidence))}\n{card_block(evidence)}"


def figures_text(card: str) -> str:
    """Return the part of a card that shows its figures; empty where it has none."""
    found = re.search(rf"{re.escape(HEADING)}\n(.*?)(?=\n## |\Z)", card, re.DOTALL)
    return found[1] if found else ""


def shown_otherwise(evidence: Evidence, there: str) -> Iterator[tuple[str, str, str]]:
    """Yield (name, what is stated, what stands there) for each figure that a card shows otherwise."""
    if _overall(evidence) not in " ".join(there.split()):
        yield "the sentence on all texts", _overall(evidence), next(iter(there.strip().splitlines()), "")
    wanted = markdown(_frame(evidence)).strip().splitlines()
    lines = [line for line in there.splitlines() if line.startswith("|")]
    for at, line in enumerate(wanted):
        other = lines[at] if at < len(lines) else ""
        if other != line:
            yield from _cells(evidence, at - 2, line, other)


def _cells(evidence: Evidence, row: int, line: str, other: str) -> Iterator[tuple[str, str, str]]:
    left, right = _split(line), _split(other)
    if row < 0 or len(left) != len(right):
        yield "a line of the table", line, other
        return
    of = _titles(evidence)[row]
    for name, cell, there in zip(("title", *_COLUMNS), left, right, strict=True):
        if cell != there:
            yield f"{text_name(row + 1, of)}: {name}", unescape(cell), there


def _split(line: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]


def _titles(evidence: Evidence) -> list[str]:
    found = (re.fullmatch(r"text \d+ \((.*)\): tokens", one.name, re.DOTALL) for one in evidence.figures)
    return [match[1] for match in found if match]


def _frame(evidence: Evidence) -> pd.DataFrame:
    """Return the table of a card: a line a text, cells as they are stated."""
    known = {one.name: one for one in evidence.figures}
    return pd.DataFrame(
        {"title": title, **{name: known[f"{text_name(at, title)}: {name}"].value for name in _COLUMNS}}
        for at, title in enumerate(_titles(evidence), 1)
        if all(f"{text_name(at, title)}: {name}" in known for name in _COLUMNS)
    )


def _overall(evidence: Evidence) -> str:
    known: dict[str, Stated] = {one.name: one for one in evidence.figures}

    def of(name: str) -> str:
        return cell_text(known[name].value) if name in known else "?"

    return (
        f"Over {len(_titles(evidence))} texts: perplexity {of('perplexity before')} before, {of('perplexity after')} after: "
        f"×{of('ratio')} (95 % interval {of('ratio, low end')} to {of('ratio, high end')})."
    )

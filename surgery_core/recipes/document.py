"""`docs/gallery.md`: every recipe that comes along, with the paper's number beside what was measured on each model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from surgery_core.recipes.gallery import Card
from surgery_core.recipes.outcomes import KeptOutcome, Outcomes
from surgery_core.recipes.parts import HOW_READ, Paper
from surgery_core.studies.finding import Figure
from surgery_core.studies.words import interval_text, units_text, value_text

_HEAD = """# The gallery

Experiments of papers, run again. Each asks one question, has one figure with a 95 % interval, and says whether what the \
paper saw is seen here too: where the whole interval lies in the claim's region it is *seen here too*, where it lies \
outside *not seen here*, and else there are *too few texts to say*. What a paper saw is the paper's; the rest was measured \
by this program. `model-surgery run KEY` runs one again, `model-surgery gallery --write recipes/outcomes --document \
docs/gallery.md` all of them, and writes this page.
"""


def document(cards: Sequence[Card], stores: Sequence[Outcomes]) -> str:
    """Return the page as Markdown.

    Args:
        cards: the recipes, in the order of lists.
        stores: what they came to, a model each, in the order of columns.
    """
    made = "\n".join(f"- **{store.model}**: {_made(store)}" for store in stores)
    columns = ["Experiment", "The paper", *(store.model for store in stores)]
    lines = [_row(columns), _row(["---"] * len(columns)), *(_row(_cells(card, stores)) for card in cards)]
    sections = "\n\n".join(_section(card, stores) for card in cards)
    return f"{_HEAD}\n{made}\n\n" + "\n".join(lines) + f"\n\n{sections}\n"


def paper_line(paper: Paper) -> str:
    """Return where a paper's figure stands, as Markdown."""
    name = f"arXiv {paper.arxiv}" if paper.arxiv else paper.title
    source = f"[{_escaped(name)}]({paper.link})" if paper.link else _escaped(name)
    return ", ".join(part for part in (source, _escaped(paper.where), HOW_READ[paper.read]) if part)


def figure_words(figure: Figure) -> str:
    """Return a figure with its interval and what that is over, `81.3 % (79.0 % to 83.5 %, 60 texts)`."""
    more = ", ".join(part for part in (interval_text(figure), units_text(figure)) if part)
    return f"{value_text(figure)} ({more})" if more else value_text(figure)


def _made(store: Outcomes) -> str:
    made, days = store.made, sorted({one.measured for one in store.by_key.values()})
    when = f"{days[0]} to {days[-1]}" if len(days) > 1 else "".join(days) or "on no day"
    total = sum(one.seconds for one in store.by_key.values())
    return (
        f"{made['title']}, {made['layers']} layers, {made['dtype']} on {made['device']}, revision "
        f"{made['revision'][:12]}; measured {when} with torch {made['torch']} and transformers {made['transformers']}; "
        f"{total / 60:.0f} minutes in all."
    )


def _cells(card: Card, stores: Sequence[Outcomes]) -> list[str]:
    paper = card.recipe.paper
    saw = "" if paper is None else _escaped(paper.figure) or "in words"
    return [f"[{_escaped(card.recipe.title)}](#{card.key})", saw, *(_cell(store, card.key) for store in stores)]


def _cell(store: Outcomes, key: str) -> str:
    kept = store.by_key.get(key)
    if kept is None:
        return "not possible" if key in store.refused else "not run"
    return f"{kept.outcome or 'no claim'}: {_escaped(figure_words(kept.finding.figure))}"


def _section(card: Card, stores: Sequence[Outcomes]) -> str:
    recipe = card.recipe
    parts = [f'<a id="{card.key}"></a>\n\n## {_escaped(recipe.title)}', _escaped(recipe.question)]
    if recipe.paper is not None:
        parts.append(f"The paper: {_escaped(recipe.paper.says)} ({paper_line(recipe.paper)})")
    if recipe.claim is not None:
        parts.append(f"Claim: {_escaped(recipe.claim.says)}")
    parts.append("\n".join(_measured(card, store) for store in stores if card.key in {*store.by_key, *store.refused}))
    return "\n\n".join(part for part in parts if part)


def _measured(card: Card, store: Outcomes) -> str:
    kept = store.by_key.get(card.key)
    if kept is None:
        return f"- **{store.model}**: not possible. {_escaped(store.refused[card.key])}"
    head = f"{kept.outcome or 'no claim'}, {kept.seconds:.0f} s"
    figures = dict.fromkeys((kept.finding.figure, *kept.finding.others))
    known = [one for one in figures if not math.isnan(one.value)]
    lines = [f"- **{store.model}**: {head}. {_meaning(card, kept)}".rstrip()]
    lines += [f"  - {_escaped(one.name)}: {figure_words(one)}" for one in known]
    return "\n".join([*lines, *([f"  - {_escaped(kept.finding.note)}"] if kept.finding.note else [])])


def _meaning(card: Card, kept: KeptOutcome) -> str:
    if kept.outcome is None or card.recipe.meaning is None:
        return ""
    return _escaped(card.recipe.meaning.of(kept.outcome))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Return text on one line that Markdown shows as it is."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")

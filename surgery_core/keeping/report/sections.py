"""The parts of a report's page, each from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from surgery_core.charts.plan_picture import Orient, plan_picture
from surgery_core.keeping.report import markup
from surgery_core.keeping.report.asked import PARTS
from surgery_core.keeping.report.differences import differing
from surgery_core.keeping.report.figures import Stated
from surgery_core.keeping.report.findings import LENS_TOKENS, Findings
from surgery_core.keeping.report.stating import (
    SIDES,
    figures_in,
    lens_losses,
    lens_name,
    plan_name,
    study_name,
    swap_name,
    sweep_name,
    text_name,
)
from surgery_core.plans.words import describe
from surgery_core.recipes.parts import HOW_READ, Paper
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import StudyResult
from surgery_core.studies.finding import Figure
from surgery_core.studies.words import units_text

Stating = Mapping[str, Stated]
NARROW = 360
"""Width of the plan's picture on a phone, in pixels."""


def title_of(recipe: Recipe) -> str:
    """Return a report's title: the recipe's, or what it does to which model."""
    return recipe.title or f"{recipe.model}, {'unchanged' if recipe.plan is None else recipe.plan or 'no layers'}"


def top(found: Findings) -> str:
    """Return the title, the comment, and which model and plan it is about."""
    recipe, plan = found.report.recipe, found.report.plan
    comment = markup.said("comment", recipe.note, "p", "comment") if recipe.note else ""
    facts = f"{found.report.model.title}, {plan.n_layers} layers. Plan "
    model = f'<p class="model">{escape(facts)}{markup.said("plan", str(plan) or "(no layers)", "code")}. {escape(describe(plan))}</p>'
    return "\n".join(
        filter(None, ['<header>\n<p class="kicker">A report of Model Surgery that can be run again</p>',
                      markup.said("title", title_of(recipe), "h1"), comment, model, "</header>"])
    )  # fmt: skip


def plan_section(found: Findings) -> str:
    """Return the plan's picture, for wide and narrow pages, light and dark."""
    plan = found.report.plan
    sizes: tuple[tuple[str, Orient, int | None], ...] = (("wide", "rows", None), ("narrow", "columns", NARROW))
    drawn = "\n".join(
        f'<div class="{size} {mode}">{plan_picture(plan, dark=mode == "dark", orient=orient, width=width)}</div>'
        for size, orient, width in sizes
        for mode in ("light", "dark")
    )  # fmt: skip
    return markup.section("The plan", f'<figure class="picture">\n{drawn}\n</figure>')


def headline(found: Findings, stated: Stating) -> str:
    """Return the figures over all texts, with what can be said of them."""
    compared = found.report.comparison
    if compared is None:
        return ""
    ends = " to ".join(markup.figure(stated[f"ratio, {end} end"]) for end in ("low", "high"))
    n = len(compared.rows)
    what = "window" if compared.cut else "text"
    over = f"over {n} {what}{'s' if n > 1 else ''}, {compared.base.n_tokens:,} tokens"
    cards = (
        ("Perplexity before", "perplexity before", _beside(stated, "bits a byte before", "bits a byte")),
        ("Perplexity after", "perplexity after", _beside(stated, "bits a byte after", "bits a byte")),
        ("After ÷ before", "ratio", f"95 % interval {ends}"),
        ("KL, nats a token", "KL", "of the base’s predictions from those after"),
        ("Top-1 kept", "top-1 kept", _beside(stated, "top-5 kept", "in the top five")),
    )
    lines = "\n".join(
        f"<div><dt>{label}</dt><dd>{markup.figure(stated[name])}<small>{note}</small></dd></div>"
        for label, name, note in cards
    )
    verdict = _verdict(stated, compared.verdict().sentence)
    broken = markup.paragraph(compared.not_finite) if compared.not_finite else ""
    cut = f" {compared.cut.sentence}" if compared.cut else ""
    return markup.section(
        "What it does", f'<dl class="figures">\n{lines}\n</dl>',
        f'<p class="verdict">{verdict}</p>', markup.paragraph(f"All {over}.{cut}", "note"), broken,
    )  # fmt: skip


def _verdict(stated: Stating, sentence: str) -> str:
    """Return what can be said, beginning with the verdict's word, which most sentences begin with already."""
    word = stated["verdict"].shown
    rest = sentence[len(word) :] if sentence.lower().startswith(word) else f". {sentence}"
    return f"<strong>{markup.figure(stated['verdict'])}</strong>{escape(rest)}"


def _beside(stated: Stating, name: str, words: str) -> str:
    return f"{markup.figure(stated[name])} {words}"


def writing_section(found: Findings) -> str:
    """Return each prompt with what it became, words that differ marked."""
    recipe = found.report.recipe
    parts = [
        _written(at, one.prompt, one.before.text, one.after.text)
        for at, one in enumerate(found.report.continuations, 1)
    ]
    if not parts:
        return ""
    return markup.section("What it writes", *parts, _how(recipe, "before", "after"))


def _how(recipe: Recipe, before: str, after: str) -> str:
    """Return how texts were written, and what marks mean in two that stand side by side."""
    how = (
        "the likeliest token each time"
        if recipe.temperature == 0
        else f"temperature {recipe.temperature:g}, seed {recipe.seed}"
    )
    note = f"Up to {recipe.max_new_tokens} tokens, {how}. Struck through: only {before}. Underlined: only {after}."
    return markup.paragraph(note, "note")


def _written(at: int, prompt: str, before: str, after: str) -> str:
    texts = {"before": before, "after": after}
    return _prompted(prompt, _sides({f"prompt {at}: text {side}": (side, text) for side, text in texts.items()}))


def _prompted(prompt: str, sides: str) -> str:
    return f'<h3>Prompt</h3>\n<p class="prompt">{escape(prompt)}</p>\n<div class="sides">\n{sides}\n</div>'


def _sides(texts: Mapping[str, tuple[str, str]]) -> str:
    """Return two texts side by side with what differs marked; a figure's name for each, its title and the text."""
    left, right = differing(*(text for _, text in texts.values()))
    pairs = zip(texts.items(), ((left, "del"), (right, "ins")), strict=True)
    return "\n".join(
        f"<section><h4>{side.capitalize()}</h4>{markup.opened(name, 'p', 'written')}"
        f"{markup.marked(runs, tag)}</p></section>"
        for (name, (side, _)), (runs, tag) in pairs
    )


def swap_section(found: Findings) -> str:
    """Return the text with a word swapped beside the side that it is of, and the other side's where there is one."""
    swap = found.swap
    if swap is None:
        return ""
    texts = {swap_name(side): (side, text.text) for side, text in swap.written.items()}
    beside = {name: texts.pop(name) for name in (swap_name(swap.side), swap_name("swapped"))}
    shown = _prompted(swap.before.prompt, _sides(beside))
    rest = (
        f"<h4>{side.capitalize()}</h4>\n{markup.said(name, text, 'p', 'written')}"
        for name, (side, text) in texts.items()
    )
    how = _how(found.report.recipe, swap.side, "with the swap")
    return markup.section(PARTS["swap"], markup.paragraph(swap.says), shown, *rest, how)


def scores_section(found: Findings, stated: Stating) -> str:
    """Return the perplexity of every text, as a chart and as a table."""
    compared = found.report.comparison
    if compared is None:
        return ""
    names = ("tokens", "perplexity before", "perplexity after", "ratio", "KL", "top-1 kept")
    rows = []
    for at, row in enumerate(compared.rows, 1):
        of = text_name(at, row.before.title)
        figures = (markup.figure(stated[f"{of}: {name}"]) for name in names)
        rows.append([escape(row.before.title), escape(row.verdict().word), *figures])
    heads = ("Text", "Verdict", "Tokens", "Before", "After", "Ratio", "KL, nats", "Top-1 kept")
    caption = "Perplexity of each text before and after; lower is better predicted."
    return markup.section(PARTS["scores"], markup.chart("scores", caption), markup.table(heads, rows, 2))


def plans_section(found: Findings, stated: Stating) -> str:
    """Return the plans that stand side by side, each against the unchanged model."""
    if not found.report.plans:
        return ""
    rows = []
    for at, one in enumerate(found.report.plans, 1):
        of = plan_name(at, one.name)
        cells = {name: markup.figure(stated[f"{of}: {name}"]) for name in PLANS}
        span = f"{cells.pop('low end')} to {cells.pop('high end')}"
        plan = f"<code>{escape(str(one.plan) or '(no layers)')}</code>"
        rows.append(
            [escape(one.name), plan, cells["verdict"], cells["perplexity"], cells["ratio"], span, cells["KL"], cells["top-1 kept"]]
        )  # fmt: skip
    caption = "Perplexity of each plan over the unchanged model's, with its 95 % interval."
    heads = ("Name", "Plan", "Verdict", "Perplexity", "Ratio", "95 % interval", "KL, nats", "Top-1 kept")
    return markup.section(PARTS["plans"], markup.chart("plans", caption), markup.table(heads, rows, 3))


PLANS = ("perplexity", "ratio", "low end", "high end", "KL", "top-1 kept", "verdict")
"""Figures of a plan that stands beside others, as they are stated."""


def lens_section(found: Findings, stated: Stating) -> str:
    """Return the map of what each layer would say, and the loss that is read off after it."""
    if not found.lens:
        return ""
    named = {(side, row): (layer, stated[lens_name(side, row, layer)]) for side, row, layer, _ in lens_losses(found)}
    rows = []
    for row in sorted({row for _, row in named}):
        cells = [named.get((side, row)) for side in ("Before", "After")]
        rows.append([str(row), *(part for cell in cells for part in _lens_cells(cell))])
    kinds = {
        "tuned": "the tuned lens that came with the model",
        "jacobian": "the Jacobian lens that came with the model",
    }
    lens = kinds.get(found.asked.lens, "the logit lens")
    caption = (
        f"Read through {lens}, the first {LENS_TOKENS} tokens at the most. Each cell is the likeliest next token after that "
        "layer at that token; the colour is its probability."
    )
    heads = ("Place", "Layer before", "Layer after", "Loss before", "Loss after")
    table = markup.table(heads, ([r[0], r[1], r[3], r[2], r[4]] for r in rows), 3)
    loss = markup.chart(
        "lens-loss", "Mean loss of the right next token as the lens reads it after each layer, in nats."
    )
    return markup.section(PARTS["lens"], markup.chart("lens", caption), loss, table)


def _lens_cells(cell: tuple[str, Stated] | None) -> tuple[str, str]:
    return ("", "") if cell is None else (escape(cell[0]), markup.figure(cell[1]))


def skills_section(found: Findings, stated: Stating) -> str:
    """Return how much of each skill is right before and after."""
    if not found.skills:
        return ""
    rows = []
    for one in found.skills[0]:
        figures = (markup.figure(stated[f"skill {one.skill.title}: right {side}"]) for side in SIDES)
        rows.append([escape(one.skill.title), str(len(one.items)), *figures])
    chart = markup.chart("skills", "Share of prompts answered right; thin lines are 95 % intervals.")
    return markup.section(
        PARTS["skills"], chart, markup.table(("Skill", "Prompts", "Right before", "Right after"), rows, 1)
    )


SWEPT = {
    "perplexity": "Perplexity", "KL": "KL, nats", "top-1 kept": "Top-1 kept", "skills right": "Skills right",
    "distinct pairs": "Different pairs in its text",
}  # fmt: skip
"""Figures of a sweep's plans, as they are stated, and what their column is called."""


def sweep_section(found: Findings, stated: Stating) -> str:
    """Return a sweep, as a chart and as a table."""
    if found.swept is None:
        return ""
    asked, margin = found.swept.request, found.report.recipe.margin
    shown = [head for head in SWEPT if any(f"{sweep_name(row.number)}: {head}" in stated for row in found.swept.rows)]
    rows = []
    for row in found.swept.rows:
        names = [f"{sweep_name(row.number)}: {head}" for head in shown]
        figures = [markup.figure(stated[name]) if name in stated else "" for name in names]
        verdict = "where it starts" if row.number < 0 else row.within(margin).verdict
        word = row.refused or (f"{verdict}; left early" if row.left else verdict)
        rows.append([f"<code>{escape(row.plan or '(no layers)')}</code>", escape(word), *figures])
    n = len(asked.points)
    caption = f"{asked.family.title}: {n} plans over the same texts, from {asked.start or '(no layers)'}. {asked.family.about}"
    heads = ("Plan", "Against the start", *(SWEPT[head] for head in shown))
    return markup.section(
        f"{PARTS['sweep']}: {asked.family.title}", markup.chart("sweep", caption), markup.table(heads, rows, 2)
    )


def study_section(found: Findings, stated: Stating) -> str:
    """Return what a paper saw beside what the recipe's study found, what that means, its picture and its figures."""
    study, recipe = found.study, found.report.recipe
    if study is None:
        return ""
    shown = figures_in(study)
    names = [study_name(at, one.name) for at, one in enumerate(shown, 1)]
    span = _span(stated, names[0])
    ours = f"{escape(shown[0].name)}{_over(shown[0])}." + (f" 95 % interval {span}." if span else "")
    cards = "" if recipe.paper is None else _paper(recipe.paper)
    cards += f"<div><dt>Here</dt><dd>{markup.figure(stated[names[0]])}<small>{ours}</small></dd></div>"
    rows = [
        [escape(one.name), escape(units_text(one)), markup.figure(stated[name]), _span(stated, name)]
        for one, name in zip(shown, names, strict=True)
    ]
    return markup.section(
        PARTS["study"], markup.paragraph(recipe.question) if recipe.question else "", f'<dl class="figures">{cards}</dl>',
        _outcome(recipe, study, stated), markup.chart("study", recipe.note or recipe.title),
        markup.table(("Figure", "Over", "Value", "95 % interval"), rows, 1),
        markup.paragraph(study.finding.note, "note") if study.finding.note else "",
    )  # fmt: skip


def _paper(paper: Paper) -> str:
    """Return a card with what a paper saw; all of it is the paper's."""
    source = ", ".join(filter(None, (paper.title, paper.by, paper.link, paper.where, HOW_READ[paper.read])))
    figure = escape(paper.figure)
    return f"<div><dt>The paper saw</dt><dd>{figure}<small>{escape(paper.says)} ({escape(source)})</small></dd></div>"


def _outcome(recipe: Recipe, study: StudyResult, stated: Stating) -> str:
    """Return whether the claim holds here, what that means, and what is claimed."""
    if study.outcome is None or recipe.claim is None:
        return ""
    meaning = "" if recipe.meaning is None else f". {recipe.meaning.of(study.outcome)}"
    word = f"<strong>{markup.figure(stated['study: outcome'])}</strong>"
    claim = markup.paragraph(f"What is checked: {recipe.claim.says}", "note")
    return f'<p class="verdict">{word}{escape(meaning)}</p>\n{claim}'


def _over(figure: Figure) -> str:
    over = units_text(figure)
    return f", over {escape(over)}" if over else ""


def _span(stated: Stating, name: str) -> str:
    """Return a figure's interval, where it has one."""
    if f"{name}, low end" not in stated:
        return ""
    return " to ".join(markup.figure(stated[f"{name}, {end} end"]) for end in ("low", "high"))


def again_section(found: Findings, stated: Stating) -> str:
    """Return with what it was measured, how to run it again, and the recipe."""
    made, recipe = found.made, found.report.recipe
    pairs = (
        ("Model", f"{made['model']}, revision {made['revision']}"),
        ("Runs in", f"{made['dtype']} on {made['device']} ({made['machine']})"),
        ("Versions", ", ".join(f"{name} {made[name]}" for name in ("surgery_core", "torch", "transformers", "python"))),
        ("Figures", f"{len(stated)}, each with its tolerance inside this file"),
        ("Plan proved", "not asked for" if found.asked.unproved else "yes: against its layers called one by one"),
    )  # fmt: skip
    words = (
        "The command below reads the figures of this file, runs the recipe again, and says of each figure whether it agrees "
        "within its tolerance. It also says whether the page was edited."
    )
    command = "<pre>python -m surgery_core verify FILE.html</pre>"
    return markup.section(
        "Run it again", markup.paragraph(words), command, "<h3>Measured with</h3>", markup.facts(pairs), "<h3>Recipe</h3>",
        markup.said("recipe", recipe.dumps(), "pre"),
    )  # fmt: skip

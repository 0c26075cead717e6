"""What a page shows, as a Python script or a notebook that needs nothing but this package."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from surgery_core import __version__
from surgery_core.measure.skills import load_skills
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.words import describe
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.scored import texts_of
from surgery_core.statistics.verdict import MARGIN
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.setup import SweepMeasures
from surgery_core.text import Text, as_papers, bundled_texts, text_sets

Page = Literal["surgery", "compare", "lens", "sweep", "skills", "gallery", "models"]
PAGES: tuple[Page, ...] = ("surgery", "compare", "lens", "sweep", "skills", "gallery", "models")
"""Pages whose figures a script prints."""


@dataclass(frozen=True)
class LensView:
    """How the Lens page reads a text.

    Attributes:
        text: what is read.
        lens: `"logit"`, `"tuned"` or `"jacobian"` for the one that came with the model, or a file or folder of a lens.
        kind: whether such a file or folder is of a `"tuned"` or a `"jacobian"` lens.
        follow: whether translators follow their `"layer"` or their `"position"`.
        sublayers: whether layers are read after their attention too.
        start: first token that is read.
    """

    text: str
    lens: str = "logit"
    follow: str = "layer"
    sublayers: bool = False
    start: int = 0
    kind: Literal["tuned", "jacobian"] = "tuned"


@dataclass(frozen=True)
class Shown:
    """What a page shows.

    Attributes:
        page: which.
        recipe: model, plan, texts, prompt and settings.
        n_layers: depth of the model.
        device, dtype: what it runs on, as for `load_model`.
        unproved: whether numbers of a plan are shown that did not pass its checks.
        lens: what the Lens page reads.
        sweep: what the Sweep page shows.
        texts: what is scored, where it is known; else the recipe says it.
    """

    page: Page
    recipe: Recipe
    n_layers: int
    device: str = "auto"
    dtype: str = "auto"
    unproved: bool = False
    lens: LensView | None = None
    sweep: SweepRequest | None = None
    texts: tuple[Text, ...] | None = None

    @property
    def plan(self) -> LayerPlan:
        """Return the plan."""
        return self.recipe.plan_of(self.n_layers)

    @property
    def notation(self) -> str:
        """Return the plan as the recipe writes it."""
        return str(self.plan) if self.recipe.plan is None else self.recipe.plan


@dataclass(frozen=True)
class Cell:
    """A step of a script: a line of words, and code."""

    words: str
    code: str


def script(shown: Shown) -> str:
    """Return what a page shows as a Python script; run in any folder, it prints the page's figures."""
    title = json.dumps(f"{shown.recipe.model}: {describe(shown.plan)}", ensure_ascii=False)[1:-1]
    head = f'"""{title}\n\nMade with Model Surgery {__version__}.\n"""\n'
    steps = (f"# {cell.words}\n{cell.code}" for cell in cells(shown))
    return "\n\n".join([head.rstrip("\n"), *steps]) + "\n"


def notebook(shown: Shown) -> str:
    """Return the same as a Jupyter notebook, as JSON of its format 4.5."""
    title = f"# {shown.recipe.model}\n\n{describe(shown.plan)}\n\nMade with Model Surgery {__version__}."
    parts: list[dict[str, Any]] = [_words(0, title)]
    for number, cell in enumerate(cells(shown), 1):
        parts += [_words(2 * number - 1, cell.words), _code(2 * number, cell.code)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": parts, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def cells(shown: Shown) -> list[Cell]:
    """Return the steps of a page's script."""
    make = {
        "surgery": _surgery, "compare": _compare, "lens": _lens, "sweep": _sweep, "skills": _skills, "gallery": _gallery,
        "models": _models,
    }  # fmt: skip
    return [_open(shown), *make[shown.page](shown)]


def _open(shown: Shown) -> Cell:
    recipe, more = shown.recipe, ", unproved=True" if shown.unproved else ""
    where = f"device={shown.device!r}, dtype={shown.dtype!r}"
    where += f", revision={recipe.revision!r}" if recipe.revision else ""
    code = f"import surgery_core as sc\n\nloaded = sc.load_model({recipe.model!r}, {where})"
    if shown.page not in ("sweep", "models", "compare", "gallery"):
        code += (
            f"\nplan = sc.LayerPlan.parse({shown.notation!r}, loaded.info.n_layers)"
            f"\noperated = sc.operated_model(loaded, plan{more})"
        )
    return Cell("The model, and a view of it that runs the plan.", code)


def _surgery(shown: Shown) -> list[Cell]:
    recipe = shown.recipe
    sides = '{"unchanged": loaded.model}' if shown.plan.is_identity else '{"before": loaded.model, "after": operated}'
    write = (
        f"prompt = {(recipe.prompts or ('',))[0]!r}\nsettings = {_settings(recipe.settings)}\n"
        f"for side, model in {sides}.items():\n"
        "    written = sc.complete(model, loaded.tokenizer, prompt, settings)\n"
        '    print(f"{side}: {written.text}\\n")'
    )
    texts = texts_of(recipe) if shown.texts is None else shown.texts
    score = f"texts = {_texts(texts)}\n" + (_SCORE if shown.plan.is_identity else _compared(recipe.margin))
    if any(text.window is not None for text in texts):
        score += f"\nprint({'scores' if shown.plan.is_identity else 'compared'}.cut.sentence)"
    return [Cell("What it writes.", write), Cell("How well it predicts texts.", score)]


def _compared(margin: float) -> str:
    verdict = "verdict()" if margin == MARGIN else f"verdict({margin!r})"
    return f"{_COMPARE}\nprint(compared.{verdict}.sentence)"


_COMPARE = """\
compared = sc.compare(loaded.model, operated, loaded.tokenizer, texts)
for row in compared.frame().itertuples():
    print(
        f"{row.title}: perplexity {row.perplexity_before:.2f} -> {row.perplexity_after:.2f}, ×{row.ratio:.2f}, "
        f"KL {row.kl:.3f} nats, top-1 kept {row.top1:.1%}"
    )
before, after = compared.base, compared.operated
print(f"all: perplexity {before.perplexity:.2f} -> {after.perplexity:.2f}, bits a byte {after.bits_per_byte:.3f}")
print(f"all: KL {compared.kl:.3f} nats, top-1 kept {compared.top1:.1%}")"""
_SCORE = """\
scores = sc.score(loaded.model, loaded.tokenizer, texts)
for row in scores.rows:
    print(f"{row.title}: perplexity {row.perplexity:.2f}, bits a byte {row.bits_per_byte:.3f}")
print(f"all: perplexity {scores.perplexity:.2f}, bits a byte {scores.bits_per_byte:.3f}")"""


def _compare(shown: Shown) -> list[Cell]:
    recipe, unproved = shown.recipe, ", unproved=True" if shown.unproved else ""
    texts = texts_of(recipe) if shown.texts is None else shown.texts
    plans = {one.name: one.plan for one in recipe.plans} or {"the plan": shown.notation}
    margin = "" if recipe.margin == MARGIN else f".within({recipe.margin!r})"
    code = (
        f"texts = {_texts(texts)}\nplans = {plans!r}\n"
        "base = sc.reference(loaded.model, loaded.tokenizer, texts)\n"
        "for name, plan in plans.items():\n"
        f"    operated = sc.operated_model(loaded, sc.LayerPlan.parse(plan, loaded.info.n_layers){unproved})\n"
        f"    compared = sc.compare(base, operated, loaded.tokenizer, texts){margin}\n"
        '    ratio = compared.interval("ratio")\n'
        '    print(f"{name}: perplexity {compared.operated.perplexity:.2f}, ×{compared.ratio:.3f} "\n'
        '          f"({ratio.low:.3g} to {ratio.high:.3g}), KL {compared.kl:.3f} nats, top-1 kept {compared.top1:.1%}, "\n'
        '          f"{compared.verdict().word}")'
    )
    return [Cell("Plans side by side, each against the unchanged model.", code)]


def _lens(shown: Shown) -> list[Cell]:
    view = shown.lens or LensView((shown.recipe.prompts or ("",))[0])
    text = repr(view.text)
    if shown.recipe.chat:
        text = f"chat_text(loaded.tokenizer, {view.text!r}, {shown.recipe.system!r})"
    lenses = {
        "logit": "sc.LogitLens(model)",
        "tuned": 'sc.TunedLens(model, sc.load_lens(located(loaded.info.source) / "lens"))',
        "jacobian": 'sc.JacobianLens(model, sc.load_jacobians(located(loaded.info.source) / "jacobian-lens"))',
    }
    own = {
        "tuned": f"sc.TunedLens(model, sc.load_lens({view.lens!r}))",
        "jacobian": f"sc.JacobianLens(model, sc.load_jacobians({view.lens!r}))",
    }
    lens = lenses.get(view.lens, own[view.kind])
    imports = {"chat_text": "surgery_core.text", "located": "surgery_core.models.offered"}
    lines = [f"from {room} import {name}" for name, room in imports.items() if f"{name}(" in text + lens]
    sides = "(loaded.model,)" if shown.plan.is_identity else "(loaded.model, operated)"
    options = f"follow={view.follow!r}, sublayers={view.sublayers}, start={view.start}"
    code = (
        f"text = {text}\nfor model in {sides}:\n    lens = {lens}\n"
        f"    read = sc.read_lens(lens, model, loaded.tokenizer, text, {options})\n"
        "    frame = read.frame()\n"
        '    print(frame.pivot(index="row", columns="position", values="top").to_string())\n'
        '    print(frame.pivot(index="row", columns="position", values="probability").round(4).to_string())'
    )
    read = Cell("What each layer would say next, and how surely.", "\n".join([*lines, code]))
    return [read] if shown.recipe.swap is None else [read, _swap(shown.recipe)]


def _swap(recipe: Recipe) -> Cell:
    """Return the step that swaps a word and writes on."""
    plain = replace(
        recipe, plans=(), sweep=None, study=None, claim=None, meaning=None, expected=(), prompts=(), texts=None,
        text_set=None, own_texts=(), lens=recipe.text_of_lens,
    )  # fmt: skip
    code = f"from surgery_core.recipes.swapped import run_swap\n\n{_held(plain)}\n{_SWAPPED}"
    return Cell("A word swapped where the lens reads it, and the text written again.", code)


_SWAPPED = """\
swapped = run_swap(sc.Recipe.loads(text), loaded, operated)
print(swapped.says)
for side, written in swapped.written.items():
    print(f"{side}: {written.text}\\n")"""


def _skills(shown: Shown) -> list[Cell]:
    sides = "(loaded.model,)" if shown.plan.is_identity else "(loaded.model, operated)"
    code = (
        "from surgery_core.measure.skills.frames import skill_frame, skill_means\n\n"
        f"results = [sc.score_skills(model, loaded.tokenizer) for model in {sides}]\n"
        "frame = skill_frame(*results)\nmeans = skill_means(frame)\n"
        'print(frame.round({"accuracy": 3, "margin": 2}).to_string(index=False))\n'
        'print(f"mean accuracy {means.accuracy:.1%}, mean margin {means.margin:.2f} nats")'
    )
    return [Cell("Which skills survive.", code)]


def _sweep(shown: Shown) -> list[Cell]:
    view = shown.sweep
    if view is None:
        return [
            Cell("A sweep: every layer deleted.", _SWEEP.format(texts="sc.bundled_texts()", kind="'delete'", more=""))
        ]
    more = f",\n    options={_made('sc.SweepOptions', view.options)}"
    more += "" if view.start.is_identity else f", start={str(view.start)!r}"
    more += f",\n    measures={_measures(view.measures)}"
    code = _SWEEP.format(texts=_texts(view.texts), kind=repr(view.kind), more=more)
    return [Cell("One kind of edit, tried everywhere.", code)]


_SWEEP = """\
texts = {texts}
rows = sc.sweep(
    loaded.model, loaded.tokenizer, texts, {kind}{more}
)
for row in rows:
    print(f"{{row.plan or '(no layers)'}}: perplexity {{row.perplexity:.4g}}, KL {{row.kl:.3f}} nats, top-1 {{row.top1:.1%}}")"""


def _gallery(shown: Shown) -> list[Cell]:
    """Return the steps of an experiment: its study, or all that a recipe without one has."""
    recipe = shown.recipe
    if recipe.study is not None:
        # the sweep of such a recipe is how the experiment is done by hand
        recipe = replace(recipe, sweep=None, swap=None, plans=(), plan=None, prompts=())
    made = f"{_held(recipe)}\nrecipe = sc.Recipe.loads(text)\nreport = sc.run_recipe(recipe, loaded=loaded)"
    code = _STUDIED if recipe.study is not None else _WHOLE
    return [Cell("The experiment.", made), Cell("What it comes to.", code)]


def _held(recipe: Recipe) -> str:
    """Return code that holds a recipe's file as `text`."""
    lines = "\n".join(f"    {line!r}" for line in recipe.dumps().splitlines(keepends=True))
    return f"text = (\n{lines}\n)"


_STUDIED = """\
from surgery_core.studies.words import interval_text, value_text

found = report.study.finding
for figure in dict.fromkeys((found.figure, *found.others)):
    ends = interval_text(figure)
    print(f"{figure.name}: {value_text(figure)}" + (f" (95 % interval {ends})" if ends else ""))
if report.study.outcome is not None:
    print(report.study.outcome)"""
_WHOLE = """\
if report.comparison is not None:
    print(report.frame().to_string(index=False))
for one in report.plans:
    print(f"{one.name}: perplexity {one.comparison.operated.perplexity:.2f}, {one.comparison.verdict().word}")
for row in report.sweep.rows if report.sweep is not None else ():
    print(f"{row.plan or '(no layers)'}: perplexity {row.perplexity:.4g}, KL {row.kl:.3f} nats, top-1 {row.top1:.1%}")
for one in report.continuations:
    print(f"{one.before.text}\\n{one.after.text}")
for side, written in report.swap.written.items() if report.swap is not None else ():
    print(f"{side}: {written.text}")"""


def _models(shown: Shown) -> list[Cell]:
    code = "print(loaded.info)\nprint(sc.preflight(loaded.model, loaded.tokenizer).frame().to_string(index=False))"
    return [Cell("Whether surgery on it can be trusted.", code)]


def _settings(settings: GenerationSettings) -> str:
    return _made("sc.GenerationSettings", settings)


def _measures(measures: SweepMeasures) -> str:
    given = [f"agreement={measures.agreement}"] if not measures.agreement else []
    if measures.skills:
        names = {skill.name for skill in measures.skills}
        every = names == {skill.name for skill in load_skills()}
        given.append(
            "skills=sc.load_skills()" if every
            else f"skills=tuple(s for s in sc.load_skills() if s.name in {sorted(names)!r})"
        )  # fmt: skip
    if measures.prompt is not None:
        given += [f"prompt={measures.prompt!r}", f"new_tokens={measures.new_tokens}"]
    return f"sc.SweepMeasures({', '.join(given)})"


def _made(name: str, record: Any) -> str:
    """Return the call that makes a frozen record again, without what is left at its default."""
    usual = type(record)()
    given = {field.name: getattr(record, field.name) for field in fields(record)}
    changed = (f"{key}={value!r}" for key, value in given.items() if value != getattr(usual, key))
    return f"{name}({', '.join(changed)})"


def _texts(texts: tuple[Text, ...]) -> str:
    """Return code for texts: sets that come with the package by their names, others as they are."""
    for name, known in text_sets().items():
        rest = texts[len(known.texts) :]
        if texts[: len(known.texts)] == known.texts:
            whole = "sc.bundled_texts()" if known.texts == bundled_texts() else f"sc.text_sets()[{name!r}].texts"
            return f"(*{whole}, {', '.join(map(_text, rest))})" if rest else whole
    if texts and texts[0].window is not None:
        joined = _joined(texts[0])
        return f"({', '.join([joined, *map(_text, texts[1:])])},)"
    known_texts = {text for one in text_sets().values() for text in one.texts}
    parts = [f"known[{text.title!r}]" if text in known_texts else _text(text) for text in texts]
    known_code = "{text.title: text for one in sc.text_sets().values() for text in one.texts}"
    return f"(lambda known: ({', '.join(parts)},))({known_code})"


def _joined(text: Text) -> str:
    """Return code for a text that is cut into windows: of a set that comes with the package by its name."""
    for name, known in text_sets().items():
        if text == as_papers(known.texts):
            return f"sc.as_papers(sc.text_sets()[{name!r}].texts)"
    return _text(text)


def _text(text: Text) -> str:
    window = "" if text.window is None else f", {text.kind!r}, window={text.window}"
    return f"sc.Text({text.title!r}, {text.text!r}{window})"


def _words(number: int, text: str) -> dict[str, Any]:
    return {"id": f"step-{number}", "cell_type": "markdown", "metadata": {}, "source": text}


def _code(number: int, text: str) -> dict[str, Any]:
    head = {"id": f"step-{number}", "cell_type": "code", "metadata": dict[str, Any](), "execution_count": None}
    return head | {"outputs": [], "source": text}

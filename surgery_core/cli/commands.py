"""What each command does: arguments -> one call into the library -> what to write.

The library is imported where it is used, so that `--help` and a mistyped option answer without loading torch.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery_core.cli.output import Output, paragraph, progress, table
from surgery_core.cli.texts import chosen_set, cut_of
from surgery_core.errors import PlanError, SettingsError, TextError

if TYPE_CHECKING:
    import pandas as pd

    from surgery_core.lenses.reading import Lens
    from surgery_core.measure.results import Comparison
    from surgery_core.measure.skills import SkillResult
    from surgery_core.models.opening import LoadedModel
    from surgery_core.plans.plan import LayerPlan
    from surgery_core.proof.checks import Check
    from surgery_core.recipes.recipe import Recipe
    from surgery_core.recipes.run import Continuation, Report
    from surgery_core.text import Text, TextSet

_RECIPE_FIELDS = (
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "seed",
    "chat",
    "system",
    "revision",
    "model",
    "plan",
)
_SHOWN_SCORES = ("title", "tokens", "perplexity_before", "perplexity_after", "ratio", "kl", "top1")


def info(arguments: argparse.Namespace) -> Output:
    """Return a model's facts, or the models that lie ready."""
    from surgery_core.models.offered import list_models

    if not arguments.list:
        facts = asdict(_load(arguments).info)
        return Output(_facts_text(facts), [{"fact": key, "value": value} for key, value in facts.items()], facts)
    choices = [asdict(choice) | {"path": str(choice.path)} for choice in list_models()]
    return Output(table(choices), choices, choices)


def run(arguments: argparse.Namespace) -> Output:
    """Return the text and the scores before and after surgery."""
    from surgery_core.recipes.run import run_recipe

    recipe, given = experiment_of(arguments)
    if arguments.save_recipe:
        recipe.dump(arguments.save_recipe)
    with progress("Scoring texts") as update:
        report = run_recipe(
            recipe,
            device=arguments.device,
            dtype=arguments.dtype,
            on_progress=update,
            unproved=arguments.unproved,
            text_set=given,
        )
    return Output(_report_text(report), _rows(report.frame()), report.to_dict())


def lens(arguments: argparse.Namespace) -> Output:
    """Return what each layer would predict next at the last tokens of a text."""
    from surgery_core.lenses.reading import read_lens
    from surgery_core.text import chat_text, visible

    if arguments.positions < 1:
        raise SettingsError(f"--positions is {arguments.positions}; it must be at least 1.")
    text = arguments.prompt if arguments.text is None else read_file(arguments.text).text
    loaded = _load(arguments)
    model = _operated(loaded, arguments)
    text = _first_prompt() if text is None else text
    if arguments.chat:
        text = chat_text(loaded.tokenizer, text, arguments.system or "")
    read = read_lens(_lens(model, arguments.tuned), model, loaded.tokenizer, text)
    frame = read.frame()
    frame = frame[frame["position"] > frame["position"].max() - arguments.positions]
    grid = [
        {"layer": cells["layer"].iloc[0]}
        | {f"{at} {visible(token)}": visible(top) for at, token, top in _columns(cells, "position", "token", "top")}
        for _, cells in frame.groupby("row")
    ]
    remarks = [remark for remark in (read.note, read.not_finite) if remark]
    return Output("\n".join([table(grid), *remarks]), _rows(frame), _rows(frame))


def train_lens(arguments: argparse.Namespace) -> Output:
    """Train a tuned lens, save it, and return how well both lenses read each layer."""
    from surgery_core.lenses.files import save_lens
    from surgery_core.lenses.training import LensTraining, lens_quality
    from surgery_core.lenses.training import train_lens as train
    from surgery_core.text import bundled_texts

    given = {name: getattr(arguments, name) for name in ("steps", "seed") if getattr(arguments, name) is not None}
    settings = LensTraining(**given)
    own, chosen = tuple(read_file(path) for path in arguments.text or ()), chosen_set(arguments)
    if own and chosen is not None:
        raise SettingsError("Give --text, --texts or --dataset, not two of them.")
    texts = own or (bundled_texts() if chosen is None else chosen.scored())
    loaded = _load(arguments)
    with progress("Training") as update:
        trained = train(
            loaded.model,
            loaded.tokenizer,
            texts,
            settings,
            name=loaded.info.name,
            on_progress=lambda state: update(state.step, state.steps),
        )
    save_lens(trained, arguments.to)
    rows = _rows(lens_quality(loaded.model, loaded.tokenizer, trained, bundled_texts()))
    return Output(f"Saved in {arguments.to}. KL to the output, in nats:\n\n{table(rows)}", rows, rows)


def skills(arguments: argparse.Namespace) -> Output:
    """Return the accuracy on each skill before and after surgery."""
    from surgery_core.measure.skills import load_skills, score_skills

    loaded = _load(arguments)
    model = _operated(loaded, arguments)
    chosen = load_skills()
    with progress("Scoring skills") as update:
        sides = [
            score_skills(side, loaded.tokenizer, chosen, on_progress=partial(_shifted, update, len(chosen) * number))
            for number, side in enumerate((loaded.model, model))
        ]
    rows = [_skill_row(before, after) for before, after in zip(*sides, strict=True)]
    return Output(table(rows), rows, rows)


def preflight(arguments: argparse.Namespace) -> Output:
    """Return which checks of surgery on this model hold."""
    from surgery_core.proof.preflight import preflight as check

    loaded = _load(arguments)
    report = check(loaded.model, loaded.tokenizer, None if arguments.plan is None else _plan(loaded, arguments))
    rows = [{"holds": _held(check), "claim": check.title, "detail": check.detail} for check in report.checks]
    content = {"passed": report.passed, "plan": report.plan, "seconds": report.seconds, "checks": _rows(report.frame())}
    return Output(table(rows), _rows(report.frame()), content, code=0 if report.passed else 1)


def keep(arguments: argparse.Namespace) -> Output:
    """Write what a page would show as a file of the kind that its name ends in, and return where it lies."""
    from surgery_core.keeping.kept import keep as write_kept

    recipe, given = experiment_of(arguments)
    path = write_kept(
        recipe, arguments.to, page=arguments.page, device=arguments.device, dtype=arguments.dtype,
        unproved=arguments.unproved, force=arguments.force, text_set=given,
    )  # fmt: skip
    facts = {"file": str(path), "plan": recipe.plan}
    return Output(f"Saved {path}", [facts], facts)


def export(arguments: argparse.Namespace) -> Output:
    """Save the operated model as a checkpoint, and return where it lies; push it to the hub where that is asked for."""
    from surgery_core.keeping.checkpoint import check_repo, export_checkpoint, push

    if arguments.push is not None:
        check_repo(arguments.push)
    loaded = _load(arguments)
    plan = _plan(loaded, arguments)
    with progress("Scoring texts") as update:
        folder = export_checkpoint(
            loaded, plan, arguments.to, unproved=arguments.unproved, dtype=arguments.dtype,
            figures=not arguments.no_figures, on_progress=update,
        )  # fmt: skip
    facts: dict[str, object] = {"folder": str(folder), "plan": str(plan), "layers": len(plan)}
    text = f"Saved {facts['layers']} layers in {facts['folder']}"
    if arguments.push is not None:
        facts["pushed"] = push(folder, arguments.push, private=not arguments.public)
        text += f"; pushed to {facts['pushed']}"
    return Output(text, [facts], facts)


def _lens(model: Any, folder: str | None) -> Lens:
    from surgery_core.lenses.files import load_lens
    from surgery_core.lenses.reading import LogitLens
    from surgery_core.lenses.tuned import TunedLens

    return LogitLens(model) if folder is None else TunedLens(model, load_lens(folder))


def _columns(frame: pd.DataFrame, *names: str) -> Iterable[tuple[Any, ...]]:
    return zip(*(frame[name] for name in names), strict=True)


def _shifted(update: Callable[[int, int], None], already: int, done: int, total: int) -> None:
    """Report the progress of one of two equal halves."""
    update(already + done, 2 * total)


def _skill_row(before: SkillResult, after: SkillResult) -> dict[str, object]:
    return {
        "skill": before.skill.title,
        "items": len(before.items),
        "accuracy_before": before.accuracy,
        "accuracy_after": after.accuracy,
        "margin_before": before.margin,
        "margin_after": after.margin,
    }


def _load(arguments: argparse.Namespace) -> LoadedModel:
    from surgery_core.models.offered import DEFAULT_MODEL
    from surgery_core.models.opening import load_model

    return load_model(
        DEFAULT_MODEL if arguments.model is None else arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        revision=arguments.revision,
    )


def _plan(loaded: LoadedModel, arguments: argparse.Namespace) -> LayerPlan:
    from surgery_core.plans.plan import LayerPlan

    n_layers = loaded.info.n_layers
    if arguments.plan is None:
        return LayerPlan.identity(n_layers)
    if _is_merge(arguments.plan):
        return _merge(loaded, arguments.plan)
    return LayerPlan.parse(arguments.plan, n_layers)


def _is_merge(plan: str) -> bool:
    """Whether a plan is given as a file of mergekit."""
    return plan.endswith((".yaml", ".yml"))


def _merge(loaded: LoadedModel, path: str) -> LayerPlan:
    from surgery_core.keeping.mergekit import MOST_BYTES, from_mergekit

    try:
        with Path(path).open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            f"The merge {path!r} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}."
        ) from error
    return from_mergekit(text, loaded)


def _held(check: Check) -> str:
    return "-" if not check.tried else "yes" if check.passed else "NO"


def _operated(loaded: LoadedModel, arguments: argparse.Namespace) -> Any:
    from surgery_core.recipes.run import operated_model

    return operated_model(loaded, _plan(loaded, arguments), unproved=arguments.unproved)


def experiment_of(arguments: argparse.Namespace) -> tuple[Recipe, TextSet | None]:
    """Return the recipe file, or the experiment that the options describe; and its set of texts, where that was given.

    Raises:
        SettingsError: when a recipe and options say the same thing, or neither says which plan.
        RecipeError: when the file is none.
    """
    from surgery_core.recipes.recipe import Recipe

    given = {name: getattr(arguments, name) for name in _RECIPE_FIELDS if getattr(arguments, name) is not None}
    if not arguments.recipe:
        return _described(arguments, given)
    _say_one_thing(
        [*given, *(name for name in ("prompt", "text", "text_set", "as_papers") if getattr(arguments, name))]
    )
    recipe = Recipe.load(arguments.recipe)
    holds = recipe.text_set is None or bool(recipe.text_set.name or recipe.text_set.texts)
    _say_one_thing([name for name in ("texts", "dataset") if holds and getattr(arguments, name)])
    return recipe, chosen_set(arguments)


def _say_one_thing(clash: Sequence[str]) -> None:
    """Refuse options that a recipe says itself."""
    if clash:
        raise SettingsError(f"--recipe says everything itself; leave out --{clash[0].replace('_', '-')}.")


def _described(arguments: argparse.Namespace, given: dict[str, Any]) -> tuple[Recipe, TextSet | None]:
    from surgery_core.models.offered import DEFAULT_MODEL
    from surgery_core.recipes.chosen_set import ChosenSet
    from surgery_core.recipes.recipe import Recipe

    if arguments.plan is None:
        raise SettingsError("This needs --plan, such as 0-4,7-11, or --recipe; info tells how many layers there are.")
    if arguments.text and (also := [name for name in ("text_set", "texts", "dataset") if getattr(arguments, name)]):
        raise SettingsError(f"Give --text or --{also[0].replace('_', '-')}, not both.")
    if _is_merge(arguments.plan):
        given["plan"] = str(_merge(_load(arguments), arguments.plan))
    own, chosen = tuple(read_file(path) for path in arguments.text or ()), chosen_set(arguments)
    recipe = Recipe(
        **{"model": DEFAULT_MODEL, **given}, prompts=tuple(arguments.prompt or (_first_prompt(),)), own_texts=own,
        texts=() if own else None, text_set=None if chosen is None else ChosenSet.of(chosen), cut=cut_of(arguments),
    )  # fmt: skip
    return recipe, chosen


def _facts_text(facts: Mapping[str, object]) -> str:
    flat = dict(_flat(facts))
    width = max(map(len, flat))
    return "\n".join(f"{key:<{width}}  {_fact(value)}" for key, value in flat.items())


def _flat(facts: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Yield facts by their names in words; those of an adapter with what they are of before them."""
    for key, value in facts.items():
        name = before + key.replace("_", " ")
        if isinstance(value, dict):
            yield from _flat(value, f"{name} ")
        else:
            yield name, value


def _fact(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "; ".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)


def _report_text(report: Report) -> str:
    parts = [f"{report.model.title} ({report.model.n_layers} layers), plan {str(report.plan) or '(no layers)'}"]
    parts += [_continuation_text(continuation) for continuation in report.continuations]
    if report.comparison:
        rows = [{name: row[name] for name in _SHOWN_SCORES} for row in _rows(report.frame())]
        parts += [table([*rows, _totals(report.comparison)]), _certainty(report.comparison)]
        parts += [report.comparison.cut.sentence] if report.comparison.cut else []
        parts += [report.comparison.not_finite] if report.comparison.not_finite else []
    return "\n\n".join(parts)


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


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _first_prompt() -> str:
    from surgery_core.text import bundled_prompts

    return bundled_prompts()[0].text


def read_file(path: str) -> Text:
    """Return a text file, or standard input for `-`.

    Raises:
        TextError: when it cannot be read or is no text.
    """
    from surgery_core.text import read_text

    if path == "-":
        return read_text(sys.stdin.buffer.read(), "standard input")
    try:
        return read_text(Path(path).read_bytes(), Path(path).name)
    except OSError as error:
        raise TextError(f"The text {path!r} cannot be read: {error.strerror}.") from error

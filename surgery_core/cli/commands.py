"""What each command does: arguments -> one call into the library -> what to write.

The library is imported where it is used, so that `--help` and a mistyped option answer without loading torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery_core.cli.output import Output, frame_rows, progress, table
from surgery_core.cli.run_text import report_rows, report_text
from surgery_core.cli.texts import calibration_of, chosen_set, cut_of, margin_of
from surgery_core.errors import PlanError, SettingsError, TextError

if TYPE_CHECKING:
    from surgery_core.keeping.script import LensView
    from surgery_core.measure.skills import SkillResult
    from surgery_core.models.opening import LoadedModel
    from surgery_core.plans.plan import LayerPlan
    from surgery_core.proof.checks import Check
    from surgery_core.recipes.recipe import Recipe
    from surgery_core.suture.report import StitchReport
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


def info(arguments: argparse.Namespace) -> Output:
    """Return a model's facts, or the models that lie ready."""
    from surgery_core.models.offered import list_models

    if not arguments.list:
        facts = asdict(load(arguments).info)
        return Output(_facts_text(facts), [{"fact": key, "value": value} for key, value in facts.items()], facts)
    choices = [asdict(choice) | {"path": str(choice.path)} for choice in list_models()]
    return Output(table(choices), choices, choices)


def run(arguments: argparse.Namespace) -> Output:
    """Return the text and the scores before and after surgery."""
    from surgery_core.recipes.run import run_recipe

    recipe, given = (usually_stitched if arguments.save_recipe else experiment_of)(arguments)
    if arguments.save_recipe:
        recipe.dump(arguments.save_recipe)
    with progress("Measuring" if recipe.study or recipe.sweep else "Scoring texts") as update:
        report = run_recipe(
            recipe,
            device=arguments.device,
            dtype=arguments.dtype,
            on_progress=update,
            unproved=arguments.unproved,
            text_set=given,
            calibration=calibration_of(arguments),
        )
    return Output(report_text(report), report_rows(report), report.to_dict())


def skills(arguments: argparse.Namespace) -> Output:
    """Return the accuracy on each skill before and after surgery."""
    from surgery_core.measure.skills import load_skills, score_skills

    loaded = load(arguments)
    model = operated(loaded, arguments)
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

    loaded = load(arguments)
    report = check(loaded.model, loaded.tokenizer, None if arguments.plan is None else _plan(loaded, arguments))
    rows = [{"holds": _held(check), "claim": check.title, "detail": check.detail} for check in report.checks]
    content = {
        "passed": report.passed,
        "plan": report.plan,
        "seconds": report.seconds,
        "checks": frame_rows(report.frame()),
    }
    return Output(table(rows), frame_rows(report.frame()), content, code=0 if report.passed else 1)


def keep(arguments: argparse.Namespace) -> Output:
    """Write what a page would show as a file of the kind that its name ends in, and return where it lies."""
    from surgery_core.cli.asked_sweep import asked_sweep
    from surgery_core.keeping.kept import keep as write_kept

    recipe, given = usually_stitched(arguments)
    swept = asked_sweep(arguments, recipe, shown=arguments.page == "sweep")
    path = write_kept(
        recipe, arguments.to, page=arguments.page, device=arguments.device, dtype=arguments.dtype,
        unproved=arguments.unproved, force=arguments.force, text_set=given, lens=_lens_view(arguments, recipe),
        sweep=swept,
    )  # fmt: skip
    facts = {"file": str(path), "plan": recipe.plan}
    return Output(f"Saved {path}", [facts], facts)


def _lens_view(arguments: argparse.Namespace, recipe: Recipe) -> LensView | None:
    """Return how a script of the Lens page reads; None on another page."""
    from surgery_core.keeping.script import LensView

    given = {"lens": arguments.lens, "follow": arguments.follow, "start": arguments.start}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.page != "lens":
        if given or arguments.inside:
            raise SettingsError(f"--{next(iter(given), 'inside')} is of the Lens page; say --page lens.")
        return None
    return LensView(recipe.lens or (recipe.prompts or ("",))[0], sublayers=arguments.inside, **given)


def export(arguments: argparse.Namespace) -> Output:
    """Save the operated model as a checkpoint, and return where it lies; push it to the hub where that is asked for.

    To a name that ends in .gguf, a model that was opened from such a file is written as one.
    """
    from surgery_core.keeping.checkpoint import export_checkpoint
    from surgery_core.keeping.push import check_repo, push

    packed = arguments.to.lower().endswith(".gguf")
    if arguments.push is not None:
        if packed:
            raise SettingsError("--push takes a checkpoint, not a GGUF file; name a folder with --to.")
        check_repo(arguments.push)
    loaded = load(arguments)
    plan = _plan(loaded, arguments)
    if packed:
        return _export_gguf(loaded, plan, arguments)
    report = _stitches(loaded, plan, arguments)
    plan, stitches = (plan, None) if report is None else (report.stitches.plan, report.stitches)
    with progress("Scoring texts") as update:
        folder = export_checkpoint(
            loaded, plan, arguments.to, unproved=arguments.unproved, dtype=arguments.dtype,
            figures=not arguments.no_figures, on_progress=update, stitches=stitches,
        )  # fmt: skip
    facts: dict[str, object] = {"folder": str(folder), "plan": str(plan), "layers": len(plan)}
    content = facts | {"stitches": None if report is None else report.plain()}
    text = f"Saved {facts['layers']} layers in {facts['folder']}"
    text += "" if report is None else f". {report.sentence}"
    if arguments.push is not None:
        facts["pushed"] = content["pushed"] = push(folder, arguments.push, private=not arguments.public)
        text += f"; pushed to {facts['pushed']}"
    return Output(text, [facts], content)


def _stitches(loaded: LoadedModel, plan: LayerPlan, arguments: argparse.Namespace) -> StitchReport | None:
    """Return what came of fitting a plan's stitches; None where it has none."""
    from surgery_core.suture.calibration import calibration_texts
    from surgery_core.suture.report import stitch_report
    from surgery_core.suture.stitch import stitch

    if plan == plan.unstitched:
        return None
    with progress("Stitching") as update:
        view = stitch(
            loaded.model, plan, loaded.tokenizer, calibration_of(arguments) or calibration_texts(), on_progress=update
        )
    return stitch_report(view)


def _export_gguf(loaded: LoadedModel, plan: LayerPlan, arguments: argparse.Namespace) -> Output:
    from surgery_core.keeping.gguf_file import export_gguf

    path = export_gguf(loaded, plan, arguments.to, unproved=arguments.unproved)
    facts: dict[str, object] = {"file": str(path), "plan": str(plan), "layers": len(plan)}
    return Output(f"Saved {len(plan)} layers in {path}", [facts], facts)


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


def load(arguments: argparse.Namespace) -> LoadedModel:
    """Return the model that the options name. Errors as `load_model`."""
    from surgery_core.models.offered import DEFAULT_MODEL
    from surgery_core.models.opening import load_model

    return load_model(
        DEFAULT_MODEL if arguments.model is None else arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        revision=arguments.revision,
    )


def _plan(loaded: LoadedModel, arguments: argparse.Namespace) -> LayerPlan:
    from surgery_core.plans.cuts import stitched

    plan = named_plan(loaded, arguments)
    return stitched(plan) if getattr(arguments, "stitch", False) else plan


def named_plan(loaded: LoadedModel, arguments: argparse.Namespace) -> LayerPlan:
    """Return the plan that the options name, by default the unchanged model. Errors as `LayerPlan.parse`."""
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


def operated(loaded: LoadedModel, arguments: argparse.Namespace) -> Any:
    """Return the view that the options describe. Errors as `operated_model`."""
    from surgery_core.recipes.run import operated_model

    return operated_model(
        loaded, _plan(loaded, arguments), unproved=arguments.unproved, calibration=calibration_of(arguments)
    )


def experiment_of(arguments: argparse.Namespace) -> tuple[Recipe, TextSet | None]:
    """Return the recipe, or the experiment that the options describe; and its set of texts, where that was given.

    A recipe may run on another model than it says.

    Raises:
        SettingsError: when a recipe and options say the same thing, or neither says which plan.
        RecipeError: when there is no such file or key, or the file is no recipe.
    """
    from surgery_core.recipes.gallery import find_recipe

    named = getattr(arguments, "file", None)
    if named and arguments.recipe:
        raise SettingsError("Give the recipe once: as RECIPE, or with --recipe.")
    given = {name: getattr(arguments, name) for name in _RECIPE_FIELDS if getattr(arguments, name) is not None}
    if not (named or arguments.recipe):
        return _described(arguments, given)
    elsewhere = {name: given.pop(name) for name in ("model", "revision") if name in given}
    if "revision" in elsewhere and "model" not in elsewhere:
        raise SettingsError("--revision goes with --model where a recipe is run; name both.")
    _say_one_thing(
        [
            *given,
            *(
                name
                for name in ("prompt", "text", "text_set", "as_papers", "margin", "stitch")
                if getattr(arguments, name)
            ),
        ]
    )
    recipe = find_recipe(named or arguments.recipe)
    if elsewhere:
        recipe = replace(recipe, model=elsewhere["model"], revision=elsewhere.get("revision"))
    holds = recipe.text_set is None or bool(recipe.text_set.name or recipe.text_set.texts)
    _say_one_thing([name for name in ("texts", "dataset") if holds and getattr(arguments, name)])
    return recipe, chosen_set(arguments)


def usually_stitched(arguments: argparse.Namespace) -> tuple[Recipe, TextSet | None]:
    """Return what `experiment_of` does, for a file that fits its stitches itself when it is run. Errors as that.

    Raises:
        SettingsError: when the options say on which texts: the file would not have them.
    """
    if arguments.stitch_texts:
        raise SettingsError(
            "What is kept fits its stitches on the bundled stories, so that it can be run anywhere; leave out --stitch-texts."
        )
    return experiment_of(arguments)


def _say_one_thing(clash: Sequence[str]) -> None:
    """Refuse options that a recipe says itself."""
    if clash:
        raise SettingsError(f"A recipe says everything itself; leave out --{clash[0].replace('_', '-')}.")


def _described(arguments: argparse.Namespace, given: dict[str, Any]) -> tuple[Recipe, TextSet | None]:
    from surgery_core.models.offered import DEFAULT_MODEL
    from surgery_core.recipes.chosen_set import ChosenSet
    from surgery_core.recipes.recipe import Recipe

    if arguments.plan is None:
        raise SettingsError("This needs --plan, such as 0-4,7-11, or a recipe; info tells how many layers there are.")
    if arguments.text and (also := [name for name in ("text_set", "texts", "dataset") if getattr(arguments, name)]):
        raise SettingsError(f"Give --text or --{also[0].replace('_', '-')}, not both.")
    if _is_merge(arguments.plan) or arguments.stitch:
        given["plan"] = str(_plan(load(arguments), arguments))
    if (margin := margin_of(arguments)) is not None:
        given["margin"] = margin
    own, chosen = tuple(read_file(path) for path in arguments.text or ()), chosen_set(arguments)
    recipe = Recipe(
        **{"model": DEFAULT_MODEL, **given}, prompts=tuple(arguments.prompt or (first_prompt(),)), own_texts=own,
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


def first_prompt() -> str:
    """Return the first of the bundled prompts."""
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

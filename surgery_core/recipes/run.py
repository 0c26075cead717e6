"""Run a recipe: recipe -> plan -> view -> measurements -> report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from surgery_core.errors import RecipeError
from surgery_core.measure.compare import compare
from surgery_core.measure.generation import Generation, complete
from surgery_core.measure.results import Comparison
from surgery_core.models.opening import LoadedModel, ModelInfo, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.preflight import prove
from surgery_core.recipes.recipe import Recipe
from surgery_core.states.means import mean_contributions
from surgery_core.surgery.view import operate
from surgery_core.text import PAPERS, Text, TextSet, as_papers, bundled_texts, text_sets

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Continuation:
    """What a prompt became with the base model and with the operated one."""

    prompt: str
    before: Generation
    after: Generation


@dataclass(frozen=True)
class Report:
    """What a recipe measured.

    Attributes:
        recipe: what was asked for.
        model: the facts of the model that it ran on, with the revision that was found.
        plan: the operated model's anatomy.
        comparison: scores before and after, or None where the recipe names no texts.
        continuations: one for each prompt.
    """

    recipe: Recipe
    model: ModelInfo
    plan: LayerPlan
    comparison: Comparison | None
    continuations: tuple[Continuation, ...]

    def frame(self) -> pd.DataFrame:
        """Return a row a text with the scores before and after; empty where the recipe names no texts."""
        return self.comparison.frame() if self.comparison else pd.DataFrame()

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain values, for JSON."""
        return {
            "model": asdict(self.model),
            "plan": str(self.plan),
            "recipe": self.recipe.dumps(),
            "prompts": [
                {"prompt": c.prompt, "before": asdict(c.before), "after": asdict(c.after)} for c in self.continuations
            ],
            "texts": self.frame().to_dict("records"),
            "total": _total(self.comparison) if self.comparison else None,
            "cut": _cut(self.comparison),
            "not_finite": self.comparison.not_finite if self.comparison else "",
        }


def run_recipe(
    recipe: Recipe,
    *,
    loaded: LoadedModel | None = None,
    device: str = "auto",
    dtype: str = "auto",
    on_progress: Progress | None = None,
    stop: threading.Event | None = None,
    unproved: bool = False,
    text_set: TextSet | None = None,
) -> Report:
    """Run an experiment.

    Args:
        recipe: what to measure.
        loaded: the recipe's model, when it is open already.
        device: where to run, as in `load_model`.
        dtype: the number format, as in `load_model`.
        on_progress: called with the tokens of the texts scored so far, and of all.
        stop: when set, the run ends with `Stopped`.
        unproved: whether to go on where the plan does not pass its checks.
        text_set: the set that the recipe names by its digest, where it does not hold the texts themselves.

    Raises:
        RecipeError: when the recipe names a text that is not bundled, or a set that is not there.
        ModelLoadError: when its model cannot be opened.
        PlanError: when its plan does not fit the model, or needs another that does not.
        RefusedPlanError: when its numbers would be wrong on this model; has the nearest plan that is allowed.
    """
    texts = texts_of(recipe, text_set)
    base = loaded or load_model(recipe.model, device=device, dtype=dtype, revision=recipe.revision)
    plan = LayerPlan.parse(recipe.plan, base.info.n_layers)
    view = operated_model(base, plan, unproved=unproved)

    def continued(prompt: str) -> Continuation:
        before, after = (complete(m, base.tokenizer, prompt, recipe.settings, stop=stop) for m in (base.model, view))
        return Continuation(prompt, before, after)

    continuations = tuple(continued(prompt) for prompt in recipe.prompts)
    measured = compare(base.model, view, base.tokenizer, texts, stop=stop, on_progress=on_progress) if texts else None
    return Report(recipe, base.info, plan, measured, continuations)


def operated_model(loaded: LoadedModel, plan: LayerPlan, *, unproved: bool = False) -> Any:
    """Return the view of a loaded model, after getting ready what its plan needs and checking that it is right.

    Models that it takes layers from are opened by name, on the same device; mean contributions are taken over the
    bundled texts.

    Raises:
        ModelLoadError: when a donor cannot be opened.
        PlanError: when the plan does not fit the model, or a donor does not.
        RefusedPlanError: when its numbers would be wrong on this model and `unproved` is not set.
    """
    layers = [layer for slot in plan for layer in slot.layers]
    names = {layer.donor for layer in layers if layer.donor is not None}
    device, dtype = loaded.info.device, loaded.info.dtype
    donors = {name: load_model(name, device=device, dtype=dtype).model for name in sorted(names)}
    averaged = any(layer.mean for layer in layers)
    means = mean_contributions(loaded.model, loaded.tokenizer, bundled_texts()) if averaged else None
    if not (unproved or plan.is_identity):
        prove(loaded.model, loaded.tokenizer, plan, donors=donors, means=means, suggest=True)
    return operate(loaded.model, plan, donors=donors, means=means)


def texts_of(recipe: Recipe, given: TextSet | None = None) -> tuple[Text, ...]:
    """Return the texts that a recipe scores: its set or the bundled ones that it names, cut as it says; then its own.

    Args:
        recipe: what is scored.
        given: the set that it names by its digest, where it does not hold the texts themselves.

    Raises:
        RecipeError: when it names one that is not bundled, or a set that is not there; says which there are.
        TextError: when there is nothing to score.
    """
    if recipe.text_set is not None:
        return (*recipe.text_set.found(given).scored(recipe.cut), *recipe.own_texts)
    if recipe.texts == ():
        return (as_papers(recipe.own_texts),) if recipe.cut == PAPERS and recipe.own_texts else recipe.own_texts
    named = _named(_bundled_titles() if recipe.texts is None else recipe.texts)
    return (as_papers(named), *recipe.own_texts) if recipe.cut == PAPERS else (*named, *recipe.own_texts)


def _bundled_titles() -> tuple[str, ...]:
    return tuple(text.title for text in bundled_texts())


def _named(titles: tuple[str, ...]) -> tuple[Text, ...]:
    bundled = {text.title: text for one in text_sets().values() for text in one.texts}
    unknown = [title for title in titles if title not in bundled]
    if unknown:
        raise RecipeError(
            f"The recipe names the text {unknown[0]!r}, which is not bundled; there are: {', '.join(list(bundled)[:12])}, "
            "and those of the other sets (`text_sets`)."
        )
    return tuple(bundled[title] for title in titles)


def _cut(comparison: Comparison | None) -> dict[str, Any] | None:
    """Return how the texts were joined and cut, where they were."""
    cut = None if comparison is None else comparison.cut
    return None if cut is None else asdict(cut) | {"sentence": cut.sentence}


def _total(comparison: Comparison) -> dict[str, Any]:
    before, after = comparison.base, comparison.operated
    return {
        "perplexity_before": before.perplexity,
        "perplexity_after": after.perplexity,
        "bits_per_byte_before": before.bits_per_byte,
        "bits_per_byte_after": after.bits_per_byte,
        "kl": comparison.kl,
        "top1": comparison.top1,
        "top5": comparison.top5,
        "ratio": comparison.ratio,
        **_certainty(comparison),
    }


def _certainty(comparison: Comparison) -> dict[str, Any]:
    """Return what can be said of the ratio of perplexities, and the intervals of the other figures."""
    found, ratio = comparison.verdict(), comparison.interval("ratio")
    others: dict[str, Any] = {}
    for name in ("bits_change", "kl", "top1", "top5"):
        interval = comparison.interval(name)
        others |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {
        "low": ratio.low,
        "high": ratio.high,
        "p": found.p,
        "verdict": found.word,
        "sentence": found.sentence,
        "n_units": found.n_units,
        "unit": found.unit,
        "more_units": found.more,
        **others,
    }

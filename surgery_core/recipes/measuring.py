"""Run the studies of the recipes that come along on one model, and keep what they came to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from surgery_core.errors import InputError, ModelError
from surgery_core.models.opening import LoadedModel
from surgery_core.recipes.gallery import Card
from surgery_core.recipes.made import made_with
from surgery_core.recipes.outcomes import KeptOutcome, Outcomes, short_name
from surgery_core.recipes.scored import texts_of
from surgery_core.recipes.studied import run_study
from surgery_core.stopping import Progress, stages


def measure(
    cards: Sequence[Card], loaded: LoadedModel, before: Outcomes | None = None, *, most_texts: int | None = None,
    on_progress: Progress | None = None, on_done: Callable[[Outcomes, str], object] | None = None,
    stop: threading.Event | None = None,
) -> Outcomes:  # fmt: skip
    """Run the study of each recipe that has one.

    Args:
        cards: which recipes.
        loaded: the model.
        before: what is known of others; it stays.
        most_texts: read only so many texts of each recipe, the first ones; None for all.
        on_progress: called with how much is done, and of how much.
        on_done: called after each with everything so far and the recipe's key.
        stop: when set, the work ends with `Stopped`.

    Returns:
        An outcome a recipe; a sentence where the model cannot answer one.
    """
    asked = [card for card in cards if card.recipe.study is not None]
    made = made_with(loaded.info)
    made["parameters"] = str(loaded.info.n_parameters)
    found = Outcomes(made | {name: short_name(made[name]) for name in ("model", "title")}, {}, {})
    if before is not None:
        found = replace(found, by_key=before.by_key, refused=before.refused)
    for card, step in zip(asked, stages(len(asked), on_progress), strict=True):
        found = _with(found, card, loaded, most_texts, step, stop)
        if on_done is not None:
            on_done(found, card.key)
    return found


def _with(
    found: Outcomes, card: Card, loaded: LoadedModel, most_texts: int | None, on_progress: Progress,
    stop: threading.Event | None,
) -> Outcomes:  # fmt: skip
    """Return the outcomes with that of one more recipe."""
    known = {key: one for key, one in found.by_key.items() if key != card.key}
    refused = {key: why for key, why in found.refused.items() if key != card.key}
    texts = texts_of(card.recipe)[:most_texts]
    try:
        result = run_study(card.recipe, loaded, texts, stop=stop, on_progress=on_progress)
    except (InputError, ModelError) as error:
        return replace(found, by_key=known, refused=refused | {card.key: str(error)})
    return replace(found, by_key=known | {card.key: KeptOutcome.of(card.recipe, result, len(texts))}, refused=refused)

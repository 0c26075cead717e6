"""What a lens shows, in a sentence that anyone reads, made from the figures."""

from __future__ import annotations

import numpy as np

from surgery_core.lenses.trajectory import Array, Trajectory
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.words import subject


def lens_said(before: Trajectory, after: Trajectory | None, plan: LayerPlan) -> str:
    """Return after how many layers the next token is settled, and how many likeliest tokens surgery changes.

    It is about this text, and claims nothing about others; empty where a model's states are not numbers.

    Args:
        before: what the lens reads in the base model.
        after: the same of the operated model, or None where nothing is changed.
        plan: the operated model's.
    """
    if before.not_finite or (after is not None and after.not_finite):
        return ""
    if after is None:
        where = "the part that is read" if before.truncated else "this text"
        return f"In {where} the next token is settled {_settled(before)} on average: from there on the likeliest one stays."
    changed = int((before.top_ids[-1, :, 0] != after.top_ids[-1, :, 0]).sum())
    return (
        f"{subject(plan)} the next token is settled {_settled(after)} on average; unchanged, {_settled(before)}. "
        f"{_share(changed, len(before.tokens))}"
    )


def layers_until_settled(read: Trajectory) -> float:
    """Return the mean prediction depth of a text's tokens in layers, 0 to the number that run; halves count as such."""
    return float(_layers(read)[read.prediction_depth()].mean())


def _layers(read: Trajectory) -> Array:
    """Return, `[rows]`, how many layers have run at each row; the first row is the input."""
    halves = np.array([label.endswith(" mid") for label in read.labels])
    whole = np.cumsum(~halves) - 1
    counted: Array = whole + 0.5 * halves
    return counted


def _settled(read: Trajectory) -> str:
    until, runs = layers_until_settled(read), int(_layers(read)[-1])
    if not runs:
        return "at once"
    return f"after {until:.1f} of {runs} {'layer' if runs == 1 else 'layers'}"


def _share(changed: int, total: int) -> str:
    if not changed:
        return "At the end the likeliest token is the same everywhere."
    return f"At the end another token is likeliest at {changed} of {total} {'place' if total == 1 else 'places'}."

"""One edit against another, layer by layer, on the same texts: swapping against deleting, attention against MLP, ...

Each edit is tried at every middle layer. A unit's figure is the mean over layers of its change of loss under the one edit
less that under the other, so layers count alike and texts are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from surgery_core.errors import SettingsError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer, Slot
from surgery_core.states.means import mean_contributions
from surgery_core.statistics.paired import estimates
from surgery_core.studies.finding import Figure, Finding, Picture
from surgery_core.studies.measuring import (
    MOST_LAYERS,
    TEXTS,
    Measured,
    chosen_texts,
    measured,
    n_layers_of,
    number,
    one_of,
    spaced,
)
from surgery_core.studies.study import Option, Study, StudySetup
from surgery_core.surgery.ingredients import Ingredients
from surgery_core.sweeps.options import MAX_TIMES


def _delete(plan: LayerPlan, at: int, times: int) -> LayerPlan:
    return plan.delete(at)


def _swap(plan: LayerPlan, at: int, times: int) -> LayerPlan:
    return plan.swap(at, at + 1)


def _repeat(plan: LayerPlan, at: int, times: int) -> LayerPlan:
    return plan.repeat(at, at + 1, times)


def _damped(plan: LayerPlan, at: int, times: int) -> LayerPlan:
    return plan.scale(at, 1 / times).repeat(at, at + 1, times)


def _mean(plan: LayerPlan, at: int, times: int) -> LayerPlan:
    return plan.replace(at, Slot((Layer(at, mean=True),)))


EDITS: dict[str, Callable[[LayerPlan, int, int], LayerPlan]] = {
    "nothing": lambda plan, at, times: plan,
    "delete": _delete,
    "delete the attention": lambda plan, at, times: plan.keep(at, "mlp"),
    "delete the MLP": lambda plan, at, times: plan.keep(at, "attn"),
    "swap with the next": _swap,
    "repeat": _repeat,
    "repeat damped": _damped,
    "put its mean": _mean,
}
"""What can be done to a layer: (the unchanged plan, which layer, how often it runs where it is repeated)."""

LAYERS = ("middle", "all", "first half", "second half")
"""Which layers are edited; the first and the last are left out but in `all`."""


@dataclass(frozen=True)
class _Side:
    """One edit and its plans.

    Attributes:
        edit: key of `EDITS`.
        layers: where it is tried.
        plans: there.
    """

    edit: str
    layers: tuple[int, ...]
    plans: tuple[LayerPlan, ...]

    def only(self, result: Measured) -> _Side:
        """Return the side with only those plans that ran."""
        ran = [place for place, plan in enumerate(self.plans) if result.ran(plan)]
        return _Side(self.edit, tuple(self.layers[at] for at in ran), tuple(self.plans[at] for at in ran))


def edit_against_edit(setup: StudySetup) -> Finding:
    """Measure one edit against another over the layers.

    Raises:
        SettingsError: when the model has fewer than four layers, an option is out of range, or no layer allows an edit.
        TextError, Stopped: as for `measured`.
    """
    base = LayerPlan.identity(n_layers_of(setup, 4))
    sides = [_side(setup, base, one_of(setup, name, EDITS)) for name in ("edit", "against")]
    plans = [plan for side in sides for plan in side.plans]
    result = measured(setup, plans, ingredients=_ingredients(setup, sides))
    left = [side.only(result) for side in sides]
    empty = next((side for side in left if not side.plans), None)
    if empty is not None:
        why = next(iter(result.refused.values()))
        raise SettingsError(f"No layer of this model allows the edit {empty.edit!r}: {why} Choose another edit.")
    return _finding(result, left, sum(len(side.plans) for side in sides) - sum(len(side.plans) for side in left))


def _side(setup: StudySetup, base: LayerPlan, edit: str) -> _Side:
    layers = _layers(setup, len(base))
    if edit == "swap with the next":
        # both of the two have to be among them
        layers = [at for at in layers if at + 1 in layers] or layers[:-1]
    layers = spaced(layers, number(setup, "layers_at_most", 1, 10_000))
    times = number(setup, "times", 2, MAX_TIMES)
    return _Side(edit, tuple(layers), tuple(EDITS[edit](base, at, times) for at in layers))


def _layers(setup: StudySetup, n: int) -> list[int]:
    middle = list(range(1, n - 1))
    half = n // 2
    return {
        "middle": middle,
        "all": list(range(n)),
        "first half": [at for at in middle if at < half],
        "second half": [at for at in middle if at >= half],
    }[one_of(setup, "layers", LAYERS)]


def _ingredients(setup: StudySetup, sides: Sequence[_Side]) -> Ingredients:
    """Measure mean contributions where an edit needs them: on the texts that are not scored, where there are any."""
    if all(side.edit != "put its mean" for side in sides):
        return Ingredients()
    scored = chosen_texts(setup)
    others = [text for text in setup.texts if text not in scored][:TEXTS]
    return Ingredients(means=mean_contributions(setup.model, setup.tokenizer, others or scored, stop=setup.stop))


def _finding(result: Measured, sides: Sequence[_Side], refused: int) -> Finding:
    edit, against = sides
    ours, theirs = (result.mean(side.plans) for side in sides)
    name = f"Loss after {_said(edit.edit)} less that after {_said(against.edit)}, nats a token"
    if against.edit == "nothing":
        name = f"Change of loss after {_said(edit.edit)}, mean over layers, nats a token"
    others = [
        result.figure(f"Change of loss after {_said(side.edit)}, nats a token", result.mean(side.plans))
        for side in sides
        if side.edit != "nothing"
    ]
    frame = pd.DataFrame(line for side in sides if side.edit != "nothing" for line in _lines(result, side))
    picture = Picture(
        "bars", "layer", "change", series="edit", x_title="Layer", y_title="Change of loss, nats a token",
        low="low", high="high",
    )  # fmt: skip
    note = f"{refused} plans that this model does not allow are left out." if refused else ""
    more = _layers_where(result, edit, against)
    return Finding(
        result.figure(name, ours - theirs), (*others, *more), frame, picture, " ".join(filter(None, (note, result.note)))
    )  # fmt: skip


def _lines(result: Measured, side: _Side) -> list[dict[str, Any]]:
    found = estimates(np.array([result.change(plan) for plan in side.plans]), result.tokens)
    return [
        {"layer": f"L{at}", "edit": side.edit, "change": value, "low": low, "high": high}
        for at, value, low, high in zip(
            side.layers, found.value.tolist(), found.low.tolist(), found.high.tolist(), strict=True
        )
    ]


def _layers_where(result: Measured, edit: _Side, against: _Side) -> list[Figure]:
    """Return at which share of the layers the one edit does more damage than the other, whole intervals counted."""
    theirs = dict(zip(against.layers, against.plans, strict=True))
    pairs = [(plan, theirs[at]) for at, plan in zip(edit.layers, edit.plans, strict=True) if at in theirs]
    if not pairs:
        return []
    found = estimates(np.array([result.change(ours) - result.change(other) for ours, other in pairs]), result.tokens)
    if np.isnan(found.value).any():
        return []
    shares = {"more": found.low > 0, "less": found.high < 0}
    return [
        Figure(f"Layers where it surely costs {word}", float(where.mean()), n_units=len(pairs), unit="layer", percent=True)
        for word, where in shares.items()
    ]  # fmt: skip


def _said(edit: str) -> str:
    """Return an edit as a noun."""
    return {
        "nothing": "nothing",
        "delete": "deleting a layer",
        "delete the attention": "deleting a layer's attention",
        "delete the MLP": "deleting a layer's MLP",
        "swap with the next": "swapping two neighbours",
        "repeat": "repeating a layer",
        "repeat damped": "repeating a layer in damped steps",
        "put its mean": "putting its mean in a layer's place",
    }[edit]


def _options(edit: str, against: str, times: int = 2, layers: str = "middle") -> dict[str, Option]:
    return {
        "edit": edit,
        "against": against,
        "layers": layers,
        "times": times,
        "texts": TEXTS,
        "layers_at_most": MOST_LAYERS,
    }


STUDIES: tuple[Study, ...] = (
    Study(
        "swap-against-delete", "Swapping against deleting",
        "Every two neighbours of the middle change places, and every layer of it is left out: loss after the one less loss "
        "after the other.",
        edit_against_edit, _options("swap with the next", "delete"),
    ),
    Study(
        "attention-against-mlp", "Attention against MLP",
        "Each middle layer loses its attention, and then its MLP instead: loss after the one less loss after the other.",
        edit_against_edit, _options("delete the attention", "delete the MLP"),
    ),
    Study(
        "mean-against-delete", "A layer's mean in its place",
        "Each middle layer is replaced by what it adds on average over other texts, and then left out instead: loss after "
        "the one less loss after the other.",
        edit_against_edit, _options("put its mean", "delete"),
    ),
    Study(
        "repeat-each", "Repeating each layer",
        "Each layer runs several times in a row: change of the loss, mean over the layers.",
        edit_against_edit, _options("repeat", "nothing", layers="all"),
    ),
    Study(
        "damped-loops", "Damped loops",
        "Each middle layer runs k times with a k-th of its contribution, and k times at full strength: loss after the one "
        "less loss after the other.",
        edit_against_edit, _options("repeat damped", "repeat"),
    ),
)  # fmt: skip
"""Questions of this kind; all have the same options with other defaults."""

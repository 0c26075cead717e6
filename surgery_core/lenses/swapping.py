"""Swap one token for another where a Jacobian lens reads it, and let the model go on from there.

With u_s and u_t the unembedding's rows of the two tokens, their lens directions at layer l are v = J_l^T u, the rows of
`W_U J_l`. A state h has two coordinates in the plane of v_s and v_t, c = V^+ h with V = [v_s v_t] and V^+ its
pseudoinverse; they change places, and what is outside of that plane stays:

    h' = h + strength (c_t - c_s) (v_s - v_t)

So the state moves along the difference of the two directions ("A global workspace in language models",
transformer-circuits.pub/2026/workspace, patching in lens coordinates). The paper does so at every layer of a band, with the
coordinates held at their swapped values; here one layer is swapped, since a second swap behind it would undo the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from surgery_core.errors import LensError, SettingsError, TextError
from surgery_core.lenses.jacobian import JacobianLens, Jacobians
from surgery_core.lenses.reading import Follow, one_token, token_text, translators_by
from surgery_core.lenses.swap_bounds import MOST_STRENGTH
from surgery_core.measure.readout import Readout
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.residuals import places_of
from surgery_core.surgery.anatomy import plan_of
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.moves import Move, put_move
from surgery_core.surgery.stream_form import stream_of


def swap(
    model: nn.Module,
    lens: JacobianLens,
    slot: int,
    source: int,
    target: int,
    *,
    strength: float = 1.0,
    positions: Sequence[int] | None = None,
    follow: Follow = "layer",
) -> Any:
    """Return a view in which one token stands for another in what leaves a slot.

    Args:
        model: the model, or a view of it; it is not changed.
        lens: a Jacobian lens of it.
        slot: whose output is swapped, counted in running order; it needs a matrix of the lens.
        source: the token that the lens reads.
        target: the one that takes its place.
        strength: 1 for a whole swap, 0 for none; from -10 to 10.
        positions: where, counted from the beginning of the text; None for every position, written ones too.
        follow: as for `read_lens`, which matrix belongs to a slot after surgery.

    Returns:
        A view with the same plan and tensors. Comparisons, lenses and generation run it as it is.

    Raises:
        SettingsError: when the slot, a token, a position or the strength is out of its range, or both tokens are the same.
        LensError: when the slot has no matrix, or what is behind the layers is more than a norm and an unembedding.
    """
    move = swap_move(model, lens, slot, source, target, strength=strength, positions=positions, follow=follow)
    view = private_copy(model)
    put_move(view, places_of(plan_of(model))[slot] - 1, move)
    return view


def swap_move(
    model: nn.Module,
    lens: JacobianLens,
    slot: int,
    source: int,
    target: int,
    *,
    strength: float = 1.0,
    positions: Sequence[int] | None = None,
    follow: Follow = "layer",
) -> Move:
    """Return how `swap` moves a state; arguments and errors as there."""
    head = Readout(model)
    if not head.slices or not stream_of(model).is_plain:
        raise LensError(
            f"Behind the layers of a {type(model).__name__} is more than a norm and an unembedding, so a token has no "
            "direction there; use a model without."
        )
    _check(len(plan_of(model)), head.vocab, slot, source, target, strength, positions)
    rows = head.unembed.weight[[source, target]].detach().float().cpu()
    matrix = lens.jacobians[matrix_layer(lens.fitted, plan_of(model), slot, follow)]
    directions = matrix.float().cpu().T @ rows.T
    writers = strength * torch.tensor([[-1.0, 1.0], [1.0, -1.0]]) @ directions.T
    chosen = None if positions is None else tuple(positions)
    return Move(torch.linalg.pinv(directions), writers, chosen)


def swap_tokens(tokenizer: Any, source: str, target: str) -> tuple[int, int]:
    """Return the two tokens of a swap from their texts, as `one_token` reads them.

    Raises:
        TextError: when one is not a single token.
        SettingsError: when both are the same token.
    """
    found = one_token(tokenizer, source), one_token(tokenizer, target)
    if found[0] == found[1]:
        raise SettingsError(f"{source!r} and {target!r} are the same token; choose another one to put in its place.")
    return found


def as_source(tokenizer: Any, source: str, typed: str) -> str:
    """Return the text of a target that a person typed: with the space of the source before it, where that is a token.

    Raises:
        TextError: when neither way is a single token.
    """
    if source.startswith(" ") and not typed.startswith(" "):
        with suppress(TextError):
            return token_text(tokenizer, one_token(tokenizer, f" {typed}")) or f" {typed}"
    return token_text(tokenizer, one_token(tokenizer, typed)) or typed


def matrix_layer(fitted: Jacobians, plan: LayerPlan, slot: int, follow: Follow = "layer") -> int:
    """Return whose matrix of a lens belongs to what leaves a slot of a plan.

    Raises:
        SettingsError: when there is no such slot.
        LensError: when the lens has no matrix for it; says which slots have one.
    """
    _check_slot(len(plan), slot)
    rows = [-1 if row is None else row - 1 for row in translators_by(plan, follow, by_slot=bool(fitted.plan))[1:]]
    if rows[slot] in fitted.matrices:
        return rows[slot]
    have = [str(at) for at, row in enumerate(rows) if row in fitted.matrices]
    raise LensError(
        f"The lens has no matrix for what leaves slot {slot}; "
        + (f"choose one of {', '.join(have)}." if have else "it has none for any slot of this plan.")
    )


def _check_slot(slots: int, slot: int) -> None:
    if not 0 <= slot < slots:
        raise SettingsError(f"There is no slot {slot}; they are 0 to {slots - 1}.")


def _check(
    slots: int, vocab: int, slot: int, source: int, target: int, strength: float, positions: Sequence[int] | None
) -> None:
    _check_slot(slots, slot)
    for token in (source, target):
        if not 0 <= token < vocab:
            raise SettingsError(f"There is no token {token}; they are 0 to {vocab - 1}.")
    if source == target:
        raise SettingsError(f"Token {source} cannot be swapped for itself; choose another.")
    if not -MOST_STRENGTH <= strength <= MOST_STRENGTH:
        raise SettingsError(f"The strength is {strength}; it must be from {-MOST_STRENGTH} to {MOST_STRENGTH}.")
    if positions is not None and (not positions or min(positions) < 0):
        raise SettingsError(f"The positions {list(positions)} cannot be swapped; give some from 0 on, or none for all.")

"""Save an operated model as an ordinary checkpoint that plain transformers opens."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.func import functional_call

from surgery_core.errors import InputError, RefusedPlanError, SettingsError
from surgery_core.models.devices import DTYPES
from surgery_core.models.opening import LoadedModel, ModelInfo
from surgery_core.models.weights import quiet
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.folding import folded, probe
from surgery_core.proof.preflight import prove
from surgery_core.surgery.anatomy import is_quantised
from surgery_core.surgery.saving import (
    cannot_be_saved,
    reopened,
    save_view,
    unshare_layers,
)
from surgery_core.surgery.stitches import Stitches
from surgery_core.surgery.view import checked_plan
from surgery_core.whole_files import PART

__all__ = ["export_model", "export_view", "reopened", "save_view", "unshare_layers"]


def export_model(
    loaded: LoadedModel, plan: LayerPlan | str, folder: str | Path, *, unproved: bool = False, dtype: str = "auto",
    complete: Callable[[Path], None] | None = None, stitches: Stitches | None = None,
) -> Path:  # fmt: skip
    """Save the model that `plan` describes, with its tokenizer and a card, and check that it opens as the same model.

    A repeated layer is stored once for each time that it runs; tied embeddings stay tied.

    The check: logits of 16 tokens of the model that was saved, opened again in the format that the base runs in, are
    those of the view with the weights as they were stored, within 1e-4 and 1e-3 of the value. So it is as strict
    whatever the format; what a narrower format rounds away is not counted against it.

    Args:
        loaded: the base model.
        plan: layers in any order, whole, in half or scaled: factors become part of the weights (`proof.folding`). A
            checkpoint cannot hold parallel, damped, mean or donated layers. An adapter becomes part of the
            weights of the layers that run with it.
        folder: a new or empty folder.
        unproved: whether to go on where the plan does not pass its checks on this model.
        dtype: number format of the stored weights: `"float32"`, `"bfloat16"`, `"float16"`, or `"auto"`: the
            checkpoint's where the model was widened to float32 from it (nothing is rounded: a tensor that it cannot hold
            stays as it is), else the one that the model runs in.
        complete: called with the finished folder before it gets its name; adds files to it, or changes the card.
        stitches: projections that were fitted for this plan (`stitch`); they are stored in place of the base's.

    Returns:
        The folder.

    Raises:
        InputError: when the folder holds something already, or cannot be written.
        SettingsError: when `dtype` is not one of those.
        RefusedPlanError: when a checkpoint cannot hold the plan, when it does not pass its checks, or when the saved
            model would compute something else.
    """
    plan = checked_plan(plan, loaded.info.n_layers)
    stored = _format(loaded.info, dtype)
    require_empty(folder)
    _refuse_unsaveable(plan)
    if is_quantised(loaded.model):
        raise RefusedPlanError(
            f"{loaded.info.name} is quantised, and a checkpoint of quantised layers in another order would not open as "
            "the same model; export from the model that is not quantised."
        )
    if not unproved:
        prove(loaded.model, loaded.tokenizer, plan, stitches=stitches, suggest=True)
    view = folded(loaded.model, plan, stitches)
    return export_view(
        loaded,
        view,
        folder,
        _card(loaded, plan, stored, stitches),
        dtype=stored,
        exact=dtype == "auto",
        complete=complete,
    )


def export_view(
    loaded: LoadedModel, view: Any, folder: str | Path, text: str, *, dtype: str, exact: bool = False,
    complete: Callable[[Path], None] | None = None,
) -> Path:  # fmt: skip
    """Save a view of a model, and check that it opens as the same one, as `export_model` does.

    Args:
        loaded: the model that it comes from; its tokenizer goes along.
        view: of whole layers; it gets tensors and settings of its own.
        folder: a new or empty folder.
        text: of the card.
        dtype: number format of the stored weights.
        exact: keep a tensor as it is where that format would round it.
        complete: as for `export_model`.

    Raises:
        InputError: when the folder holds something already, or cannot be written.
        RefusedPlanError: when the saved model would compute something else.
    """
    require_empty(folder)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        _save(view, loaded, text, target, dtype, exact, complete or (lambda _: None))
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{str(folder)!r} cannot be written: {why}.") from error
    return target


def require_empty(folder: str | Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        InputError: saying so.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{str(folder)!r} holds something already; name a new or an empty folder.")


def _format(info: ModelInfo, dtype: str) -> str:
    if dtype not in DTYPES:
        raise SettingsError(f"{dtype!r} is not a number format; choose one of {', '.join(DTYPES)}.")
    if dtype != "auto":
        return dtype
    return info.stored_as if info.dtype == "float32" and info.stored_as in DTYPES else info.dtype


def _save(
    view: Any, loaded: LoadedModel, text: str, target: Path, stored: str, exact: bool,
    complete: Callable[[Path], None],
) -> None:  # fmt: skip
    """Fill a folder beside the empty one and put it in its place, or leave none."""
    part = target.with_name(f".{target.name}{PART}")
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, target, ignore_errors=True)
        undo.callback(shutil.rmtree, part, ignore_errors=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        with quiet():
            state = save_view(view, part, getattr(torch, stored), exact=exact)
            loaded.tokenizer.save_pretrained(part)
            (part / "README.md").write_text(text, encoding="utf-8")
            _require_same(view, state, part)
        complete(part)
        part.replace(target)
        undo.pop_all()


def _refuse_unsaveable(plan: LayerPlan) -> None:
    if not len(plan):
        raise RefusedPlanError("A checkpoint needs at least one layer; put one into the plan.")
    special = [str(slot) for slot in plan if slot.own is None]
    if special:
        raise RefusedPlanError(
            f"A checkpoint cannot hold {special[0]}; it holds layers of this model, whole, in half or scaled, in any order "
            "and as often as you like."
        )


def _require_same(view: Any, state: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Refuse a saved model whose logits are not those of the view with the weights as they were stored."""
    saved = reopened(view, folder)
    ids = probe(view)
    with torch.inference_mode():
        expected = functional_call(view, _widened(state, view.state_dict()), (ids,), tie_weights=False).logits
        same = torch.allclose(expected, saved(ids).logits, rtol=1e-3, atol=1e-4)
    if not same:
        why = cannot_be_saved(view, saved)
        raise RefusedPlanError(
            f"A {type(view).__name__} cannot be saved with this plan: opened again, it would compute something else. {why}".strip()
        )


def _widened(state: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return those of the stored weights that differ in format, in the format that the view runs in."""
    return {name: tensor.to(like[name].dtype) for name, tensor in state.items() if tensor.dtype != like[name].dtype}


def made_how(plan: LayerPlan, stitches: Stitches | None, healed: str = "") -> str:
    """Return what a card says of the weights: that none was trained, or which were fitted over what.

    Args:
        plan, stitches: of the export.
        healed: how the model that it comes from was trained itself; empty for one that was not healed.
    """
    if healed:
        return f"The model that it comes from was trained itself ({healed.rstrip('.')}). {made_how(plan, stitches)}"
    if stitches is None or plan == plan.unstitched:
        return "Nothing was trained."
    fitted = ", ".join(f"`{one.path}` of L{one.layer.index}" for one in stitches.all)
    return f"Nothing was trained; {fitted} was fitted by least squares for the layers missing behind. {stitches.note}"


def _card(loaded: LoadedModel, plan: LayerPlan, stored: str, stitches: Stitches | None) -> str:
    info = loaded.info
    licence = f"---\nlicense: {info.licence}\n---\n\n" if info.licence else ""
    return (
        f"{licence}# {info.title}, operated\n\n"
        f"Made with Model Surgery from `{info.name}` (revision `{info.revision}`, {info.n_layers} layers) "
        f"by the layer plan `{plan}`. {made_how(plan, stitches, info.healed)} Weights are stored in {stored}.\n"
    )

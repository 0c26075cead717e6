"""A plan of a model that came from a GGUF file, as a GGUF file: nothing is unpacked and packed again.

What comes out is opened again as any GGUF file is, and has to be the model that the plan describes: the same weights, the
same kinds of layers, the same logits and the same tokens.
"""

from __future__ import annotations

import tempfile
import threading
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from surgery_core import __version__
from surgery_core.errors import InputError, ModelLoadError, RefusedPlanError
from surgery_core.models.gguf_checkpoint import SUFFIX, only_gguf
from surgery_core.models.gguf_header import GgufHeader, read_gguf_header
from surgery_core.models.gguf_layers import STOPPED, needed_bytes, require_order, write_layers
from surgery_core.models.hub import cached_gguf, hub_file
from surgery_core.models.offered import digest, located
from surgery_core.models.opening import LoadedModel, ModelInfo, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.proof.folding import probe
from surgery_core.proof.preflight import prove
from surgery_core.stopping import Progress, raise_if_stopped, stages
from surgery_core.surgery.anatomy import text_config
from surgery_core.surgery.view import checked_plan, operate
from surgery_core.whole_files import written_beside

_SAID = "Layers, tokens and $pecial ones: naïve café, 你好, 3 × 7 = 21.\n"
"""Words on which tokenizers are compared."""
_NAMES_THAT_DECIDE = ("mistral",)
"""Names of models by which transformers chooses the class; these stay as they are."""


def cannot_be_gguf(info: ModelInfo, plan: LayerPlan) -> str:
    """Return why a plan of a model cannot be written as a GGUF file, as a sentence; empty where nothing is known against it."""
    if info.gguf is None:
        return "This model was not opened from a GGUF file; only one that was can be written as one, with its weights as they are."
    if info.adapter is not None:
        return "A GGUF file cannot hold an adapter beside packed weights; export a checkpoint instead."
    if not len(plan):
        return "A GGUF file needs at least one layer; put one into the plan."
    special = [str(slot) for slot in plan if not slot.is_whole]
    if special:
        return (
            f"A GGUF file cannot hold {special[0]} without packing weights anew; it holds whole layers of its model, in any "
            "order and as often as you like. Export a checkpoint instead."
        )
    return ""


def export_gguf(
    loaded: LoadedModel, plan: LayerPlan | str, to: str | Path, *, unproved: bool = False,
    stop: threading.Event | None = None, on_progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Write an operated model as a GGUF file, from the one that it was opened from, and check that it opens as that model.

    Tensors are copied as they are stored and get the names of their new places; a repeated layer is stored once for each
    time that it runs. Tokenizer, chat template and settings stay; lists with an entry for each layer follow the layers.

    Args:
        loaded: the base, opened from a GGUF file.
        plan: whole layers in any order.
        to: the new file; its name ends in `.gguf`.
        unproved: whether to go on where the plan does not pass its checks on this model.
        stop: when set, the work ends with `Stopped`, and nothing is left.
        on_progress: told how far it is: checks, then tensors that are written; opening the file again is not counted.

    Returns:
        The file.

    Raises:
        InputError: for another ending, a file that is there, one that cannot be written, or a source that changed.
        RefusedPlanError: when the model is not from a GGUF file, when such a file cannot hold the plan, or when it does
            not pass its checks.
        Stopped: when stopped.
    """
    checking, writing = stages(2, on_progress)
    plan, target = checked_plan(plan, loaded.info.n_layers), Path(to)
    if why := cannot_be_gguf(loaded.info, plan):
        raise RefusedPlanError(why)
    if target.suffix.lower() != SUFFIX:
        raise InputError(f"{str(to)!r} does not end in {SUFFIX}; name a file that does.")
    source = gguf_source(loaded.info)
    if target.exists():
        raise InputError(f"{str(to)!r} is there already; choose another name.")
    header, order = read_gguf_header(source, loaded.info.name), _order(plan)
    require_order(header, order)
    if not unproved:
        prove(loaded.model, loaded.tokenizer, plan, suggest=True, stop=stop, on_progress=checking)
    try:
        with written_beside(target) as part:
            write_layers(source, part, header, order, _texts(header, loaded.info, plan), stop=stop, on_progress=writing)
            raise_if_stopped(stop, STOPPED)
            _require_same(loaded, plan, part)
    except OSError as error:
        raise InputError(f"{str(to)!r} cannot be written: {error.strerror or error}.") from error
    return target


def gguf_bytes(loaded: LoadedModel, plan: LayerPlan, most: int, **how: Any) -> bytes:
    """Return what `export_gguf` writes, to be downloaded.

    Args:
        loaded, plan: as for `export_gguf`.
        most: largest size in bytes.
        how: as for `export_gguf`.

    Raises:
        InputError: when it would be larger.
        InputError, RefusedPlanError, Stopped: as for `export_gguf`.
    """
    if why := cannot_be_gguf(loaded.info, plan):
        raise RefusedPlanError(why)
    size = needed_bytes(read_gguf_header(gguf_source(loaded.info), loaded.info.name), _order(plan))
    if size > most:
        raise InputError(
            f"The GGUF file would have about {size / 1e6:,.0f} MB, and at most {most / 1e6:,.0f} MB can be downloaded here. "
            f"On a command line: python -m surgery_core export --model {loaded.info.name} --plan '{plan}' --to FILE.gguf"
        )
    with tempfile.TemporaryDirectory() as scratch:
        return export_gguf(loaded, plan, Path(scratch) / f"model{SUFFIX}", **how).read_bytes()


def gguf_source(info: ModelInfo) -> Path:
    """Return the GGUF file that a model was opened from.

    Raises:
        InputError: when it is not there any more, or is another one by now.
    """
    if info.kind == "hub":
        place = hub_file(info.name)
        if place is not None:
            return cached_gguf(info.name, place, info.revision, "Its GGUF file is needed").path
    for found in (located(info.source), Path(info.source)):
        if found.exists() and digest(found) == info.revision:
            path = only_gguf(found, info.name) if found.is_dir() else found
            if path is not None:
                return path
    raise InputError(f"The GGUF file of {info.title} has changed or is gone since it was opened; open the model again.")


def _order(plan: LayerPlan) -> list[int]:
    return [slot.layers[0].index for slot in plan]


def _texts(header: GgufHeader, info: ModelInfo, plan: LayerPlan) -> dict[str, str]:
    """Return what the new file says of itself."""
    about = (
        f"Made with Model Surgery {__version__} from {info.title} ({info.n_layers} layers) by the layer plan {plan}."
    )
    name = header.text("general.name")
    stays = plan.is_identity or name in _NAMES_THAT_DECIDE
    return {"general.description": about} | ({} if stays else {"general.name": f"{info.title}, operated"})


def _require_same(loaded: LoadedModel, plan: LayerPlan, part: Path) -> None:
    """Refuse a file that does not open as the model that the plan describes."""
    view = operate(loaded.model, plan)
    try:
        found = load_model(str(part), device=loaded.info.device, dtype=loaded.info.dtype, check_memory=False)
    except ModelLoadError as error:
        raise RefusedPlanError(
            f"A GGUF file cannot hold {plan} of {loaded.info.title}: it would not open. {error}"
        ) from error
    if why := _difference(view, loaded, found):
        raise RefusedPlanError(
            f"A GGUF file cannot hold {plan} of {loaded.info.title}: {why} Export a checkpoint instead."
        )


def _difference(view: Any, loaded: LoadedModel, found: LoadedModel) -> str:
    """Return in which way a file does not open as a view, as the rest of a sentence; empty where it does."""
    name = loaded.info.architecture
    if found.info.architecture != name:
        return f"it would open as a {found.info.architecture}."
    ours, theirs = (text_config(one).to_dict() for one in (view, found.model))
    by_layer = [key for key, value in ours.items() if isinstance(value, list) and value != theirs.get(key)]
    if by_layer:
        return f"a {name} has its {by_layer[0]} by place, and a layer would run as another kind than it is."
    mine, saved = view.state_dict(), found.model.state_dict()
    odd = [
        key for key in chain(mine, saved) if key not in mine or key not in saved or not _equal(mine[key], saved[key])
    ]
    if odd:
        return f"{odd[0]} would be another one."
    ids = probe(view)
    with torch.inference_mode():
        same = torch.allclose(found.model(ids).logits, view(ids).logits, rtol=1e-3, atol=1e-4)
    if not same:
        return f"a {name} computes something from the places of its layers, and its logits would be others."
    told, tells = (one.tokenizer for one in (loaded, found))
    if told(_SAID).input_ids != tells(_SAID).input_ids or told.chat_template != tells.chat_template:
        return "its tokenizer would be another one."
    return ""


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.is_meta or right.is_meta or torch.equal(left.to(right.device), right)

"""An operated model as a checkpoint with a card that says how it was made, in a folder or as a zip."""

from __future__ import annotations

import shlex
import tempfile
import threading
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from surgery_core import __version__
from surgery_core.errors import InputError
from surgery_core.keeping.pictures import picture_file
from surgery_core.keeping.report.carded import card_evidence, figures_section
from surgery_core.measure.compare import compare
from surgery_core.measure.results import Comparison
from surgery_core.models.opening import LoadedModel, ModelInfo
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.words import describe
from surgery_core.proof.export import export_model, made_how
from surgery_core.surgery.stitches import Stitches
from surgery_core.surgery.view import checked_plan, operate
from surgery_core.suture.calibration import calibration_texts
from surgery_core.text import bundled_texts, texts_digest

PICTURE = "plan.png"
"""Name of the plan's picture beside the card."""
Progress = Callable[[int, int], None]


def export_checkpoint(
    loaded: LoadedModel, plan: LayerPlan | str, folder: str | Path, *, unproved: bool = False, dtype: str = "auto",
    figures: bool = True, stop: threading.Event | None = None, on_progress: Progress | None = None,
    stitches: Stitches | None = None,
) -> Path:  # fmt: skip
    """Save an operated model with its tokenizer, a model card for the hub, and the plan's picture.

    Args:
        loaded, plan, folder, unproved, dtype: as for `export_model`.
        figures: whether the card has scores on the bundled texts before and after.
        stop: when set, scoring ends with `Stopped`, and nothing is saved.
        on_progress: called with the tokens scored so far, and of all.
        stitches: projections that were fitted for this plan, as for `export_model`.

    Returns:
        The folder.

    Raises:
        InputError, SettingsError, RefusedPlanError: as for `export_model`.
        Stopped: when stopped.
    """
    plan = checked_plan(plan, loaded.info.n_layers)

    def complete(part: Path) -> None:
        compared = None
        if figures and not plan.is_identity:
            # not the folded view: its plan says less than its weights, and a comparison goes by the plan
            view = operate(loaded.model, plan, stitches=stitches)
            compared = compare(
                loaded.model, view, loaded.tokenizer, bundled_texts(), stop=stop, on_progress=on_progress
            )
        (part / PICTURE).write_bytes(picture_file(plan, "png"))
        text = card(loaded.info, plan, compared, unproved=unproved, stitches=stitches)
        (part / "README.md").write_text(text, encoding="utf-8")

    return export_model(loaded, plan, folder, unproved=unproved, dtype=dtype, complete=complete, stitches=stitches)


def card(
    info: ModelInfo, plan: LayerPlan, compared: Comparison | None = None, *, unproved: bool = False,
    stitches: Stitches | None = None,
) -> str:  # fmt: skip
    """Return the model card of an exported plan: YAML for the hub, the plan, its figures, its proof, its command.

    Args:
        info: of the base.
        plan: what was exported.
        compared: the scores of both on some texts.
        unproved: whether the plan did not have to pass its checks.
        stitches: projections that were fitted for the plan.
    """
    words = describe(plan)
    parts = [
        f"# {info.title}, operated",
        f"Made with Model Surgery {__version__} from {_base(info)} by the layer plan `{plan}`. "
        f"{made_how(plan, stitches, info.healed)}",
        f"{words}\n\n![{words}]({PICTURE})",
        *([] if compared is None else [_figures(info, plan, compared, unproved=unproved)]),
        f"## Proof\n\n{_UNPROVED if unproved else _PROVED} {_RELOADED}",
        f"## The same again\n\n```\n{command(info, plan, unproved=unproved, stitches=stitches)}\n```",
    ]
    return str(ModelCard(f"---\n{_header(info).to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def command(
    info: ModelInfo, plan: LayerPlan, *, unproved: bool = False, stitches: Stitches | None = None
) -> str:  # fmt: skip
    """Return the command that exports a plan of a model; TEXTS stands for calibration texts that are not the usual ones."""
    words = ["python", "-m", "surgery_core", "export", "--model", info.name]
    words += ["--revision", info.revision] if info.kind == "hub" else []
    own = stitches is not None and stitches.all and stitches.texts != texts_digest(calibration_texts())
    words += [
        "--plan",
        str(plan),
        *(["--stitch-texts", "TEXTS"] if own else []),
        *(["--unproved"] if unproved else []),
        "--to",
        "FOLDER",
    ]
    return shlex.join(words)


def zipped(loaded: LoadedModel, plan: LayerPlan, most: int, **how: Any) -> bytes:
    """Return an exported checkpoint as a zip, its files in a folder of the model's name.

    Args:
        loaded, plan: what is exported.
        most: largest size of the weights in bytes.
        how: as for `export_checkpoint`.

    Raises:
        InputError: when it would be larger.
        InputError, RefusedPlanError, Stopped: as for `export_checkpoint`.
    """
    size = expected_bytes(loaded.info, plan)
    if size > most:
        raise InputError(
            f"The checkpoint would have about {size / 1e6:,.0f} MB, and at most {most / 1e6:,.0f} MB can be downloaded here. "
            f"On a command line: {command(loaded.info, plan)}"
        )
    target = BytesIO()
    with tempfile.TemporaryDirectory() as scratch:
        folder = export_checkpoint(loaded, plan, Path(scratch) / "model", **how)
        # weights hardly get smaller
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, Path(_name(loaded.info)) / path.relative_to(folder))
    return target.getvalue()


def expected_bytes(info: ModelInfo, plan: LayerPlan) -> int:
    """Return about how large a plan's weights are, in bytes: as if all of the model lay in its layers, at the most."""
    narrow = 2 if info.dtype == "float32" and info.stored_as in ("bfloat16", "float16") else 1
    return round(info.bytes / narrow * max(1.0, len(plan) / max(1, info.n_layers)))


def _base(info: ModelInfo) -> str:
    return f"`{info.name}` (revision `{info.revision}`, {info.n_layers} layers)"


def _name(info: ModelInfo) -> str:
    return f"{Path(info.name).name.replace('.gguf', '')}-operated"


def _header(info: ModelInfo) -> ModelCardData:
    # a model of a folder may have a name that no repository has
    base: dict[str, Any] = {"base_model": info.name, "base_model_relation": "merge"} if info.kind == "hub" else {}
    base |= {"license": info.licence} if info.licence else {}
    tags = ["model-surgery", "layer-surgery"]
    return ModelCardData(library_name="transformers", tags=tags, pipeline_tag="text-generation", **base)


def _figures(info: ModelInfo, plan: LayerPlan, compared: Comparison, *, unproved: bool) -> str:
    return figures_section(card_evidence(info, plan, compared, unproved=unproved), compared)


_PROVED = (
    "Before the export the plan passed its checks on this model: its logits are those of the layers called one by one, "
    "with and without the cache, also for a left-padded batch."
)
_UNPROVED = "The plan was exported without having to pass its checks."
_RELOADED = (
    "After it, the checkpoint was opened by plain transformers, and its logits on 16 tokens are those of the operated model "
    "within 1e-4 and a thousandth of the value."
)

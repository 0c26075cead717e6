"""A healed model as a checkpoint: weights with the updates in them, a card that says so, and the report as JSON."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from surgery_core import __version__
from surgery_core.keeping.tables import finite
from surgery_core.models.card import HEALING
from surgery_core.models.opening import LoadedModel, ModelInfo
from surgery_core.proof.export import export_view
from surgery_core.surgery.building import private_copy
from surgery_core.suture.heal_report import HealReport, heal_report
from surgery_core.suture.sides import Side


def export_healed(loaded: LoadedModel, view: Any, folder: str | Path) -> Path:
    """Save a healed view with its tokenizer, a model card, and `healing.json`, the report.

    Weights are stored in the number format that the model runs in: plain transformers opens the folder to the view's logits
    within 1e-4 and a thousandth of the value, which is checked.

    Args:
        loaded: the base.
        view: of `heal`; it is not changed.
        folder: a new or empty folder.

    Returns:
        The folder.

    Raises:
        PlanError: when the view was not made by `heal`.
        InputError: when the folder holds something already, or cannot be written, for example on a full disk.
        RefusedPlanError: when the saved model would compute something else.
    """
    report = heal_report(view)

    def complete(part: Path) -> None:
        content = json.dumps(finite(report.plain()), indent=1, ensure_ascii=False)
        (part / HEALING).write_text(content, encoding="utf-8")

    text = healed_card(loaded.info, report)
    return export_view(loaded, private_copy(view), folder, text, dtype=loaded.info.dtype, complete=complete)


def healed_title(info: ModelInfo, report: HealReport) -> str:
    """Return what a healed model is called: `fable, 9 layers, healed`."""
    return f"{info.title}, {report.n_layers} layer{'s' if report.n_layers != 1 else ''}, healed"


def healed_card(info: ModelInfo, report: HealReport) -> str:
    """Return the model card of a healed model.

    Args:
        info: of the base.
        report: of the heal.
    """
    known: dict[str, Any] = {"base_model": info.name, "base_model_relation": "finetune"} if info.kind == "hub" else {}
    known |= {"license": info.licence} if info.licence else {}
    header = ModelCardData(
        library_name="transformers", tags=["model-surgery", "layer-surgery", "distillation"],
        pipeline_tag="text-generation", **known,
    )  # fmt: skip
    trained, held = (_titles(texts) for texts in (report.lessons.trained, report.lessons.held))
    parts = [
        f"# {healed_title(info, report)}",
        f"Made with Model Surgery {__version__} from `{info.name}` (revision `{info.revision}`, {info.n_layers} layers) by "
        f"the layer plan `{report.plan}`, and trained after that. {report.made}",
        f"{_table(report)}\n\nFigures are of {len(report.lessons.held):,} texts that were never trained on; of the states "
        "of the training, the one that reads these best is kept.",
        *report.notes,
        f"Trained on: {trained}.\n\nHeld out: {held}.",
        "## Proof\n\nThe checkpoint was opened by plain transformers, and its logits on 16 tokens are those of the healed "
        "model within 1e-4 and a thousandth of the value.",
        f"## The same again\n\n```\n{command(info, report)}\n```\n\nTEXTS stands for the texts above. Trained for a time and "
        "not for a number of steps, another run comes out a little differently.",
    ]
    return str(ModelCard(f"---\n{header.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def command(info: ModelInfo, report: HealReport) -> str:
    """Return the command that heals the same plan for as many steps."""
    words = ["python", "-m", "surgery_core", "heal", "--model", info.name]
    words += ["--revision", info.revision] if info.kind == "hub" else []
    words += ["--plan", report.plan, "--texts", "TEXTS", "--steps", str(report.step), "--out", "FOLDER"]
    return shlex.join(words)


_SHOWN = 12


def _titles(texts: tuple[Any, ...]) -> str:
    shown = "; ".join(" ".join(text.title.split()) for text in texts[:_SHOWN])
    return f"{shown}; and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else shown


def _table(report: HealReport) -> str:
    lines = ["| model | nats a token | perplexity | KL to the base | back |", "| --- | ---: | ---: | ---: | ---: |"]
    return "\n".join([*lines, *map(_line, report.sides)])


def _line(side: Side) -> str:
    back = f"{side.back:.0%}" if side.back == side.back else ""  # NaN for base and cut
    return f"| {side.name} | {side.nats:.3f} | {side.perplexity:.2f} | {side.kl:.3f} | {back} |"

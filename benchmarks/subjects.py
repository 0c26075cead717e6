"""What the benchmarks of pages run on: the bundled model, and a real one of thirty layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surgery_core import LayerPlan, load_model
from tests.real_model import NAME, real_folder

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Subject:
    """A model that pages are timed with.

    Attributes:
        name: of the model in the app and in the lines of results.
        folder: of the models that the app offers.
        n_layers: layers.
        threads: that a plain script gets, the same as the library takes.
        layers: what is deleted, an edit each.
    """

    name: str
    folder: Path
    n_layers: int
    threads: int
    layers: tuple[int, ...]

    @property
    def warm(self) -> str:
        """Return the plan of the first look at a page, which is not timed."""
        return self.without(self.n_layers - 2)

    def without(self, layer: int) -> str:
        """Return the plan that deletes a layer."""
        return str(LayerPlan.identity(self.n_layers).delete([layer]))

    def load(self) -> Any:
        """Open the model with the library."""
        torch.set_num_threads(self.threads)
        return load_model(str(self.folder / self.name), allow_paths=True)


def delete_by_hand(model: Any, layer: int) -> None:
    """Delete a layer of a Llama as one would in a script."""
    del model.model.layers[layer]
    for position, block in enumerate(model.model.layers):
        block.self_attn.layer_idx = position
    model.config.num_hidden_layers -= 1


def plain_losses(model: nn.Module, tokenizer: Any, texts: Any) -> float:
    """Return the summed loss over texts, one after the other, as a script would."""
    total = 0.0
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([tokenizer(text.text)["input_ids"]])
            logits = model(ids, use_cache=False).logits[0, :-1]
            total += float(nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
    return total


def subject(name: str = "fable") -> Subject:
    """Return `fable` or `smollm2`."""
    if name == "fable":
        return Subject("fable", ROOT / "models", 12, 1, (3, 4, 5, 6, 7, 8, 9))
    return Subject(NAME, real_folder().parent, 30, 2, (4, 9, 14, 19, 24))

"""Turn a checkpoint, or the weighted mean of two, into a folder for transformers.

python -m training.export TOKENIZER OUT CHECKPOINT [OTHER_CHECKPOINT SHARE_OF_THE_OTHER]
"""

import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer

from training.model import export
from training.settings import SETTINGS


def load(checkpoint: str) -> dict[str, Tensor]:
    """Return the weights of a checkpoint."""
    return torch.load(checkpoint, weights_only=True)["net"]


def mean(one: dict[str, Tensor], other: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return `(1 - share) * one + share * other`."""
    return {name: weight.lerp(other[name], share) for name, weight in one.items()}


def main(tokenizer_folder: str, out: str, checkpoint: str, other: str | None = None, share: str = "0.5") -> None:
    """Save the model, rounded to bfloat16, its config and its tokenizer."""
    weights = load(checkpoint) if other is None else mean(load(checkpoint), load(other), float(share))
    end_of_text = AutoTokenizer.from_pretrained(tokenizer_folder).eos_token_id
    model = export(weights, SETTINGS.model, end_of_text)
    model.to(torch.bfloat16).save_pretrained(out)
    for path in Path(tokenizer_folder).glob("tokenizer*.json"):
        shutil.copy(path, out)


if __name__ == "__main__":
    main(*sys.argv[1:])

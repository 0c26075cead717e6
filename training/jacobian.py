"""Fit the bundled model's Jacobian lens, to the stopping rule or the end of the pieces.

python -m training.jacobian MODEL_FOLDER TRAIN.txt.gz STATE_FILE OUT_FOLDER

The state file keeps what was fitted after every piece: the same command goes on from it.
"""

from __future__ import annotations

import sys
import time

import torch

from surgery_core.lenses.jacobian_files import save_jacobians
from surgery_core.lenses.jacobian_fit import FitProgress, JacobianFit, fit_jacobians
from surgery_core.models.opening import load_model
from surgery_core.text import Text
from training.lens import read

PIECES = 1_000
CHARACTERS = 900
"""Of a piece: more than its 128 tokens, of which each has 3.7 bytes on average."""


def main(model: str, train: str, state: str, out: str) -> None:
    """Fit on the beginnings of evenly spread pieces of the training text."""
    torch.set_num_threads(1)
    loaded = load_model(model, allow_paths=True)
    began = time.perf_counter()
    fitted = fit_jacobians(
        loaded.model,
        loaded.tokenizer,
        pieces(read(train)),
        JacobianFit(),
        name="fable",
        state=state,
        on_progress=report,
    )
    print(f"{time.perf_counter() - began:.0f} s, {fitted.n_texts} texts, change {fitted.change:.5f}", flush=True)
    save_jacobians(fitted, out)


def pieces(text: str) -> list[Text]:
    """Return evenly spread pieces that begin behind a space, in an order in which every part of the text comes early."""
    step = len(text) // PIECES
    starts = [text.index(" ", number * step) + 1 for number in range(PIECES)]
    # 387 has no factor in common with 1,000, and its multiples are spread evenly
    mixed = [starts[number * 387 % PIECES] for number in range(PIECES)]
    return [Text(f"Piece {number}", text[at : at + CHARACTERS]) for number, at in enumerate(mixed)]


def report(progress: FitProgress) -> None:
    """Print every tenth piece."""
    if progress.text % 10 == 1:
        print(f"{progress.text} texts, change {progress.change:.5f}, {progress.seconds_left:.0f} s left", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5])

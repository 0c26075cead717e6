"""Train the bundled model's tuned lens, and print its quality by layer on held-out text.

python -m training.lens MODEL_FOLDER TRAIN.txt.gz HELDOUT.txt.gz OUT_FOLDER
"""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path

import torch

from surgery_core.lenses.files import save_lens
from surgery_core.lenses.quality import lens_quality
from surgery_core.lenses.training import LensTraining, Progress, train_lens
from surgery_core.models.opening import load_model
from surgery_core.text import Text

SETTINGS = LensTraining(steps=400, tokens_per_step=1024, window=256, learning_rate=3e-3, seed=0)
TRAIN_CHARACTERS = 3_000_000
HELD_OUT_PIECES = 24
PIECE = 1_500


def main(model: str, train: str, held_out: str, out: str) -> None:
    """Train on the beginning of every hundredth story's neighbourhood, test on even pieces of the held-out books."""
    torch.set_num_threads(1)
    loaded = load_model(model, allow_paths=True)
    began = time.perf_counter()
    translators = train_lens(
        loaded.model, loaded.tokenizer, sample(read(train)), SETTINGS, name="fable", on_progress=report
    )
    print(f"{time.perf_counter() - began:.0f} s", flush=True)
    save_lens(translators, out, pickled=False)
    quality = lens_quality(loaded.model, loaded.tokenizer, translators, pieces(read(held_out)))
    print(quality.round(3).to_string(index=False))
    totals = quality[["logit_lens", "tuned_lens"]].sum()
    print(totals.to_string(), totals["tuned_lens"] / totals["logit_lens"])


def read(path: str) -> str:
    """Return a gzipped text without its end-of-story marks."""
    return gzip.decompress(Path(path).read_bytes()).decode().replace("<|endoftext|>\n", "")


def sample(text: str) -> Text:
    """Return evenly spread parts of the training text, as one."""
    parts = 100
    step, size = len(text) // parts, TRAIN_CHARACTERS // parts
    return Text("Train", "".join(text[at : at + size] for at in range(0, step * parts, step)))


def pieces(text: str) -> list[Text]:
    """Return evenly spread pieces of the held-out text."""
    step = len(text) // HELD_OUT_PIECES
    return [Text(f"Piece {n}", text[n * step : n * step + PIECE]) for n in range(HELD_OUT_PIECES)]


def report(progress: Progress) -> None:
    """Print every twentieth step."""
    if progress.step % 20 == 1:
        mean = sum(progress.losses) / len(progress.losses)
        print(
            f"step {progress.step}/{progress.steps} mean KL {mean:.3f}, {progress.seconds_left:.0f} s left", flush=True
        )


if __name__ == "__main__":
    main(*sys.argv[1:5])

"""Training a tuned lens for the bundled model: ours beside the tuned-lens library's own loop, at equal tokens.

Both train on the same windows of 256 tokens, 1,024 a step, in one process with one thread, in turns; each with its own
default optimiser. Theirs is `tuned_lens.scripts.train_loop.Train.execute`, given the model and the tokens that are
there already; of ours the whole of `train_lens` after tokenising counts, with the checks on held-out text. The lens
that each leaves behind is measured on pieces of other text by one function.

python -m benchmarks.lens_training TRAIN.txt.gz HELDOUT.txt.gz, with tuned-lens 0.2.0 (benchmarks/requirements.txt).
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import Result, keep
from surgery_core import LensTraining, Translators, lens_quality, load_lens, load_model
from surgery_core.lenses.training import train_lens
from training.lens import pieces, read, sample

ROOT = Path(__file__).resolve().parents[1]
STEPS, WINDOW, TOKENS, ROUNDS = 60, 256, 1024, 3


def theirs(ids: torch.Tensor) -> tuple[float, Translators]:
    """Return the seconds of the library's loop and its lens, read from the files that it wrote."""
    import tuned_lens.scripts.ingredients as ing
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from tuned_lens.scripts.train_loop import Train

    folder = ROOT / "models" / "fable"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)

    class Model(ing.Model):
        def load(self, device: Any, must_use_cache: bool = False) -> Any:
            return model, AutoTokenizer.from_pretrained(folder)

    class Data(ing.Data):
        def load(self, tokenizer: Any) -> Any:
            rows = ids[: len(ids) // WINDOW * WINDOW].reshape(-1, WINDOW).tolist()
            return Dataset.from_dict({"input_ids": rows}).with_format("torch"), 1.0

    with tempfile.TemporaryDirectory() as out:
        spread = ing.Distributed(per_gpu_batch_size=TOKENS // WINDOW)
        loop = Train(
            model=Model(str(folder)), data=Data(), opt=ing.Optimizer(), dist=spread, output=Path(out),
            num_steps=STEPS, tokens_per_step=TOKENS,
        )  # fmt: skip
        state = loop.setup()
        loop.setup = lambda: state
        began = time.perf_counter()
        loop.execute()
        return time.perf_counter() - began, load_lens(out)


class Tokens:
    """A tokenizer that has done its work already."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def __call__(self, text: str, **more: Any) -> dict[str, list[int]]:
        """Return the ids, whatever the text."""
        return {"input_ids": self.ids}


def ours(loaded: Any, ids: torch.Tensor) -> tuple[float, Translators]:
    """Return the seconds of our training and its lens."""
    tokens = Tokens(ids.tolist())
    settings = LensTraining(steps=STEPS, tokens_per_step=TOKENS, window=WINDOW, learning_rate=3e-3)
    began = time.perf_counter()
    found = train_lens(loaded.model, tokens, "the tokens", settings, name="fable")
    return time.perf_counter() - began, found


def main(train: str, held_out: str) -> None:
    """Measure in turns and keep the lines."""
    torch.set_num_threads(1)
    loaded = load_model("fable")
    text = sample(read(train)).text[:600_000]
    ids = torch.tensor(loaded.tokenizer(text, verbose=False)["input_ids"])
    test = pieces(read(held_out))
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    lenses: dict[str, Translators] = {}
    for _ in range(ROUNDS):
        for name, run in (("theirs", lambda: theirs(ids)), ("ours", lambda: ours(loaded, ids))):
            took, lenses[name] = run()
            seconds[name].append(took)
    kl = {
        name: lens_quality(loaded.model, loaded.tokenizer, lens, test)["tuned_lens"].sum()
        for name, lens in lenses.items()
    }
    what = f"train fable's lens, {STEPS * TOKENS:,} tokens"
    keep(
        Result(what, f"`train_lens`, KL summed over layers {kl['ours']:.2f} nats", tuple(seconds["ours"]), 0),
        Result(what, f"tuned-lens 0.2.0's own loop, KL {kl['theirs']:.2f} nats", tuple(seconds["theirs"]), 0),
    )
    ratio = statistics.median(seconds["ours"]) / statistics.median(seconds["theirs"])
    print(f"ours / theirs: {ratio:.2f}; load {os.getloadavg()[0]:.1f}; {seconds}")


if __name__ == "__main__":
    main(*sys.argv[1:3])

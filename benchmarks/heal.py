"""What a heal gives back of the loss that a deleted block costs, and in how long.

    python -m benchmarks.heal fable --texts train.txt.gz --judged heldout.txt.gz --starts 1,4,9 --minutes 3
    python -m benchmarks.heal fable --texts train.txt.gz --judged heldout.txt.gz --starts 1 --steps 240

Losses are those of plain transformers on texts that no heal saw, neither to train on nor to choose by. Processor seconds
compare on a machine with other work, where minutes do not. Texts are files with `<|endoftext|>` between stories, cut into
passages as in `benchmarks.stitch`; without `--texts` the bundled stories are trained on.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import Result, keep
from benchmarks.stitch import mean_loss, passages, timed
from benchmarks.subjects import subject
from surgery_core import Healing, LayerPlan, heal, heal_report, operate, text_sets


def main() -> None:
    """Heal blocks of one model and keep a line for each."""
    arguments = _arguments()
    about = subject(arguments.subject)
    loaded = about.load()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = loaded.model, loaded.tokenizer
    judged = passages(arguments.judged, tokenizer, arguments.judged_tokens)
    texts = _texts(arguments, tokenizer)
    base = mean_loss(model, tokenizer, judged)
    for begin in map(int, arguments.starts.split(",")):
        plan = LayerPlan.identity(about.n_layers).delete(range(begin, begin + arguments.length))
        line = _line(arguments, about.name, loaded, plan, texts, judged, base)
        if arguments.keep:
            keep(line)
        else:
            print(line.line(), flush=True)


def _texts(arguments: argparse.Namespace, tokenizer: Any) -> list[str]:
    if arguments.texts is None:
        return [text.text for text in text_sets()["stories"].texts]
    return passages(arguments.texts, tokenizer, arguments.tokens)


def _line(
    arguments: argparse.Namespace, name: str, loaded: Any, plan: LayerPlan, texts: list[str], judged: list[str], base: float
) -> Result:  # fmt: skip
    model, tokenizer = loaded.model, loaded.tokenizer
    settings = Healing(learning_rate=arguments.learning_rate, rank=arguments.rank, before=arguments.before)
    cut = mean_loss(operate(model, plan), tokenizer, judged)

    def run() -> Any:
        return heal(model, plan, tokenizer, texts, minutes=arguments.minutes, steps=arguments.steps, settings=settings)

    view, seconds = timed(run)
    report, after = heal_report(view), mean_loss(view, tokenizer, judged)
    back = (cut - after) / (cut - base)
    own = ", ".join(f"{side.name} {side.nats:.3f} ({side.back:.0%})" for side in report.sides[2:])
    how = (
        f"heal, {report.step} steps, {report.tokens:,} tokens: {after:.3f}, back {back:.1%}; {seconds[1]:.0f} s of "
        f"processors (load {os.getloadavg()[0]:.1f}), training {report.seconds:.0f} s; on its own held-out texts: {own}"
    )
    what = f"{name} {plan}, {len(texts)} texts: nats {base:.3f}, cut {cut:.3f}"
    return Result(what, how, (seconds[0],), 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("subject", nargs="?", default="fable", choices=("fable", "smollm2"))
    parser.add_argument("--texts", type=Path, help="what is trained on and held out (default: the bundled stories)")
    parser.add_argument("--judged", type=Path, required=True, help="texts to judge by")
    parser.add_argument("--tokens", type=int, default=150_000, help="of the texts")
    parser.add_argument("--judged-tokens", type=int, default=8_000)
    parser.add_argument("--length", type=int, default=3, help="layers of a block")
    parser.add_argument("--starts", default="1,4,7,9", help="first layers, with commas")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rank", type=int, default=Healing.rank)
    parser.add_argument("--before", type=int, default=Healing.before)
    parser.add_argument("--learning-rate", type=float, default=Healing.learning_rate)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="add the lines to RESULTS.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()

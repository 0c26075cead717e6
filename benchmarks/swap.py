"""What a swap does to the text that is written: how often the other word comes, beside a random direction of the same size.

Thirty prompts name somebody; that word is swapped for another at every position, in what leaves one layer of `fable`. Counted
is in how many of the texts that follow, 24 tokens chosen greedily, the other word appears: of the unchanged model, with the
swap, and with a step of the same length in a random direction for each position (its sign and size are those of the swap's).

python -m benchmarks.swap [LAYER ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import torch

import surgery_core as sc
from surgery_core.lenses.swapping import swap_move
from surgery_core.statistics.items import wilson
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.moves import Move, put_move

FOLDER = Path(__file__).resolve().parents[1] / "models" / "fable"
WORDS = ("king", "fox", "wolf", "bear", "bird", "boy")
PROMPT = "Once upon a time there was a {word} who lived in the forest. One day the"
LAYERS, STRENGTHS, TOKENS = (3, 5, 7), (1.0, 2.0), 24


def main(layers: Sequence[int]) -> None:
    """Print a line a layer and strength."""
    torch.set_num_threads(1)
    loaded = sc.load_model("fable")
    lens = sc.JacobianLens(loaded.model, sc.load_jacobians(FOLDER / "jacobian-lens"))
    pairs = list(permutations(WORDS, 2))
    ids = {word: sc.one_token(loaded.tokenizer, f" {word}") for word in WORDS}
    before = [_appears(loaded.model, loaded, one, other) for one, other in pairs]
    print(f"unchanged: {_share(before)}", flush=True)
    for layer in layers:
        for strength in STRENGTHS:
            found: dict[str, list[bool]] = {"swap": [], "random": []}
            for number, (one, other) in enumerate(pairs):
                move = swap_move(loaded.model, lens, layer, ids[one], ids[other], strength=strength)
                for name, how in (("swap", move), ("random", _random(move, number))):
                    view = private_copy(loaded.model)
                    put_move(view, layer, how)
                    found[name].append(_appears(view, loaded, one, other))
            said = ", ".join(f"{name} {_share(seen)}" for name, seen in found.items())
            print(f"layer {layer}, strength {strength:g}: {said}", flush=True)


def _appears(model: Any, loaded: Any, word: str, other: str) -> bool:
    """Whether the other word is in what a model writes."""
    inputs = loaded.tokenizer(PROMPT.format(word=word), return_tensors="pt")
    with torch.inference_mode():
        written = model.generate(inputs["input_ids"], max_new_tokens=TOKENS, do_sample=False)
    text = loaded.tokenizer.decode(written[0, inputs["input_ids"].shape[1] :])
    return f" {other}" in text


def _random(move: Move, seed: int) -> Move:
    """Return a move by the same length along a random direction, which does not depend on the words."""
    difference = move.writers[1] - move.writers[0]
    drawn = torch.randn(len(difference), generator=torch.Generator().manual_seed(seed))
    unit = drawn / drawn.norm() * difference.norm() / 2
    return replace(move, writers=torch.stack([-unit, unit]))


def _share(seen: Sequence[bool]) -> str:
    low, high = wilson(sum(seen), len(seen))
    return f"{sum(seen)} of {len(seen)} ({low:.0%} to {high:.0%})"


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or LAYERS)

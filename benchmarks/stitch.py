"""What a stitch gives back of the loss that a deleted block costs, beside ReplaceMe's method as a plain script.

    python -m benchmarks.stitch fable --calibration train.txt.gz --held heldout.txt.gz
    python -m benchmarks.stitch smollm2 --calibration ... --held ... --length 8 --starts 8,11,14 --tokens 20000

Both get the same calibration texts. ReplaceMe (Shopkhoev et al., arXiv 2505.02819, section 3) is re-derived from the
paper: the model runs whole over the texts, what the MLP before the cut returns (M), the rest of that layer's output (Y)
and the state behind the cut (L) are kept for all tokens, and T with M·T + Y closest to L takes its place in front of the
MLP's last weight: by least squares without a penalty, its recommended way, or, with `--cosine`, by the cosine distance
(Adam, 1e-4, ten epochs in batches of 1,024 tokens). Losses are those of plain transformers on texts that neither saw, and
"back" is the share of the lost nats that a way gives back. Texts are files with `<|endoftext|>` between stories.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.record import Result, keep
from benchmarks.subjects import subject
from surgery_core import LayerPlan, operate, stitch

PASSAGE = 256
"""Tokens of a passage at most."""
MOST_OF_A_STORY = 8
"""Passages of one story at most; the first of every story come before any second."""


@dataclass(frozen=True)
class Pairs:
    """All tokens of the texts: what the MLP returns, what else leaves its layer, and the state that is wanted."""

    mlp: torch.Tensor
    rest: torch.Tensor
    wanted: torch.Tensor


def passages(path: Path, tokenizer: Any, tokens: int) -> list[str]:
    """Return passages of whole paragraphs until they have so many tokens, from stories all over the file."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    stories = data.decode("utf-8").split("<|endoftext|>")
    random.Random(0).shuffle(stories)
    found: list[str] = []
    left = tokens
    for turn in range(MOST_OF_A_STORY):
        for story in stories:
            passage = next(islice(_joined(story, tokenizer), turn, None), "")
            size = len(tokenizer(passage)["input_ids"])
            if size > left:
                return found
            found += [passage] if passage else []
            left -= size
    return found


def _joined(story: str, tokenizer: Any) -> Iterator[str]:
    held, size = "", 0
    for paragraph in filter(None, (part.strip() for part in story.split("\n\n"))):
        more = len(tokenizer(paragraph)["input_ids"]) + 2
        if held and size + more > PASSAGE:
            yield held
            held, size = "", 0
        if more <= PASSAGE:
            held, size = f"{held}\n\n{paragraph}" if held else paragraph, size + more
    if size > PASSAGE // 4:
        yield held


def batches(tokenizer: Any, texts: Sequence[str]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield padded batches of eight, ids and mask, texts of about one length together."""
    ids = sorted((tokenizer(text)["input_ids"] for text in texts), key=len)
    for at in range(0, len(ids), 8):
        some = ids[at : at + 8]
        width = max(map(len, some))
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in some])
        yield torch.tensor([row + [0] * (width - len(row)) for row in some]), mask


def mean_loss(model: Any, tokenizer: Any, texts: Sequence[str]) -> float:
    """Return the mean loss a token in nats, by plain transformers."""
    total, count = 0.0, 0
    with torch.inference_mode():
        for ids, mask in batches(tokenizer, texts):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            scored = mask[:, 1:].bool()
            total += float(nn.functional.cross_entropy(logits[scored], ids[:, 1:][scored], reduction="sum"))
            count += int(scored.sum())
    return total / count


def replace_me(model: Any, tokenizer: Any, texts: Sequence[str], begin: int, end: int, *, cosine: bool) -> torch.Tensor:
    """Return the weight `[d_model, width]` that takes the place of the last projection before the cut."""
    layers, mlp = model.model.layers, model.model.layers[begin - 1].mlp
    seen: dict[str, list[torch.Tensor]] = {"mlp": [], "left": [], "wanted": []}

    def keeping(name: str) -> Callable[..., None]:
        return lambda module, args, output: seen[name].append(output if torch.is_tensor(output) else output[0])

    hooks = [
        module.register_forward_hook(keeping(name))
        for name, module in (("mlp", mlp), ("left", layers[begin - 1]), ("wanted", layers[end - 1]))
    ]
    real: list[torch.Tensor] = []
    with torch.inference_mode():
        for ids, mask in batches(tokenizer, texts):
            model(input_ids=ids, attention_mask=mask, use_cache=False)
            real.append(mask.bool())
    for hook in hooks:
        hook.remove()
    flat = {name: torch.cat([s[m] for s, m in zip(states, real, strict=True)]) for name, states in seen.items()}
    pairs = Pairs(flat["mlp"], flat["left"] - flat["mlp"], flat["wanted"])
    matrix = by_cosine(pairs) if cosine else least_squares(pairs)
    return (mlp.down_proj.weight.double().T @ matrix).T.float()


def least_squares(pairs: Pairs) -> torch.Tensor:
    """Return the matrix T that brings M·T + Y closest to L, in double precision."""
    mlp, lacking = pairs.mlp.double(), (pairs.wanted - pairs.rest).double()
    return torch.linalg.lstsq(mlp.T @ mlp, mlp.T @ lacking).solution


def by_cosine(pairs: Pairs) -> torch.Tensor:
    """Return the matrix T that turns M·T + Y most towards L."""
    matrix = nn.Parameter(torch.eye(pairs.mlp.shape[1]))
    optimiser, generator = torch.optim.Adam([matrix], lr=1e-4), torch.Generator().manual_seed(0)
    mlp, rest, wanted = (states.clone() for states in (pairs.mlp, pairs.rest, pairs.wanted))
    for _ in range(10):
        for some in torch.randperm(len(mlp), generator=generator).split(1024):
            turned = nn.functional.cosine_similarity(mlp[some] @ matrix + rest[some], wanted[some], dim=-1)
            optimiser.zero_grad()
            (1 - turned).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return matrix.detach().double()


def with_weight(model: Any, begin: int, end: int, weight: torch.Tensor) -> Any:
    """Return the model without layers `begin` to `end - 1`, and with another weight before them."""
    plan = LayerPlan.identity(len(model.model.layers)).delete(range(begin, end))
    view = operate(model, plan)
    layer = copy.deepcopy(view.model.layers[begin - 1])
    layer.mlp.down_proj.weight = nn.Parameter(weight, requires_grad=False)
    view.model.layers[begin - 1] = layer
    return view


def timed(call: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """Return what a call returns, its seconds, and those of a processor: on a machine with other work these compare."""
    began, used = time.perf_counter(), time.process_time()
    found = call()
    return found, (time.perf_counter() - began, time.process_time() - used)


def main() -> None:
    """Measure blocks of one model and keep a line for each way."""
    arguments = _arguments()
    about = subject(arguments.subject)
    loaded = about.load()
    torch.set_num_threads(arguments.threads)
    model, tokenizer = loaded.model, loaded.tokenizer
    texts = passages(arguments.calibration, tokenizer, arguments.tokens)
    held = passages(arguments.held, tokenizer, arguments.judged)
    base = mean_loss(model, tokenizer, held)
    last = about.n_layers - arguments.length
    starts = range(1, last + 1) if arguments.starts is None else map(int, arguments.starts.split(","))
    print(
        f"{about.name}: {len(texts)} texts, {sum(len(tokenizer(text)['input_ids']) for text in texts):,} tokens; base {base:.4f}"
    )
    for begin in starts:
        _block(arguments, about.name, loaded, texts, held, base, begin)


def _block(
    arguments: argparse.Namespace, name: str, loaded: Any, texts: list[str], held: list[str], base: float, begin: int
) -> None:  # fmt: skip
    model, tokenizer, end = loaded.model, loaded.tokenizer, begin + arguments.length
    plan = LayerPlan.identity(len(model.model.layers)).delete(range(begin, end))
    cut = mean_loss(operate(model, plan), tokenizer, held)
    what = f"{name} without layers {begin} to {end - 1}, {len(texts)} texts: nats {base:.3f}, cut {cut:.3f}"
    load = os.getloadavg()[0]

    def line(how: str, view: Any, seconds: tuple[float, float]) -> Result:
        after = mean_loss(view, tokenizer, held)
        back = f"{how}: {after:.3f}, back {(cut - after) / (cut - base):.1%}; {seconds[1]:.2f} s of processors (load {load:.1f})"
        return Result(what, back, (seconds[0],), 0)

    lines = [line("stitch", *timed(lambda: stitch(model, plan, tokenizer, texts)))]
    for cosine in (False, True)[: 1 + arguments.cosine]:
        weight, seconds = timed(lambda cosine=cosine: replace_me(model, tokenizer, texts, begin, end, cosine=cosine))
        how = "ReplaceMe by cosine" if cosine else "ReplaceMe by least squares"
        lines.append(line(how, with_weight(model, begin, end, weight), seconds))
    if arguments.keep:
        keep(*lines)
    else:
        print("\n".join(one.line() for one in lines), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("subject", nargs="?", default="fable", choices=("fable", "smollm2"))
    parser.add_argument("--calibration", type=Path, required=True, help="texts to fit")
    parser.add_argument("--held", type=Path, required=True, help="texts to judge by")
    parser.add_argument("--tokens", type=int, default=20_000, help="of calibration")
    parser.add_argument("--judged", type=int, default=8_000, help="tokens to judge by")
    parser.add_argument("--length", type=int, default=3, help="layers of a block")
    parser.add_argument("--starts", help="first layers, with commas (default: every block but the front one)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cosine", action="store_true", help="also by cosine distance")
    parser.add_argument("--keep", action="store_true", help="add the lines to RESULTS.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()

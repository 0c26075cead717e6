"""SmolLM2-135M-Instruct beside plain transformers: opening, an edit's figures, text, a sweep, the lens.

    python -m benchmarks.real_model [part ...]     parts: open, first, gguf, decoding, edit, deletions, text, prompt, sweep, lens, proof;
                                               by default all

Each pair is timed in turn in this process and run, so that a machine whose speed drifts slows both.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

import surgery_core as sc
from benchmarks.record import Result, keep
from surgery_core.lenses.reading import LogitLens
from tests.real_model import real_folder, real_gguf

PLAN = "0-14,16-29"
PROMPT = "The king had three sons, and the youngest was called"
TEXTS = sc.bundled_texts()


@cache
def loaded() -> Any:
    return sc.load_model(str(real_folder()))


@cache
def plain() -> tuple[Any, Any]:
    """Return the model as plain transformers has it, with a layer taken out of its list."""
    from transformers import AutoModelForCausalLM

    base, shorter = (
        AutoModelForCausalLM.from_pretrained(real_folder(), dtype=torch.float32).eval().requires_grad_(False)
        for _ in range(2)
    )
    del shorter.model.layers[15]
    for index, layer in enumerate(shorter.model.layers):
        layer.self_attn.layer_idx = index
    shorter.config.num_hidden_layers = 29
    return base, shorter


def losses(model: Any) -> float:
    """Return the summed loss over the texts, one after the other, as a script would."""
    total = 0.0
    with torch.inference_mode():
        for text in TEXTS:
            ids = torch.tensor([loaded().tokenizer(text.text).input_ids])
            total += float(model(ids, labels=ids, use_cache=False).loss) * (ids.shape[1] - 1)
    return total


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def pair(what: str, ours: Callable[[], object], theirs: Callable[[], object], runs: int = 3) -> None:
    """Time both ways in turn and keep the medians."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for call in (ours, theirs):
        call()
    for _ in range(runs):
        for times, call in zip(seconds, (ours, theirs), strict=True):
            times.append(seconds_of(call))
    keep(
        Result(f"SmolLM2-135M, float32: {what}", "this package", tuple(seconds[0]), 0),
        Result(f"SmolLM2-135M, float32: {what}", "plain transformers", tuple(seconds[1]), 0),
    )


def opening() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def script() -> object:
        AutoTokenizer.from_pretrained(real_folder())
        return AutoModelForCausalLM.from_pretrained(real_folder(), dtype=torch.float32).eval()

    pair("open the checkpoint", lambda: sc.load_model(str(real_folder())), script)


def first() -> None:
    """Time how long it takes from the files to the perplexity of the texts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def ours() -> object:
        opened = sc.load_model(str(real_folder()))
        return sc.score(opened.model, opened.tokenizer, TEXTS)

    def script() -> object:
        AutoTokenizer.from_pretrained(real_folder())
        return losses(AutoModelForCausalLM.from_pretrained(real_folder(), dtype=torch.float32).eval())

    pair("from the checkpoint's files to the first figure, 12 texts", ours, script)


def gguf() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    path = real_gguf()

    def script() -> object:
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        return AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        ).eval()

    pair("open the GGUF file", lambda: sc.load_model(str(path)), script, runs=2)


def decoding() -> None:
    """Time what a token costs at least: every weight multiplied once, and read once, on two threads."""
    model, n = plain()[0], 64
    weights = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "embed" not in name]
    weights.append(model.lm_head.weight)
    rows = {weight.shape[1]: torch.randn(1, weight.shape[1]) for weight in weights}
    size = sum(weight.numel() * 4 for weight in weights) / 1e9

    def multiplied() -> None:
        with torch.inference_mode():
            for _ in range(n):
                for weight in weights:
                    torch.nn.functional.linear(rows[weight.shape[1]], weight)

    multiplied()
    times = tuple(seconds_of(multiplied) for _ in range(5))
    what = f"SmolLM2-135M, float32: {n} tokens, every weight multiplied once ({size:.2f} GB a token)"
    keep(Result(what, "the least that a token can cost", times, 0))


def edit() -> None:
    model, tokenizer = loaded().model, loaded().tokenizer
    base = sc.reference(model, tokenizer, TEXTS)
    pair(
        "the after side of an edit, 12 texts (ours with KL and agreement)",
        lambda: sc.compare(base, sc.operate(model, PLAN), tokenizer, TEXTS),
        lambda: losses(plain()[1]),
    )


def deletions(rounds: int = 3) -> None:
    """Time the after side of every single deletion, as edits come one after the other, and plain runs of the same.

    Each is timed some times, and the medians are kept: a machine of others stands still for seconds now and then.
    """
    model, tokenizer = loaded().model, loaded().tokenizer
    base, own = sc.reference(model, tokenizer, TEXTS), plain()[0]
    layers = list(own.model.layers)
    ours, theirs = [], []
    for gone in range(len(layers)):
        view = sc.operate(model, sc.LayerPlan.identity(len(layers)).delete([gone]))
        own.model.layers = torch.nn.ModuleList(layer for at, layer in enumerate(layers) if at != gone)
        own.config.num_hidden_layers = len(layers) - 1
        seconds = [
            (seconds_of(lambda view=view: sc.compare(base, view, tokenizer, TEXTS)), seconds_of(lambda: losses(own)))
            for _ in range(rounds)
        ]
        for times, all_of_one in zip((ours, theirs), zip(*seconds, strict=True), strict=True):
            times.append(statistics.median(all_of_one))
    own.model.layers, own.config.num_hidden_layers = torch.nn.ModuleList(layers), len(layers)
    what = "the after side of each of 30 deletions, 12 texts (ours with KL and agreement)"
    share = sum(ours) / sum(theirs)
    keep(
        Result(f"SmolLM2-135M, float32: {what}", f"this package (on average {share:.3f} of plain)", tuple(ours), 0),
        Result(f"SmolLM2-135M, float32: {what}", "plain transformers", tuple(theirs), 0),
    )


def text() -> None:
    model, tokenizer = sc.operate(loaded().model, PLAN), loaded().tokenizer
    ids = torch.tensor([tokenizer(PROMPT).input_ids])
    pair(
        "64 greedy tokens",
        lambda: sc.complete(model, tokenizer, PROMPT, sc.GenerationSettings(max_new_tokens=64)),
        lambda: plain()[1].generate(ids, do_sample=False, max_new_tokens=64),
    )


def prompt(n: int = 1000) -> None:
    """Time the first token of the second side behind a long prompt, for layers deleted early, in the middle and late.

    It is the time of the processor, on one thread: what else runs on the machine does not count.
    """
    torch.set_num_threads(1)
    model, tokenizer = loaded().model, loaded().tokenizer
    ids = tokenizer(" ".join(one.text for one in TEXTS)).input_ids[:n]
    written, one = tokenizer.decode(ids), sc.GenerationSettings(max_new_tokens=1)
    shared = sc.SharedPrompt(model)
    sc.complete(model, tokenizer, written, one, shared=shared)
    for gone in (5, 15, 25):
        view = sc.operate(model, sc.LayerPlan.identity(30).delete([gone]))
        ways = {
            "reads on from the first layer that differs": partial(sc.complete, view, shared=shared),
            "reads by itself": partial(sc.complete, view),
        }
        times: dict[str, list[float]] = {how: [] for how in ways}
        for _ in range(3):
            for how, first_token in ways.items():
                began = time.thread_time()
                first_token(tokenizer, written, one)
                times[how].append(time.thread_time() - began)
        what = f"first token behind a prompt of {len(ids):,} tokens, without layer {gone} (processor, one thread)"
        keep(*(Result(f"SmolLM2-135M, float32: {what}", how, tuple(some), 0) for how, some in times.items()))


def sweep() -> None:
    some = TEXTS[:3]
    model, tokenizer = loaded().model, loaded().tokenizer
    ids = [torch.tensor([tokenizer(one.text).input_ids]) for one in some]
    base, _ = plain()

    def loop() -> None:
        own = list(base.model.layers)
        with torch.inference_mode():
            for gone in range(len(own)):
                base.model.layers = torch.nn.ModuleList(layer for at, layer in enumerate(own) if at != gone)
                base.config.num_hidden_layers = len(own) - 1
                for one in ids:
                    base(one, labels=one, use_cache=False)
        base.model.layers, base.config.num_hidden_layers = torch.nn.ModuleList(own), len(own)

    pair(
        "delete each of 30 layers, 3 texts (ours with KL, agreement and proofs)",
        lambda: list(sc.sweep(model, tokenizer, some, "delete")),
        loop,
        runs=1,
    )


def lens() -> None:
    model, tokenizer = loaded().model, loaded().tokenizer
    ids = torch.tensor([tokenizer(TEXTS[0].text).input_ids])
    base, _ = plain()

    def script() -> None:
        with torch.inference_mode():
            output = base(ids, output_hidden_states=True)
            for state in output.hidden_states[:-1]:
                base.lm_head(base.model.norm(state)).log_softmax(-1).topk(10)

    pair(
        f"logit lens, {ids.shape[1]} tokens at 31 rows (ours with every statistic)",
        lambda: sc.read_lens(LogitLens(model), model, tokenizer, TEXTS[0]),
        script,
    )


def proof() -> None:
    model, tokenizer = loaded().model, loaded().tokenizer
    times = tuple(seconds_of(lambda: sc.prove(model, tokenizer, PLAN)) for _ in range(3))
    keep(Result("SmolLM2-135M, float32: prove one plan", "this package", times, 0))


PARTS = {
    "open": opening,
    "first": first,
    "gguf": gguf,
    "decoding": decoding,
    "edit": edit,
    "deletions": deletions,
    "text": text,
    "prompt": prompt,
    "sweep": sweep,
    "lens": lens,
    "proof": proof,
}

if __name__ == "__main__":
    torch.set_num_threads(2)
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()

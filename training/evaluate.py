"""Measure an exported model: python -m training.evaluate MODEL_FOLDER HELDOUT.gz [OUT.json].

Held-out bits per byte, perplexity without each layer, skill accuracies and greedy samples.
"""

import json
import math
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from surgery_core.measure.skills import score_skills
from training.tokenizer import stories

WINDOW, STRIDE, SAMPLE = 512, 256, 12
PROMPTS = ("Once upon a time there was", "The little fox", '"Where are you going?"')


def story_windows(ids: Tensor, window: int, stride: int) -> list[tuple[Tensor, int]]:
    """Cut `[seq]` into windows and say from which target on each is scored, so that each token is once.

    After the first window every token has at least `window - stride` tokens before it.
    """
    last = len(ids) - 1
    cuts, done = [], 0
    while done < last:
        stop = min(last, max(window, done + stride))
        start = max(0, stop - window)
        cuts.append((ids[start : stop + 1], done - start))
        done = stop
    return cuts


@torch.no_grad()
def story_nats(model: PreTrainedModel, ids: Tensor, window: int = WINDOW, stride: int = STRIDE) -> float:
    """Return the summed negative log-likelihood of `ids[1:]` `[seq]` in nats."""
    total = 0.0
    for part, first in story_windows(ids, window, stride):
        logits = model(part[None, :-1], use_cache=False).logits[0, first:].float()
        total += float(nn.functional.cross_entropy(logits, part[first + 1 :], reduction="sum"))
    return total


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> Tensor:
    """Return the end-of-text token and the text's tokens, so that the first one is scored too."""
    return torch.tensor([tokenizer.eos_token_id, *tokenizer(text, verbose=False)["input_ids"]])


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], **cut: int
) -> dict[str, float]:
    """Return bits per byte of the original UTF-8 and perplexity per token."""
    rows = [encode(tokenizer, text) for text in texts]
    nats = sum(story_nats(model, row, **cut) for row in rows)
    tokens, size = sum(len(row) - 1 for row in rows), sum(len(text.encode()) for text in texts)
    bits_per_byte, perplexity = nats / math.log(2) / size, math.exp(nats / tokens)
    return {"bits_per_byte": bits_per_byte, "perplexity": perplexity, "tokens": tokens, "bytes": size}


def without_each_layer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[float]:
    """Return the perplexity with each layer left out in turn; the model is whole again afterwards."""
    layers = model.model.layers
    table = []
    for gone in range(len(layers)):
        model.model.layers = nn.ModuleList(layer for index, layer in enumerate(layers) if index != gone)
        table.append(measure(model, tokenizer, texts)["perplexity"])
    model.model.layers = layers
    return table


def continue_greedily(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, count: int = 60) -> str:
    """Return the prompt with `count` most probable tokens after it."""
    inputs = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=count, min_new_tokens=count, do_sample=False)
    return tokenizer.decode(out[0])


def report(folder: str, heldout: str) -> dict[str, object]:
    """Measure everything, in float32."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = list(stories(Path(heldout)))
    sample = texts[:: max(1, len(texts) // SAMPLE)]
    return {
        "held_out": measure(model, tokenizer, texts),
        "sample": measure(model, tokenizer, sample),
        "perplexity_without_layer": without_each_layer(model, tokenizer, sample),
        "skills": {r.skill.name: (r.accuracy, r.margin) for r in score_skills(model, tokenizer)},
        "samples": [continue_greedily(model, tokenizer, prompt) for prompt in PROMPTS],
    }


def main(folder: str, heldout: str, out: str = "/dev/stdout") -> None:
    """Write the report as JSON."""
    Path(out).write_text(json.dumps(report(folder, heldout), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Models of six layers for studies, and plain ways to run them that know nothing of surgery."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from surgery_core.studies.every import study_of
from surgery_core.studies.finding import Finding
from surgery_core.studies.study import StudySetup, settled
from surgery_core.text import Text
from tests.tiny import build_model, build_tokenizer

N = 6
SIX: dict[str, dict[str, int]] = {"llama": {"num_hidden_layers": N}, "gpt2": {"n_layer": N}}
tokenizer = cache(build_tokenizer)

TEXTS = tuple(
    Text(title, text)
    for title, text in {
        "Fox": "The fox said: how do you do?",
        "Door": "The wolf came to the door, and knocked.",
        "Hen": "A hen.",
        "Snow": "It was a dark night and snow fell on the hill.",
        "Crow": "The crow saw two wells.",
        "Frog": "Rain, said the frog, is best.",
        "Mill": "By the mill there stood a kitchen.",
        "Sea": "They lived near the sea in a small house.",
    }.items()
)


@cache
def six(family: str = "llama", seed: int = 0) -> Any:
    """Return a random model of six layers; the same arguments make the same weights."""
    return build_model(family, seed=seed, **SIX[family])


def built_anew(family: str = "llama", seed: int = 0) -> Any:
    """Return another model with the same weights, to be taken apart by hand."""
    return build_model(family, seed=seed, **SIX[family])


def layers_of(model: Any) -> Any:
    """Return the model's own list of layers."""
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


def states_by_hand(family: str, order: Sequence[int], ids: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Return what enters the first layer and what leaves each, `[len(order) + 1, seq, d_model]`, in float64.

    A model is built, its list of layers is replaced by `order`, and plain hooks look on while it runs without a cache.
    """
    model = built_anew(family, seed)
    own = layers_of(model)
    chosen = nn.ModuleList([own[layer] for layer in order])
    if hasattr(model, "transformer"):
        model.transformer.h = chosen
    else:
        model.model.layers, model.config.num_hidden_layers = chosen, len(order)
    seen: list[torch.Tensor] = []
    handles = [chosen[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))]
    for layer in set(chosen):
        handles.append(layer.register_forward_hook(lambda module, args, output: seen.append(_state(output).clone())))
    with torch.no_grad():
        model(torch.tensor([list(ids)]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack([state[0] for state in seen]).double()


def _state(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def logits_by_hand(family: str, order: Sequence[int], ids: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Return logits `[seq, vocab]` in float64 of a model whose list of layers is `order`."""
    model = built_anew(family, seed)
    return reordered_logits(model, order, ids)


def reordered_logits(model: Any, order: Sequence[int], ids: Any) -> torch.Tensor:
    """Return logits of a model of which the layers of `order` run, put into its own list for a moment.

    `[seq, vocab]` for the ids of one text, `[batch, seq, vocab]` for those of several of one length.
    """
    own = layers_of(model)
    chosen = nn.ModuleList([own[layer] for layer in order])
    holder = model.transformer if hasattr(model, "transformer") else model.model
    name, depth = ("h" if hasattr(model, "transformer") else "layers"), model.config.num_hidden_layers
    setattr(holder, name, chosen)
    model.config.num_hidden_layers = len(order)
    try:
        with torch.no_grad():
            several = torch.as_tensor(ids)
            found = model(several.reshape(-1, several.shape[-1]), use_cache=False).logits.double()
            return found if several.dim() > 1 else found[0]
    finally:
        setattr(holder, name, own)
        model.config.num_hidden_layers = depth


@cache
def losses_by_hand(family: str, gone: tuple[int, ...]) -> np.ndarray:
    """Return the summed loss in nats of each of `TEXTS` without some layers, and below it the scored tokens."""
    model, found = built_anew(family), []
    for text in TEXTS:
        ids = tokenizer()(text.text)["input_ids"]
        logp = reordered_logits(model, [layer for layer in range(N) if layer not in gone], ids).log_softmax(-1)
        found.append((-sum(float(logp[at, token]) for at, token in enumerate(ids[1:])), len(ids) - 1))
    return np.array(found).T


def run_study(key: str, model: Any, texts: Sequence[Text] = TEXTS, /, **more: Any) -> Finding:
    """Run a study with some of its options set."""
    study = study_of(key)
    given = {name: more.pop(name) for name in list(more) if name in study.options}
    return study.run(StudySetup(model, more.pop("tokenizer", tokenizer()), tuple(texts), settled(study, given), **more))


def broken(family: str = "llama") -> Any:
    """Return a model of which one weight of a middle layer's MLP is not a number.

    One of its attention's can be lost without a trace: torch's kernel for CPUs takes a maximum that passes over NaN.
    """
    model = built_anew(family)
    with torch.no_grad():
        next(layers_of(model)[3].mlp.parameters()).view(-1)[0] = float("nan")
    return model

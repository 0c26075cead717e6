"""What a model writes while two coordinates of a state change places, by plain transformers and a hook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def written_by_hand(
    folder: Path, order: list[int], slot: int, matrix: torch.Tensor, words: tuple[str, str], text: str, new: int,
    strength: float = 1.0, where: list[int] | None = None,
) -> str:  # fmt: skip
    """Return what a model built by hand writes greedily, without a cache, while a hook exchanges two coordinates.

    Args:
        folder: of a Llama's checkpoint.
        order: its layers, in the order in which they run.
        slot: whose output is changed.
        matrix: the Jacobian lens's, `[d_model, d_model]`.
        words: two tokens.
        text: what is continued.
        new: by how many tokens.
        strength: 1 exchanges, 0 leaves all as it is.
        where: positions that are changed; None for all.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.model.layers = torch.nn.ModuleList([model.model.layers[at] for at in order])
    model.config.num_hidden_layers = len(order)
    source, target = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words)
    plane = (model.lm_head.weight[[source, target]].double() @ matrix.double()).T

    def exchanged(module: Any, args: Any, output: Any) -> Any:
        state = output if isinstance(output, torch.Tensor) else output[0]
        flat = state.double().reshape(-1, state.shape[-1])
        at = torch.linalg.lstsq(plane, flat.T).solution.T
        moved = (flat + strength * (at.flip(-1) - at) @ plane.T).reshape(state.shape).to(state)
        if where is not None:
            kept = [at for at in range(state.shape[1]) if at not in where]
            moved[:, kept] = state[:, kept]
        return moved if isinstance(output, torch.Tensor) else (moved, *output[1:])

    model.model.layers[slot].register_forward_hook(exchanged)
    ids = tokenizer(text)["input_ids"]
    start = len(tokenizer.decode(ids))
    with torch.no_grad():
        for _ in range(new):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return str(tokenizer.decode(ids))[start:]

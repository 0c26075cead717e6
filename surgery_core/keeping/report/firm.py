"""How much of a greedily written text any machine repeats: up to the first token that hardly leads the next one."""

from __future__ import annotations

from typing import Any

import torch

from surgery_core.measure.generation import Generation, prompt_ids
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.surgery.anatomy import device_of


def firm_beginning(
    model: Any, tokenizer: Any, written: Generation, settings: GenerationSettings, lead: float
) -> int:  # fmt: skip
    """Return how many characters of a continuation do not hang on rounding.

    The text is read once more, all at once; at each token the likeliest one must be the one that stands there, and lead.
    Where the tokenizer reads the text as other tokens than were written, the rest is left open too.

    Args:
        model, tokenizer: what wrote it.
        written: the continuation.
        settings: how it was written; of a sampled one nothing is firm.
        lead: by how much the likeliest logit has to be above the next one.

    Returns:
        0 to the number of its characters.
    """
    if settings.temperature > 0 or not written.text:
        return 0
    before = prompt_ids(model, tokenizer, written.prompt, settings)
    after = tokenizer(written.text, add_special_tokens=False)["input_ids"][: settings.max_new_tokens]
    if not after:
        return 0
    with torch.no_grad():
        logits = model(torch.tensor([before + after], device=device_of(model))).logits[0, len(before) - 1 : -1].float()
    best = logits.topk(2).values.cpu()
    sure = (best[:, 0] - best[:, 1] > lead) & (logits.argmax(-1).cpu() == torch.tensor(after))
    firm = int(sure.long().cumprod(0).sum())
    beginning = tokenizer.decode(after[:firm], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    pairs = enumerate(zip(written.text, beginning, strict=False))
    shorter = min(len(written.text), len(beginning))
    return next((at for at, (one, other) in pairs if one != other), shorter)

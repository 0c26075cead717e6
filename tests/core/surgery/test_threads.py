"""Many threads with views of one shared base: every result is the one that it has alone, to the bit."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from surgery_core.errors import RefusedPlanError
from surgery_core.plans.plan import LayerPlan
from surgery_core.plans.slots import Layer, Slot
from surgery_core.surgery.anatomy import find_halves, find_layers
from surgery_core.surgery.view import operate
from tests.core.support import zoo
from tests.core.support.families import greedy, left_padded

THREADS = 8
PLANS = 200
EVERY = 10
"""One plan in so many also generates with its cache."""


def state_hash(model: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def random_slot(choose: random.Random, has_halves: bool) -> Slot:
    """Return a plain layer mostly, at times a scaled one, a half, two side by side, or two in a damped block."""
    index, kind = choose.randrange(4), choose.random()
    if kind < 0.1:
        return Slot((Layer(index, scale=choose.choice([0.5, -1.0, 2.0])),))
    if kind < 0.2 and has_halves:
        return Slot((Layer(index, part=choose.choice(["attn", "mlp"])),))
    if kind < 0.3:
        return Slot.of(index, choose.randrange(4))
    if kind < 0.4:
        return Slot((Layer(index), Layer(choose.randrange(4))), 0.5)
    return Slot.of(index)


def random_plans(model: Any, count: int) -> list[LayerPlan]:
    """Return plans that this model can run."""
    choose, found = random.Random(7), []
    has_halves = all(None not in find_halves(layer) for layer in find_layers(model)[1])
    while len(found) < count:
        plan = LayerPlan(tuple(random_slot(choose, has_halves) for _ in range(choose.randrange(1, 7))), 4)
        try:
            operate(model, plan)
        except RefusedPlanError:
            continue
        found.append(plan)
    return found


@pytest.mark.parametrize("model_type", ["mixtral", "jamba", "gemma3n_text", "gpt_neox", "qwen3_next"])
def test_eight_threads_give_what_one_gives_and_leave_the_base_alone(model_type: str) -> None:
    base = zoo.build(model_type)
    before = state_hash(base)
    plans = random_plans(base, PLANS)
    batch = left_padded()

    def result(number: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        view = operate(base, plans[number])
        with torch.inference_mode():
            logits = view(**batch, use_cache=False).logits
        return logits, greedy(view, batch, 3) if number % EVERY == 0 else None

    alone = [result(number) for number in range(PLANS)]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(result, range(PLANS)))
    for (logits, text), (other_logits, other_text) in zip(alone, together, strict=True):
        assert torch.equal(logits, other_logits)
        assert text is None or torch.equal(text, other_text)
    assert state_hash(base) == before


def test_one_view_of_several_layers_in_a_slot_is_run_by_eight_threads_at_once() -> None:
    view = operate(zoo.build("gpt_neox"), "0,[1-2]*0.5x2,(1|3),[3,0]*0.25")
    texts = [torch.randint(3, 90, (1, size), generator=torch.Generator().manual_seed(size)) for size in range(4, 44)]

    def logits(ids: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = view(ids, use_cache=False).logits
        return found

    alone = [logits(ids) for ids in texts]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(logits, texts))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
